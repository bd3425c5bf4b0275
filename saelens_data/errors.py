"""The errors a user can cause, each one sentence: what was asked, what was found, what to do.

Everything derived from `SaelensDataError` is shown by the command line as one line with exit status 2;
anything else is a defect of this package and keeps its traceback.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class SaelensDataError(Exception):
    """Base of every error that a user can act on."""


class InputError(SaelensDataError):
    """A file, column, id, expression or option that cannot be used as given."""


class StoreError(SaelensDataError):
    """A store that is missing, busy, damaged, incomplete or cannot be written."""


class EncoderError(SaelensDataError):
    """A reader or SAE that cannot be found, read or trusted."""


class MissingExtraError(SaelensDataError):
    """An optional dependency that is not installed; the message holds the pip line."""

    def __init__(self, purpose: str, extra: str) -> None:
        super().__init__(f"{purpose} needs an optional part: pip install 'saelens_data[{extra}]'")


def choices(asked: str, available: Iterable[str], *, most: int = 12) -> str:
    """Return "did you mean 'x'? available: a, b, c" for an unknown name, nearest name first."""
    names = [str(name) for name in available]
    if not names:
        return "none is available"
    near = get_close_matches(asked, names, n=1, cutoff=0.6)
    hint = f"did you mean '{near[0]}'? " if near else ""
    shown = ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
    return f"{hint}available: {shown}"


class EncoderWarning(UserWarning):
    """Something about a reader and its SAE that a user should look at before trusting what they find."""
