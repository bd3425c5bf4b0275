"""Long texts in overlapping windows, of which each token is taken once: from the window in which it sees most."""

from __future__ import annotations

from typing import NamedTuple


class Window(NamedTuple):
    """Tokens [start, stop) are read; of these, [first, last) are taken."""

    start: int
    stop: int
    first: int
    last: int


def cut(n: int, size: int, overlap: int, *, causal: bool) -> list[Window]:
    """Windows of at most `size` tokens over `n`, each sharing `overlap` tokens with the next; 0 <= overlap < size.

    Every token is taken from exactly one. A causal reader sees what comes before: a token is taken from the first
    window that holds it, where most comes before. Other readers see both sides: an overlap is cut in its middle,
    which leaves every token as far from the nearer end of its window as can be.
    """
    if n <= 0:
        return []
    starts = list(range(0, max(1, n - overlap), size - overlap))
    stops = [min(start + size, n) for start in starts]
    # Between a window and the next the tokens from `start` of the next to `stop` of this one are in both.
    ends = [stop if causal else (start + stop) // 2 for start, stop in zip(starts[1:], stops[:-1], strict=True)]
    ends.append(n)
    return [
        Window(start, stop, first, last)
        for start, stop, first, last in zip(starts, stops, [0, *ends[:-1]], ends, strict=True)
    ]
