"""What a sceptic should weigh about a finding, in words: each sentence stands only where it is true."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from saelens_data.diff.two import DiffResult
from saelens_data.evidence import column_of
from saelens_data.report.examples import SURE, by_strength
from saelens_data.wording import count, p_in_words, points, share

#: Documents (pairs) that carry a finding, below which it is said to rest on few.
FEW = 20
#: Density in both sets from which a concept is nearly everywhere.
EVERYWHERE = 0.8
#: Score of a label below which it is a guess.
GUESS = 0.5
#: How much longer, on average, documents of one set are for that to be said.
LONGER = 1.1

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Caveat:
    """A sentence, and two or three words for where there is no room ("" for none)."""

    text: str
    flag: str = ""
    #: "doubt", "good" or "plain".
    tone: str = "plain"


@dataclass(frozen=True, eq=False)
class Grounds:
    """What the caveats of a comparison are drawn from."""

    result: DiffResult
    #: Mean units of a document of A and of B; None where unknown.
    units: tuple[float, float] | None
    #: What differences were adjusted for.
    terms: tuple[str, ...]

    @classmethod
    def of(cls, result: DiffResult) -> Grounds:
        """Computed once for all findings."""
        means = [m.docs["n_units"].mean() if "n_units" in m.docs.columns else None for m in (result.a, result.b)]
        known = [float(mean) for mean in means if isinstance(mean, int | float)]
        terms = tuple(result.parameters.get("adjusted_for") or ())
        return cls(result, (known[0], known[1]) if len(known) == 2 else None, terms)

    @property
    def at_equal(self) -> str:
        """'at equal length and kind'."""
        return "at equal " + " and ".join(self.terms)


def caveats(grounds: Grounds, row: Row, members: Sequence[Row]) -> tuple[Caveat, ...]:
    """Those of a row of `result.frame`; `members` are its latents' rows of `result.latents`, the leading one first."""
    found = [caveat(grounds, row) for caveat in _CAVEATS]
    found += [_chosen(row, members), _disagree(grounds, row, members)]
    return tuple(caveat for caveat in found if caveat is not None)


def _explained(grounds: Grounds, row: Row) -> Caveat | None:
    if (reason := row["explained_by"]) is None or row["undecided"]:
        return None
    what = "strength" if by_strength(row) else "difference"
    return Caveat(
        f"Explained by {reason}: documents of equal {' and '.join(grounds.terms)} need not differ, and less than half "
        f"of the {what} would be left.",
        f"explained by {reason}",
        "doubt",
    )


def _undecided(grounds: Grounds, row: Row) -> Caveat | None:
    if not row["undecided"]:
        return None
    what = row["explained_by"] or " and ".join(grounds.terms)
    return Caveat(
        f"It may or may not be explained by {what}: {grounds.at_equal} nothing need be left, but there are too few "
        "documents to show that.",
        f"may be {what}",
        "doubt",
    )


def _confirmed(grounds: Grounds, row: Row) -> Caveat | None:
    if row["confirmed"] is None:
        return None
    at, interval = points(
        row["confirm_difference"], row["confirm_low"], row["confirm_high"], towards=row["difference"] or row["delta"]
    )
    q = p_in_words(row["confirm_q"])
    there = f"the difference there is {at} points ({interval}); q, of presence and strength, {q}."
    sizes = " and ".join(f"{n:,}" for n in grounds.result.parameters.get("held_out", ()))
    where = f"in documents that had no part in finding it ({sizes})" if sizes else "in documents held out"
    if row["confirmed"]:
        return Caveat(f"Confirmed {where}: {there}", "confirmed", "good")
    return Caveat(f"Not confirmed {where}: {there}", "not confirmed", "doubt")


def _strength_only(_: Grounds, row: Row) -> Caveat | None:
    if not by_strength(row) or row["p_presence"] < SURE:
        return None
    return Caveat("Strength only: it is not shown to be in more documents of either set.", "strength only")


def _few(grounds: Grounds, row: Row) -> Caveat | None:
    n, of = _support(grounds.result, row)
    return (
        Caveat(f"It rests on few documents: {count(n, of[0])} {of[1]}.", "few documents", "doubt") if n < FEW else None
    )


def _support(result: DiffResult, row: Row) -> tuple[int, tuple[str, str]]:
    """The documents or pairs that could tell the sets apart, and what they are: (noun, the rest)."""
    if row["n_pairs"] is not None:
        if by_strength(row):
            return row["n_a"] - row["only_a"], ("pair", "in which both have it")
        return row["only_a"] + row["only_b"], ("pair", "in which one alone has it")
    active, n = row["n_a"] + row["n_b"], result.a.n_docs + result.b.n_docs
    if by_strength(row) or active <= n - active:
        return active, ("document", "of both sets with it")
    return n - active, ("document", "of both sets without it")


def _longer(grounds: Grounds, row: Row) -> Caveat | None:
    if grounds.units is None or row["favours"] is None:
        return None
    own, other = grounds.units if row["favours"] == grounds.result.names[0] else grounds.units[::-1]
    if own < LONGER * other or own == 0:
        return None
    read = "no adjustment for that was possible"
    if "length" in grounds.terms:
        read = "strength was judged at equal length too" if by_strength(row) else "read the adjusted difference"
    return Caveat(
        f"It favours the set with the longer documents ({own:.1f} against {other:.1f} units on average), and longer "
        f"ones show more of everything: {read}."
    )


def _everywhere(_: Grounds, row: Row) -> Caveat | None:
    least = min(row["density_a"], row["density_b"])
    if least < EVERYWHERE:
        return None
    return Caveat(f"It is nearly everywhere: in {share(least)} of either set's documents or more.")


def _label(grounds: Grounds, row: Row) -> Caveat | None:
    if not row["label"]:
        return Caveat("It has no label: read the examples.")
    concepts = grounds.result.a.concepts
    score = concepts["score"][column_of(grounds.result.a, row["latent"])] if "score" in concepts.columns else None
    if score is None or score >= GUESS:
        return None
    return Caveat(f"Its label is a guess (it scores {score:.2f} of 1): read the examples, not the label.")


def _chosen(row: Row, members: Sequence[Row]) -> Caveat | None:
    if len(members) < 2:
        return None
    return Caveat(
        f"The numbers are those of latent {row['latent']}, chosen among {len(members)} near-duplicates for its small "
        "p: on average they overstate. q is of all together."
    )


def _disagree(grounds: Grounds, row: Row, members: Sequence[Row]) -> Caveat | None:
    others = [m for m in members if m["p_value"] < SURE and m["delta"] * row["delta"] < 0]
    together = row["any_a"] - row["any_b"]
    if not others and (by_strength(row) or together * row["difference"] >= 0):
        return None
    names = zip((row["any_a"], row["any_b"]), grounds.result.names, strict=True)
    any_member = " and ".join(f"{share(density)} of {name}" for density, name in names)
    which = ", ".join(str(m["latent"]) for m in others)
    point = f"; latent {which} by itself favours the other set" if others else ""
    return Caveat(f"Its latents do not agree: one or another is in {any_member}{point}.", "latents disagree", "doubt")


#: In the order in which they are read.
_CAVEATS: tuple[Callable[[Grounds, Row], Caveat | None], ...] = (
    _confirmed,
    _explained,
    _undecided,
    _strength_only,
    _few,
    _longer,
    _everywhere,
    _label,
)
