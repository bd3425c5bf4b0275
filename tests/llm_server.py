"""A real HTTP server that answers as an OpenAI-compatible endpoint does, well or badly, on the loopback interface alone.

It labels by the commonest word between the marks, judges by looking for the label's words, bills every call that it
works on, and fails as it is told: `faults` names for each request, by its number, what goes wrong.
"""

from __future__ import annotations

import json
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

WORD = re.compile(r"[^\W\d_]{3,}")
#: What can go wrong, as a fault is named.
FAULTS = (
    "429", "429 after", "429 date", "500", "503", "drop", "drop late", "truncated body", "not json", "empty", "truncated json",
    "invalid json", "wrong schema", "prose", "refusal", "filter", "no usage", "zero usage", "huge usage", "negative usage",
    "text usage", "missing texts", "slow",
)  # fmt: skip
#: Those whose answer is billed, and lost or of no use.
UNREADABLE = {
    "drop late", "truncated body", "not json", "empty", "truncated json", "invalid json", "wrong schema", "prose", "missing texts",
}  # fmt: skip
#: US dollars per million tokens, read and written.
PRICE = ("2.00", "8.00")


def tokens(text: str) -> int:
    """As a tokenizer counts: a token for about four bytes."""
    return max(1, -(-len(text.encode("utf-8", "surrogatepass")) // 4))


@dataclass
class Served:
    """What one request was, and what it was billed."""

    number: int
    body: dict[str, Any]
    fault: str | None
    read: int = 0
    written: int = 0
    key: str | None = None


@dataclass
class Server:
    """The server's state: how it fails, and all that it served."""

    faults: Callable[[int, dict[str, Any]], str | None] = lambda number, body: None
    answer: Callable[[dict[str, Any]], str] | None = None
    #: Response formats that are refused with status 400.
    refuses: tuple[str, ...] = ()
    #: Parameters that are refused with status 400.
    unknown: tuple[str, ...] = ()
    delay: float = 0.0
    served: list[Served] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def cost(self) -> int:
        """What was billed, in trillionths of a dollar."""
        return sum(s.read * 2_000_000 + s.written * 8_000_000 for s in self.served)

    @property
    def tokens(self) -> int:
        return sum(s.read + s.written for s in self.served)

    def paid(self) -> list[str]:
        """The messages of every call that was billed and whose answer arrived whole and could be read."""
        return [json.dumps(s.body["messages"]) for s in self.served if s.written and s.fault not in UNREADABLE]

    def __enter__(self) -> Server:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # head and body in one packet

            def do_POST(self) -> None:
                server.handle(self)

            def log_message(self, *_: Any) -> None:
                pass

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

            def handle_error(self, *_: Any) -> None:
                pass  # a client that was killed

        self.http = Quiet(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/v1"
        threading.Thread(target=self.http.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.http.shutdown()
        self.http.server_close()

    def handle(self, request: BaseHTTPRequestHandler) -> None:
        length = int(request.headers.get("content-length", 0))
        body = json.loads(request.rfile.read(length))
        with self.lock:
            number = len(self.served)
            fault = self.faults(number, body)
            served = Served(number, body, fault, key=request.headers.get("authorization"))
            self.served.append(served)
        if self.delay:
            time.sleep(self.delay)
        kind = body.get("response_format", {}).get("type", "text")
        if kind in self.refuses:
            send(request, 400, {"error": {"message": f"response_format {kind} is not supported"}})
        elif found := [name for name in self.unknown if name in body]:
            send(request, 400, {"error": {"message": f"Unsupported parameter: '{found[0]}'", "param": found[0]}})
        else:
            self._work(request, served)

    def _work(self, request: BaseHTTPRequestHandler, served: Served) -> None:
        fault, body = served.fault, served.body
        if fault in ("429", "429 after", "429 date"):
            headers = {
                "429 after": {"retry-after": "0.02"},
                "429 date": {"retry-after": "Thu, 01 Jan 2026 00:00:00 GMT"},
            }
            send(request, 429, {"error": {"message": "slow down"}}, headers.get(fault, {}))
        elif fault in ("500", "503"):
            send(request, int(fault), {"error": {"message": "broken"}})
        elif fault == "drop":
            request.close_connection = True
            request.connection.close()
        else:
            self._complete(request, served, body)

    def _complete(self, request: BaseHTTPRequestHandler, served: Served, body: dict[str, Any]) -> None:
        fault, text = served.fault, (self.answer or answer_to)(body)
        limit = body.get("max_tokens") or body.get("max_completion_tokens")
        said = {
            "empty": {"content": ""},
            "truncated json": {"content": text[: len(text) // 2]},
            "invalid json": {"content": text.replace(":", " is ", 1)},
            "wrong schema": {"content": json.dumps({"result": [1, 2, 3]})},
            "prose": {"content": "I am not sure that I understand what you would like me to do here."},
            "refusal": {"content": None, "refusal": "I cannot help with that."},
            "filter": {"content": ""},
        }
        if fault == "missing texts":
            said[fault] = {"content": json.dumps({"answers": json.loads(text).get("answers", [])[1:]})}
        message: dict[str, Any] = {"role": "assistant", "content": text, **said.get(fault or "", {})}
        finish = {"truncated json": "length", "filter": "content_filter"}.get(fault or "", "stop")
        time.sleep({"slow": 0.02, "hang": 0.6}.get(fault or "", 0.0))
        read = sum(tokens(m["content"]) + 4 for m in body["messages"]) + tokens(
            json.dumps(body.get("response_format", ""))
        )
        written = min(tokens(message["content"] or message.get("refusal") or ""), limit)
        with self.lock:
            served.read, served.written = read, written
        usage: Any = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
        wrong = {
            "no usage": None,
            "zero usage": {"prompt_tokens": 0, "completion_tokens": 0},
            "huge usage": {"prompt_tokens": 10**9, "completion_tokens": 10**9},
            "negative usage": {"prompt_tokens": -5, "completion_tokens": -5},
            "text usage": {"prompt_tokens": "many", "completion_tokens": None},
        }
        choice = {"index": 0, "message": message, "finish_reason": finish}
        reply = {"id": "x", "object": "chat.completion", "model": body["model"], "choices": [choice]}
        reply["usage"] = wrong.get(fault or "", usage)
        if fault == "drop late":
            request.close_connection = True
            request.connection.close()
        elif fault == "truncated body":
            send(request, 200, reply, cut=True)
        elif fault == "not json":
            send(request, 200, b"<html>upstream error</html>")
        else:
            send(request, 200, reply)


def send(
    request: BaseHTTPRequestHandler, status: int, body: Any, headers: dict[str, str] | None = None, *, cut: bool = False
) -> None:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request.send_response(status)
    request.send_header("content-type", "application/json")
    request.send_header("content-length", str(len(data)))
    for name, value in (headers or {}).items():
        request.send_header(name, value)
    request.end_headers()
    request.wfile.write(data[: len(data) // 2] if cut else data)
    request.wfile.flush()
    if cut:
        request.close_connection = True
        request.connection.close()


# --- a model of sorts


def answer_to(body: dict[str, Any]) -> str:
    """What the model says: the commonest marked word, or whether any word of the description is in a text."""
    system, user = body["messages"][0]["content"], body["messages"][1]["content"]
    fence = re.search(r"DATA-\w+", system)
    assert fence is not None
    parts = [part.strip("\n") for part in user.split(fence.group())[1::2]]
    if "You name" in system:
        words = Counter(
            w
            for text in parts
            for mark in re.findall(r"<<(.*?)>>", text, re.DOTALL)
            for w in set(WORD.findall(mark.lower()))
        )
        silent = {w for text in parts if "<<" not in text for w in WORD.findall(text.lower())}
        best = [w for w, _ in sorted(words.items(), key=lambda one: (one[0] in silent, -one[1], one[0]))]
        label = best[0] if best else "nothing in common"
        return json.dumps({"explanation": f"The marked words hold '{label}'.", "properties": "one", "label": label})
    label, texts = parts[0], parts[1:]
    wanted = set(WORD.findall(label.lower()))
    marked = "check marks" in system
    answers = []
    for number, text in enumerate(texts, start=1):
        shown = " ".join(re.findall(r"<<(.*?)>>", text, re.DOTALL)) if marked else text
        answers.append({"text": number, "answer": bool(wanted & set(WORD.findall(shown.lower())))})
    return json.dumps({"answers": answers})


if __name__ == "__main__":
    with Server(delay=float(sys.argv[1]) if len(sys.argv) > 1 else 0.0) as found:
        print(found.url, flush=True)
        threading.Event().wait()
