"""Pages: a template, its style and its script become one HTML file that needs no network and trusts no text."""

from __future__ import annotations

import os
from base64 import b64encode
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saelens_data.display.markup import environment
from saelens_data.results import write_whole

if TYPE_CHECKING:
    from markupsafe import Markup


def render(name: str, *, like: str | None = None, script_of: str | None = None, **values: Any) -> str:
    """Fill `templates/NAME.html`; its style and script are NAME.css and NAME.js.

    With `like` the style of that page comes first, and the script is its own, or that of `script_of`. Every value is
    escaped, and made visible where it is hidden. The page carries a content security policy that allows this style and
    this script by their hashes and nothing else, whatever the values hold.
    """
    from markupsafe import Markup  # noqa: PLC0415

    style = "".join(_part(f"{page}.css") for page in (like, name) if page)
    script = _part(f"{script_of or like or name}.js")
    policy = (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    template = environment().get_template(f"{name}.html")
    # Both are parts of this package, not values: nothing in them is to be escaped.
    own = {"style": Markup(style), "script": Markup(script)}  # noqa: S704
    return template.render(**values, **own, policy=policy)


def piece(name: str, **values: Any) -> Markup:
    """Fill `templates/NAME.html` as a part of a page, which can be handed to `render`; escaped like that."""
    from markupsafe import Markup  # noqa: PLC0415

    return Markup(environment().get_template(f"{name}.html").render(**values))  # noqa: S704


def encoded(html: str) -> bytes:
    """A page as it is written; half a surrogate pair, which no file may hold, becomes a question mark."""
    return html.encode("utf-8", errors="replace")


def write_page(path: str | os.PathLike[str], html: str) -> Path:
    """Write a page. Raises InputError where it cannot be written."""
    write_whole(Path(path), encoded(html))
    return Path(path)


def _part(file: str) -> str:
    return (files("saelens_data") / "templates" / file).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """As a content security policy names an inline style or script."""
    return f"sha256-{b64encode(sha256(text.encode()).digest()).decode()}"
