"""Asking a model: an OpenAI-compatible endpoint, or any function from messages to text.

Endpoints differ in what they take. The first calls find out: structured outputs, else JSON mode, else plain text; the
name of the limit on tokens; whether a temperature is allowed. A call refused for one of these is asked another way.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from threading import Lock
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlsplit, urlunsplit

from saelens_data.errors import InputError, MissingExtraError
from saelens_data.labels.retry import PATIENCE, CallError, retry_after

Message = Mapping[str, str]
#: Any function that answers messages of the form {"role": ..., "content": ...} with text.
Complete = Callable[[Sequence[Message]], str]
#: Where OpenAI's own models are.
OPENAI = "https://api.openai.com/v1"
#: Ways of asking for JSON, the strictest first.
_MODES = ("schema", "object", "text")
_UNSUPPORTED = {400, 404, 415, 422, 501}
_MODE_WORDS = ("response_format", "json_schema", "schema", "guided", "grammar")


@dataclass(frozen=True)
class Question:
    """One call: messages, the JSON schema of the answer with its name, and the most tokens that it may take."""

    messages: tuple[Message, ...]
    name: str
    schema: Mapping[str, Any]
    most_written: int

    @property
    def n_bytes(self) -> int:
        """Bytes of what the model reads: a token stands for one byte at least."""
        texts = [message["content"] for message in self.messages]
        return sum(len(text.encode("utf-8", "surrogatepass")) for text in texts) + len(json.dumps(self.schema))


class RawAnswer(NamedTuple):
    """What came back, with the counts of tokens as the endpoint reports them, or None."""

    text: str | None
    refusal: str | None = None
    finish: str | None = None
    read: object = None
    written: object = None
    reasoning: object = None


class Client(Protocol):
    """Answers one question at a time, from several threads."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """What answers depend on besides the question; never a key."""

    def complete(self, question: Question) -> RawAnswer:
        """The answer. Raises CallError where there is none, and InputError where no call will ever have one."""


@dataclass(frozen=True)
class FunctionClient:
    """Any function as a client; what it raises counts as a call without an answer."""

    function: Complete
    identity: Mapping[str, Any]

    def complete(self, question: Question) -> RawAnswer:
        """Ask the function."""
        try:
            text = self.function(question.messages)
        except Exception as error:  # whatever the caller's client raises
            raise CallError(short(f"{type(error).__name__}: {error}"), billed=True) from error
        if not isinstance(text, str):
            raise InputError(f"complete() must return text, and gave {type(text).__name__}")
        return RawAnswer(text)


@dataclass(frozen=True)
class _Dialect:
    """How an endpoint is asked."""

    mode: str = "schema"
    limit: str = "max_tokens"
    temperature: bool = True

    def parameters(self, question: Question, temperature: float) -> dict[str, Any]:
        """What is sent beside the model; messages and schema as they are, through which the library would walk."""
        body: dict[str, Any] = {"messages": [dict(said) for said in question.messages]}
        found: dict[str, Any] = {self.limit: question.most_written, "extra_body": body}
        if self.temperature:
            found["temperature"] = temperature
        if self.mode == "schema":
            schema = {"name": question.name, "strict": True, "schema": dict(question.schema)}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        elif self.mode == "object":
            body["response_format"] = {"type": "json_object"}
        return found

    def other(self, said: str) -> _Dialect | None:
        """Another way for an endpoint that says this of a request; None where it does not complain of the way."""
        if re.search(r"max_(completion_)?tokens", said) and not re.search(r"context|too large|at most", said):
            other = "max_completion_tokens" if self.limit == "max_tokens" else "max_tokens"
            return replace(self, limit=other)
        if "temperature" in said and self.temperature:
            return replace(self, temperature=False)
        if any(word in said for word in _MODE_WORDS) and self.mode != _MODES[-1]:
            return replace(self, mode=_MODES[_MODES.index(self.mode) + 1])
        return None


class OpenAIClient:
    """An OpenAI-compatible endpoint, through `openai` 3.

    `base_url` None: $OPENAI_BASE_URL, else OpenAI's own. `api_key` None: $OPENAI_API_KEY; an endpoint other than
    OpenAI's is asked without one. Raises MissingExtraError without the package, InputError without a key.
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        timeout: float = 120.0,
        temperature: float = 0.0,
    ) -> None:
        if find_spec("openai") is None:
            raise MissingExtraError("asking a language model", "llm")
        import openai  # noqa: PLC0415

        url = endpoint_of(base_url)
        key = usable_key(api_key or os.environ.get("OPENAI_API_KEY") or "")
        if not key and host_of(url) == host_of(OPENAI):
            raise InputError("OPENAI_API_KEY is not set: set it, or name another endpoint with --base-url")
        self._key = key or "none"
        self._client: Any = openai.OpenAI(api_key=self._key, base_url=url, timeout=timeout, max_retries=0)
        self._errors = openai
        self._model, self._temperature = model, temperature
        own = host_of(url) == host_of(OPENAI)
        self._dialect, self._lock = _Dialect(limit="max_completion_tokens" if own else "max_tokens"), Lock()
        self._tried: set[_Dialect] = set()
        self.identity: Mapping[str, Any] = {
            "endpoint": without_secrets(url),
            "model": model,
            "temperature": temperature,
        }

    def complete(self, question: Question) -> RawAnswer:
        """Send one request, once."""
        dialect, errors = self._dialect, self._errors
        try:
            response = self._client.chat.completions.with_raw_response.create(
                model=self._model,
                messages=[],
                **dialect.parameters(question, self._temperature),
            )
            body = response.http_response.content
        except errors.APITimeoutError as error:
            raise CallError("no answer in time", billed=True) from error
        except errors.APIStatusError as error:
            raise self._refused(error, dialect) from error
        except errors.APIConnectionError as error:
            sent = type(error.__cause__).__name__ not in ("ConnectError", "ConnectTimeout")
            reason = self._safe(str(error.__cause__ or error))
            raise CallError(f"the connection failed ({reason})", billed=sent, absent=not sent) from error
        except errors.OpenAIError as error:
            raise CallError(self._safe(str(error)), billed=True) from error
        return _read(body)

    def _refused(self, error: Any, dialect: _Dialect) -> Exception:
        """What a status other than success means."""
        status, said = int(error.status_code), self._safe(_message(error))
        headers = error.response.headers
        after = retry_after(headers.get("retry-after"))
        if status == 429 and getattr(error, "code", None) == "insufficient_quota":
            return InputError(f"the endpoint says that the account is used up: {said}")
        if status in (408, 409, 429) or (status >= 500 and status != 501):
            if after is not None and after > PATIENCE:
                return InputError(f"the endpoint asks to wait {after:,.0f} s ({status}: {said}): run this again then")
            return CallError(f"status {status}: {said}", billed=status not in (409, 429), after=after)
        if status in _UNSUPPORTED and self._another_way(dialect, said.lower()):
            return CallError(f"status {status}: {said}", how=True)
        if status in (401, 402, 403, 404):
            return InputError(self._closed(status, said))
        return CallError(f"status {status}: {said}", again=False)

    def _closed(self, status: int, said: str) -> str:
        """Why no call will be answered, and what to do."""
        where = self.identity["endpoint"]
        if status == 404:
            return (
                f"there is no model '{self._model}' at {where}, or no endpoint: check --model, and --base-url, which "
                f"mostly ends in /v1 (404: {said})"
            )
        what = {401: "the key", 402: "the account"}.get(status, "access")
        return f"the endpoint {where} refuses {what} ({status}: {said})"

    def _another_way(self, dialect: _Dialect, said: str) -> bool:
        """Whether there is another way to ask than `dialect`, which was refused; taken from now on if so."""
        with self._lock:
            if self._dialect != dialect:  # another thread has found one
                return True
            self._tried.add(dialect)
            other = dialect.other(said)
            if other is None or other in self._tried:
                return False
            self._dialect = other
            return True

    def _safe(self, text: str) -> str:
        """One short line without the key."""
        return short(text, self._key)


