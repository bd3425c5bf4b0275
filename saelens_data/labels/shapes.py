"""The shapes of answers, and how they are read: strictly, from whatever a model wraps them in."""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from saelens_data.errors import MissingExtraError

if TYPE_CHECKING:
    from pydantic import BaseModel

T = TypeVar("T", bound="BaseModel")
#: Characters of a label, of an explanation, and of a hypothesis.
LONGEST_LABEL, LONGEST_EXPLANATION, LONGEST_STATEMENT = 120, 1_000, 400
#: Schemas worked out so far: that takes longer than all else that is done for a call.
_SCHEMAS: dict[type[BaseModel], dict[str, Any]] = {}


def require_pydantic() -> None:
    """Raise MissingExtraError where answers could not be read."""
    if find_spec("pydantic") is None:
        raise MissingExtraError("asking a language model", "llm")


@lru_cache(maxsize=1)
def naming_shape() -> type[Any]:
    """`label`, `explanation`, and whether the texts share "one" property or "several"."""
    from pydantic import BaseModel, ConfigDict, Field  # noqa: PLC0415

    class Naming(BaseModel):
        model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)
        explanation: str = Field(min_length=1, max_length=LONGEST_EXPLANATION)
        properties: Literal["one", "several"]
        label: str = Field(min_length=1, max_length=LONGEST_LABEL)

    return Naming


@lru_cache(maxsize=1)
def verdicts_shape() -> type[Any]:
    """`answers`: for each numbered text true, false, or null where it cannot be told."""
    from pydantic import BaseModel, ConfigDict  # noqa: PLC0415

    class Verdict(BaseModel):
        model_config = ConfigDict(extra="forbid", strict=True)
        text: int
        answer: bool | None

    class Verdicts(BaseModel):
        model_config = ConfigDict(extra="forbid")
        answers: list[Verdict]

    return Verdicts


@lru_cache(maxsize=1)
def hypotheses_shape() -> type[Any]:
    """`hypotheses`: a statement, the set in which it is true more often, and the findings that it explains."""
    from pydantic import BaseModel, ConfigDict, Field  # noqa: PLC0415

    class Hypothesis(BaseModel):
        model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)
        statement: str = Field(min_length=1, max_length=LONGEST_STATEMENT)
        set: Literal["first", "second"]
        findings: list[int]

    class Hypotheses(BaseModel):
        model_config = ConfigDict(extra="forbid")
        hypotheses: list[Hypothesis]

    return Hypotheses


def schema_of(shape: type[BaseModel]) -> dict[str, Any]:
    """The JSON schema of a shape, as strict structured outputs take it; the same object each time."""
    if shape not in _SCHEMAS:
        _SCHEMAS[shape] = _strict(shape.model_json_schema())
    return _SCHEMAS[shape]


def _strict(schema: Any) -> Any:
    """Without titles and without limits that not every server knows; every property required."""
    if isinstance(schema, list):
        return [_strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    dropped = {"title", "minLength", "maxLength", "default"}
    found: dict[str, Any] = {}
    for key, value in schema.items():
        if key in ("properties", "$defs"):
            found[key] = {name: _strict(part) for name, part in value.items()}
        elif key not in dropped:
            found[key] = _strict(value)
    if "properties" in found:
        found["required"] = list(found["properties"])
    return found


def read_answer(shape: type[T], text: str) -> T | None:
    """What a text says in this shape; None if it does not. Text around one JSON object is passed over."""
    from pydantic import ValidationError  # noqa: PLC0415

    text = text.rpartition("</think>")[2]  # some servers leave the thoughts in
    first, last = text.find("{"), text.rfind("}")
    if first < 0 or last < first:
        return None
    try:
        return shape.model_validate_json(text[first : last + 1])
    except ValidationError:
        return None
