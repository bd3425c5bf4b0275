"""Numbers in the words of reports and tables: short, and never rounded to a value that they are not."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
#: Below this a double cannot say how small it is.
_TINY = 1e-300
#: Names up to this length are short.
_SHORT = 14


def count(n: int, noun: str) -> str:
    """'1 document', '2,000 documents'."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def share(value: float) -> str:
    """A share in percent, with as many digits as keep it from 0% and 100% unless it is just that."""
    return f"{100 * value:.{_digits(100 * min(value, 1 - value))}f}%"


def share_up(value: float, beyond: float) -> str:
    """A share above `beyond`, rounded up to as many digits as tell the two apart: what it states is enough."""
    digits = _digits(100 * min(value - beyond, value, 1 - value))
    return f"{math.ceil(100 * value * 10**digits - 1e-6) / 10**digits:.{digits}f}%"


def p_in_words(value: float) -> str:
    """A probability: '0.21', '0.034', '2.3 × 10⁻⁹'."""
    if value < _TINY:
        return f"below 10{str(-300).translate(_SUPERSCRIPT)}"
    if value >= 0.01:
        return f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa} × 10{str(int(exponent)).translate(_SUPERSCRIPT)}"


def points(at: float, low: float, high: float, *, towards: float = 1.0) -> tuple[str, str]:
    """A difference of shares and its interval in percentage points, ('38', '27 to 48'), with the sign of `towards`."""
    sign, digits = math.copysign(1.0, towards), _digits(100 * abs(at))
    ends = sorted(sign * 100 * end for end in (low, high))
    return _signed(sign * 100 * at, digits), " to ".join(_signed(end, digits) for end in ends)


def difference_in_points(row: Mapping[str, Any]) -> str:
    """The difference of a row of `diff` (a - b) with its interval, in percentage points: '+44 [34, 53]'."""
    digits = _digits(100 * abs(row["difference"]))
    at, low, high = (round(100 * row[key], digits) + 0.0 for key in ("difference", "ci_low", "ci_high"))
    return f"{at:+.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def short_names(names: tuple[str, str]) -> tuple[str, str]:
    """Names for narrow places: of long ones, whole words that both begin with give way to '…'."""
    if max(map(len, names)) <= _SHORT:
        return names
    same = next((i for i, pair in enumerate(zip(*names, strict=False)) if pair[0] != pair[1]), min(map(len, names)))
    common = len(re.sub(r"[^\W_]*$", "", names[0][:same]))
    return (f"…{names[0][common:]}", f"…{names[1][common:]}") if common > 1 else names


def _signed(value: float, digits: int) -> str:
    text = f"{abs(value):.{digits}f}"
    return f"−{text}" if value < 0 and float(text) else text


def _digits(percent: float) -> int:
    """Digits after the point that leave two that count: none from 10 on, at most four, none for 0."""
    percent = round(percent, 9)  # 1 - 0.9 is not 0.1
    return min(4, max(0, 1 - math.floor(math.log10(percent)))) if percent else 0


def latents(members: Sequence[int]) -> str:
    """The leading latent of a finding, and how many more make it: '463 +3'."""
    return str(members[0]) + (f" +{len(members) - 1}" if len(members) > 1 else "")


def explained(row: Mapping[str, Any]) -> str:
    """'explained by length', 'perhaps explained by length', or nothing."""
    if row["explained_by"] is None:
        return ""
    return f"{'perhaps ' if row['undecided'] else ''}explained by {row['explained_by']}"


def one_line(text: str) -> str:
    """A text without line breaks and control characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