def short(text: str, key: str = "none") -> str:
    """One short line of what an endpoint says, without the key, and without others that look like one."""
    for secret in (key, os.environ.get("OPENAI_API_KEY", "").strip()):
        if secret not in ("", "none"):
            text = text.replace(secret, "…")
    text = re.sub(r"\bsk-[\w*.-]+", "sk-…", text)
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:200]


def usable_key(key: str) -> str:
    """A key as a header takes it, without space around it. Raises InputError, which does not show it, for others."""
    key = key.strip()
    if not key.isascii() or not key.isprintable() or " " in key:
        raise InputError("OPENAI_API_KEY holds a space, a line break or a letter that no key has: set it anew")
    return key


def endpoint_of(base_url: str | None) -> str:
    """The endpoint to ask. Raises InputError for what is no URL of one."""
    url = (base_url or os.environ.get("OPENAI_BASE_URL") or OPENAI).strip()
    example = "give a URL such as http://localhost:8000/v1"
    try:
        parts = urlsplit(url)
        there = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError as error:  # its port is no number, or a bracket is not closed
        raise InputError(f"the URL of the endpoint cannot be read: {example}") from error
    if not there:
        raise InputError(f"'{without_secrets(url)}' is no endpoint: {example}")
    return url


def host_of(url: str) -> str:
    """The host of a URL."""
    return urlsplit(url).hostname or ""


def without_secrets(url: str) -> str:
    """A URL without user, password and query, any of which may be a key."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", ""))


def _message(error: Any) -> str:
    body = error.body
    said = body.get("message") if isinstance(body, dict) else None
    return str(said or error.message)


def _read(body: bytes) -> RawAnswer:
    """The answer in a response's body. Raises CallError where there is none."""
    try:
        said = json.loads(body)
        choice, usage = said["choices"][0], said.get("usage")
        message = choice["message"]
        text, refusal, finish = message.get("content"), message.get("refusal"), choice.get("finish_reason")
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
        raise CallError("the answer is no chat completion", billed=True, absent=True) from error
    usage = usage if isinstance(usage, dict) else {}
    details = usage.get("completion_tokens_details")
    return RawAnswer(
        text if isinstance(text, str) else None,
        refusal if isinstance(refusal, str) and refusal else None,
        finish if isinstance(finish, str) else None,
        usage.get("prompt_tokens"),
        usage.get("completion_tokens"),
        details.get("reasoning_tokens") if isinstance(details, dict) else None,
    )
