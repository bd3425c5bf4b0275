"""How far clusters can be trusted, in words for readers who do not work with such numbers every day."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from saelens_data.cluster.quality import Agreement
from saelens_data.cluster.result import ClusterResult
from saelens_data.report.cluster_map import short
from saelens_data.wording import count, share

_CHARS = 80
#: Least values and what they mean, the best first.
_STABLE = (
    (0.9, "good", "Nearly the same clusters come out of a part of the documents."),
    (0.75, "good", "Mostly the same clusters come out of a part of the documents."),
    (0.5, "doubt", "Some of the clusters come out again, others are cut differently: look at each one's stability."),
    (-1.0, "doubt", "Other clusters come out each time: take these as one way of many to cut the documents up."),
)
_APART = (
    (0.5, "good", "Clusters are well apart."),
    (0.25, "good", "Clusters are apart, with documents between them."),
    (0.1, "doubt", "Clusters touch: many documents lie about as near to another cluster."),
    (
        -1.0,
        "doubt",
        "There are no gaps: borders run through what has none, and documents near them could go either way.",
    ),
)
_LEAKS = (
    (0.5, "doubt", "The clusters give most of it away"),
    (0.15, "doubt", "The clusters still say something of it"),
    (-math.inf, "good", "The clusters say little or nothing of it"),
)
#: From here on clusters follow a column.
_FOLLOWS = ((0.7, "good", "The clusters follow it closely"), (0.3, "", "The clusters follow it in part"))

Scale = Sequence[tuple[float, str, str]]


@dataclass(frozen=True)
class Measure:
    """One number on a bar from 0 to 1, and `beside` it what it is to be compared with, both in percent of the width."""

    name: str
    value: str
    at: float
    tone: str
    words: str
    beside: float | None = None


def measures(result: ClusterResult) -> tuple[Measure, ...]:
    """Stability, silhouette, agreement with a column and what is left of what was to be left out, as far as known."""
    return tuple(_measures(result))


def _measures(result: ClusterResult) -> Iterator[Measure]:
    quality, asked = result.quality, result.parameters
    drawn = share(asked["drawn"]) if "drawn" in asked else "a part"
    value = quality.get("stability", math.nan)
    if not math.isnan(value):
        tone, words = _graded(value, _STABLE)
        how = (
            f"Made again of {drawn} of the documents, several times; 1 is the same grouping, 0 what chance gives (ARI)."
        )
        yield Measure("They come again", f"{value:.2f}", _percent(value), tone, f"{words} {how}")
    if at := quality.get("halves"):
        yield _halves(at["stability"], at["null"], beyond=bool(at["beyond"]))
    value = quality.get("silhouette", math.nan)
    if not math.isnan(value):
        tone, words = _graded(value, _APART)
        how = "How much nearer a document is to its own cluster than to the next: 1 far nearer, 0 as near (silhouette)."
        yield Measure("They are apart", f"{value:.2f}", _percent(value), tone, f"{words} {how}")
    if (truth := quality.get("truth")) and truth.n:
        yield _truth(short(str(asked.get("truth")), _CHARS), truth)
    if (leak := quality.get("leakage")) and leak.n:
        yield _leak(short(str(asked.get("leakage")), _CHARS), leak, quality.get("leakage_before"))
    for name, left in quality.get("left_out", {}).items():
        if not math.isnan(left["explained"]):
            yield _left(short(str(name), _CHARS), left["explained"], left["explained_before"])


def _halves(agree: float, null: float, *, beyond: bool) -> Measure:
    tone = "good" if beyond else "doubt"
    said = (
        "This is more than a cloud without clusters gives" if beyond else "A cloud without clusters gives about as much"
    )
    words = (
        f"{said}. Made of one half of the documents and of the other, clusters agree at {agree:.2f} (ARI); in data "
        f"drawn with the same spread but without any, at {null:.2f}."
    )
    return Measure("They are there at all", f"{agree:.2f}", _percent(agree), tone, words, _percent(null))


def _truth(name: str, truth: Agreement) -> Measure:
    grade = next((found for found in _FOLLOWS if truth.nmi >= found[0]), (0, "", "The clusters hardly follow it"))
    words = (
        f"{grade[2]}. With each cluster standing for one of its {count(truth.values, 'value')}, "
        f"{share(truth.accuracy)} of {count(truth.n, 'document')} are right; its most frequent value alone would be "
        f"for {share(truth.majority)}. NMI {truth.nmi:.3f}, ARI {truth.ari:.3f} (1 the same, 0 nothing in common)."
    )
    return Measure(f"They agree with “{name}”", f"{truth.accuracy:.3f}", _percent(truth.accuracy), grade[1], words)


def _leak(name: str, leak: Agreement, before: Agreement | None) -> Measure:
    tone, said = _graded(leak.gain, _LEAKS)
    words = (
        f"{said}: who knows a document's cluster guesses its value right for {share(leak.predicted)}, who knows "
        f"nothing for {share(leak.majority)}. From guessing to certainty that is {leak.gain:.3f} of the way "
        f"(NMI {leak.nmi:.3f})"
    )
    was = None if before is None or math.isnan(before.gain) else before.gain
    if before is not None and was is not None:
        words += f"; with nothing left out {before.gain:.3f} (NMI {before.nmi:.3f})"
    at = None if was is None else _percent(was)
    return Measure(f"They give away “{name}”", f"{leak.gain:.3f}", _percent(leak.gain), tone, f"{words}.", at)


def _left(name: str, explained: float, before: float) -> Measure:
    tone, said = _graded(explained, _LEAKS)
    was = "" if math.isnan(before) else f"; with nothing left out it was {share(before)}"
    words = f"{said}: {share(explained)} of how documents differ along it lies between the clusters{was}."
    at = None if math.isnan(before) else _percent(before)
    return Measure(f"What is left of “{name}”", f"{explained:.3f}", _percent(explained), tone, words, at)


def _graded(value: float, scale: Scale) -> tuple[str, str]:
    return next((tone, words) for least, tone, words in scale if value >= least)


def _percent(value: float) -> float:
    return 100 * min(max(value, 0.0), 1.0)
