"""Templates of this package, filled so that no text is trusted."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import jinja2

#: Characters that are not seen but act: controls, and marks that reorder the text around them.
_HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(value: Any) -> Any:
    """Text with each hidden character as its Unicode number; carriage returns, which are only line ends, go."""
    if not isinstance(value, str) or hasattr(value, "__html__"):
        return value
    text = value.replace("\r\n", "\n").replace("\r", "\n")
    return _HIDDEN.sub(lambda found: f"⟨U+{ord(found[0]):04X}⟩", text)


@cache
def environment() -> jinja2.Environment:
    """Where `templates/` are filled: every value is escaped, and made visible where it is hidden."""
    import jinja2  # noqa: PLC0415

    return jinja2.Environment(
        loader=jinja2.PackageLoader("saelens_data", "templates"),
        autoescape=True,
        finalize=visible,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
