"""Words to concepts: the latents whose directions lie nearest to a phrase, and whether any of them is near at all.

A phrase is as near to a latent as the cosine between its embedding and what the latent adds to an embedding; where an
encoder reads tokens, and so embeds no sentences, the latent's label takes the place of its direction. What such a
cosine is worth is learned from two kinds of vectors: ordinary phrases out of the texts that the encoder's concepts are
known by, and random directions with the mean and covariance of these phrases, which mean nothing.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from unicodedata import category

import numpy as np
import polars as pl

from saelens_data.concepts.kept import kept
from saelens_data.concepts.label_space import label_space, labels_of
from saelens_data.concepts.space import Space, space_of
from saelens_data.display import table
from saelens_data.display.table import Column, Shown
from saelens_data.encoders import DEFAULT_ENCODER, EXAMPLES_FILE, find_encoder
from saelens_data.errors import InputError, SaelensDataError
from saelens_data.matrix import ConceptMatrix
from saelens_data.results import Result
from saelens_data.wording import share

#: Words and characters of a phrase that are read: more are no phrase, and the reader would stop reading anyway.
LONGEST_WORDS, LONGEST_CHARACTERS = 150, 1_500
#: Ordinary phrases that cosines are compared with, and random directions.
ORDINARY, RANDOM = 500, 1_000
#: Of fewer phrases nothing is learned.
LEAST_ORDINARY = 20
#: A concept fits if it is nearer than the nearest concept of this share of random directions.
LEVEL = 0.95
#: A word is known if one of the same first letters occurs in so many of the encoder's example spans.
STEM, KNOWN_SPANS = 5, 3
#: A phrase fits nothing if less than this share of its words is known: a cosine may then come from its spelling alone.
KNOWN_SHARE = 0.5
#: What counts as a word, here and in Polars: two letters or more.
_WORD = r"[^\W\d_]{2,}"
#: Vectors compared with all latents at once: 64 x 131,072 float32 are 32 MB.
_BLOCK = 64


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class ConceptsResult(Result):
    """The outcome of `find_concepts`. `frame` holds one row for each concept, the nearest first.

    Columns: `rank` (from 1), `latent`, `label`, `score` (share of ordinary phrases whose nearest concept is further
    away, 0 to 1), `cosine` (of the phrase and the latent's direction, or its label if the encoder reads tokens),
    `density` (share of these documents in which the latent is active), and `fits` (nearer than the nearest concept of
    most random directions, by words the encoder knows).
    """

    kind: str = "concepts"
    #: The phrase as it was read.
    phrase: str
    #: Concepts that fit, of all there are.
    n_fitting: int
    #: Its words that the encoder does not know, and whether these are too many.
    unknown: tuple[str, ...]
    unfamiliar: bool

    @property
    def fits(self) -> bool:
        """Whether any concept fits the phrase."""
        return self.n_fitting > 0

    @property
    def better_than(self) -> float:
        """Share of ordinary phrases whose nearest concept is further away, 0 to 1."""
        return float(self.frame["score"][0]) if self.frame.height else 0.0

    def summary(self) -> str:
        """Whether anything fits, and how well, in a sentence."""
        below, said = f"{self.better_than:.0%}", f"'{_short(self.phrase)}'"
        if self.fits:
            concepts = "1 concept fits" if self.n_fitting == 1 else f"{self.n_fitting:,} concepts fit"
            return f"{concepts} {said}; the nearest is nearer than that of {below} of ordinary phrases"
        if not self.unfamiliar:
            near = f"nearer than that of {below} of ordinary phrases"
            why = f"its nearest concept is no nearer than chance brings one ({near})"
        elif self.unknown:
            why = f"the encoder's examples do not know its words ({_listed(self.unknown)})"
        else:
            why = "it holds no word of two letters or more"
        return f"Nothing here fits {said}: {why}; the nearest concepts are shown all the same"

    def _shown(self) -> Shown:
        return Shown.of(
            self.frame,
            Column("#", "rank", right=True),
            Column("concept", table.concept()),
            Column("fits", "fits", table.yes),
            Column("nearer than of ordinary phrases", "score", share, scale=table.shares),
            Column("cosine", "cosine", table.two_places, right=True),
            Column("in documents", "density", share, right=True),
            noun="concept",
        )

    def plot(self) -> Any:
        """How near each concept is, as the share of ordinary phrases that have none as near; an Altair chart.

        Raises MissingExtraError without Altair, InputError without rows.
        """
        from saelens_data.display import plots  # noqa: PLC0415

        frame = self.frame.select(
            plots.numbered(self.frame, plots.named(), number="rank"),
            "latent",
            "score",
            "cosine",
            fits=pl.when("fits").then(pl.lit("fits")).otherwise(pl.lit("does not fit")),
        )
        return plots.bars(
            frame,
            y="name",
            x="score",
            title="share of ordinary phrases whose nearest concept is further away",
            tooltip={"name": "concept", "latent": "latent", "score": "share", "cosine": "cosine", "fits": "verdict"},
            colour=("fits", "verdict"),
            order=[word for word in ("fits", "does not fit") if word in frame["fits"]],
            heading=plots.short(self.phrase),
        )


@dataclass(frozen=True, eq=False)
class Calibration:
    """What cosines with the nearest concept are worth."""

    #: Those of ordinary phrases, [ORDINARY] ascending.
    ordinary: np.ndarray
    #: What LEVEL of the random directions stay below.
    chance: float

    def array(self) -> np.ndarray:
        """Both as one array, [1 + ORDINARY] float64."""
        return np.concatenate([[self.chance], self.ordinary]).astype(np.float64)

    @classmethod
    def of(cls, array: np.ndarray) -> Calibration:
        """What `array` was made of."""
        return cls(array[1:].astype(np.float32), float(array[0]))

    def share_below(self, cosines: np.ndarray) -> np.ndarray:
        """Share of ordinary phrases whose nearest concept is further away than these, 0 to 1, as many."""
        return np.asarray(np.searchsorted(self.ordinary, cosines, side="left") / len(self.ordinary))


def find_concepts(m: ConceptMatrix, phrase: str, *, n: int = 10, seed: int = 0) -> ConceptsResult:
    """Find the `n` concepts nearest to a phrase; `fits` says of each whether that is near enough to mean anything.

    `seed` draws what cosines are compared with. Raises InputError for n < 1, for a phrase without words, and for a
    matrix whose encoder is not at hand, and EncoderError if it cannot be found or read.
    """
    if n < 1:
        raise InputError(f"{n} concepts asked for: give 1 or more")
    if not m.n_concepts:
        raise InputError("the matrix holds no concepts to find: filter them less")
    read, notes = read_phrase(phrase)
    source = m.source
    if source.unit == "token":
        # Labels differ where latents do, and are compared with the bundled encoder's phrases.
        labels, space, judge = labels_of(m), label_space(m), DEFAULT_ENCODER
        known = known_words(judge, "") | _starts_of(labels)
        notes = (*notes, _by_labels(labels))
        points = "\0".join(labels).encode("utf-8", "surrogatepass")
    else:
        space, judge = space_of(m), source.encoder
        known = known_words(judge, source.sae_sha256)
        points = m.concepts["latent"].to_numpy().tobytes()
    calibration = _calibrated(_Asked(judge, (source.sae_sha256, source.reader_sha256), points, seed, space))
    cosine = cosines(space, space.embed([read]))[0]
    unknown, unfamiliar = _unknown(read, known)
    fits = (cosine > calibration.chance) & (not unfamiliar)
    columns = np.argsort(-cosine, kind="stable")[:n]
    table = _table(m, columns, cosine, calibration, fits)
    return ConceptsResult(
        frame=table,
        parameters={"encoder": source.encoder, "phrase": read, "n": n, "seed": seed, "chance": calibration.chance},
        notes=(*notes, *_notes(table, unknown)),
        phrase=read,
        n_fitting=int(fits.sum()),
        unknown=unknown,
        unfamiliar=unfamiliar,
    )


def notes_on_fit(m: ConceptMatrix, phrases: Sequence[str]) -> list[str]:
    """A sentence for each phrase that no concept fits; none where the encoder has no examples to judge by."""
    notes = []
    for phrase in phrases:
        try:
            found = find_concepts(m, phrase, n=1)
        except SaelensDataError:
            continue
        if not found.fits:
            notes.append(f"No concept of this encoder fits '{_short(found.phrase)}': what is found may not have it.")
    return notes


def read_phrase(phrase: str) -> tuple[str, tuple[str, ...]]:
    """A phrase on one line, cut where it is too long, and notes on that. Raises InputError for one without words."""
    words = phrase.split()
    if not words:
        raise InputError("the phrase is empty: say in words what to look for")
    line = " ".join(words)
    if odd := [c for c in line if category(c) in ("Cc", "Cs")]:
        raise InputError(f"the phrase holds the control character U+{ord(odd[0]):04X}: leave it out")
    if not any(c.isalnum() for c in line):
        raise InputError(f"the phrase '{_short(line)}' holds no letter or digit: say in words what to look for")
    read = " ".join(words[:LONGEST_WORDS])[:LONGEST_CHARACTERS]
    if read == line:
        return line, ()
    return read, (f"The phrase is long ({len(words):,} words): only the first {len(read.split()):,} are read.",)


def cosines(space: Space, vectors: np.ndarray) -> np.ndarray:
    """Cosine of each vector [n, dim] and each latent's direction, [n, latents] float32; 0 for a latent without one."""
    lengths = np.linalg.norm(space.directions, axis=1) * np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors @ space.directions.T / np.maximum(lengths, 1e-12), dtype=np.float32)


def calibrate(space: Space, phrases: list[str], seed: int) -> Calibration:
    """How near the nearest concept is for ordinary phrases, and for random directions where such phrases lie."""
    vectors = space.embed(phrases)
    centre = vectors.mean(axis=0)
    # Gaussian mixtures of the deviations have the phrases' covariance, without a factor of it.
    weights = np.random.default_rng(seed).standard_normal((RANDOM, len(phrases))) / np.sqrt(max(1, len(phrases) - 1))
    random = (centre + weights @ (vectors - centre)).astype(np.float32)
    return Calibration(np.sort(_nearest(space, vectors)), float(np.quantile(_nearest(space, random), LEVEL)))


def ordinary_phrases(texts: pl.Series, n: int, seed: int) -> list[str]:
    """`n` runs of 1 to 4 words out of as many texts, fewer if there are not as many; both ends have 4 letters or more.

    Short words at an end, such as articles, make a fragment of what is no phrase.
    """
    rng, found = np.random.default_rng(seed), []
    for at in rng.permutation(len(texts)):
        words = re.findall(_WORD, texts[int(at)])
        length = int(rng.integers(1, 5))
        if len(words) < length:
            continue
        start = int(rng.integers(0, len(words) - length + 1))
        run = words[start : start + length]
        if min(len(run[0]), len(run[-1])) >= 4:
            found.append(" ".join(run))
            if len(found) == n:
                break
    return found


def word_starts(texts: pl.Series) -> frozenset[str]:
    """The first STEM letters of words that occur in KNOWN_SPANS texts or more."""
    words = texts.str.to_lowercase().str.extract_all(_WORD)
    starts = words.list.eval(pl.element().str.head(STEM)).list.unique().explode().drop_nulls()
    counts = starts.rename("start").value_counts()
    return frozenset(counts.filter(pl.col("count") >= KNOWN_SPANS)["start"])


@lru_cache(maxsize=2)
def known_words(encoder: str, _sae_sha256: str) -> frozenset[str]:
    """`word_starts` of an encoder's examples. Raises InputError if it has none."""
    return word_starts(_examples(encoder))


@dataclass(frozen=True)
class _Asked:
    """What a calibration depends on; the space follows from it, so it takes no part when two are compared."""

    encoder: str
    #: Of the SAE and the reader.
    sha256: tuple[str, str]
    points: bytes
    seed: int
    space: Space = field(compare=False)


@lru_cache(maxsize=4)
def _calibrated(asked: _Asked) -> Calibration:
    phrases = ordinary_phrases(_examples(asked.encoder), ORDINARY, asked.seed)
    if len(phrases) < LEAST_ORDINARY:
        raise InputError(
            f"words cannot be looked up with encoder '{asked.encoder}': its {EXAMPLES_FILE} holds {len(phrases)} "
            f"phrases to compare with, where {LEAST_ORDINARY} are needed; train it on more texts"
        )
    # Words are looked up in one command after the other, and this takes seconds.
    directions = hashlib.sha256(asked.space.directions.tobytes()).hexdigest()
    told = (asked.encoder, asked.sha256, directions, asked.seed, RANDOM, LEVEL, *phrases)
    found = kept("phrases", told, 1 + len(phrases), lambda: calibrate(asked.space, phrases, asked.seed).array())
    return Calibration.of(found)


def _starts_of(labels: Sequence[str]) -> frozenset[str]:
    return frozenset(word[:STEM] for label in labels for word in re.findall(_WORD, label.lower()))


def _by_labels(labels: Sequence[str]) -> str:
    n = sum(map(bool, labels))
    return f"Found by their labels, which {n:,} of {len(labels):,} concepts have: the encoder reads tokens."


def _examples(encoder: str) -> pl.Series:
    path = find_encoder(encoder) / EXAMPLES_FILE
    try:
        texts = pl.read_parquet(path, columns=["text"])["text"].drop_nulls()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InputError(
            f"words cannot be looked up with encoder '{encoder}': its {EXAMPLES_FILE} cannot be read "
            f"({str(error).splitlines()[0]}); copy or train the encoder again"
        ) from error
    return texts


def _nearest(space: Space, vectors: np.ndarray) -> np.ndarray:
    """The largest cosine of each vector with a latent's direction, [n]."""
    blocks = (cosines(space, vectors[at : at + _BLOCK]) for at in range(0, len(vectors), _BLOCK))
    return np.concatenate([block.max(axis=1) for block in blocks])


def _unknown(phrase: str, known: frozenset[str]) -> tuple[tuple[str, ...], bool]:
    """The phrase's words that are not known, each once, and whether these are too many, or there is no word at all."""
    words = re.findall(_WORD, phrase.lower())
    unknown = [word for word in words if word[:STEM] not in known]
    return tuple(dict.fromkeys(unknown)), len(words) - len(unknown) < max(KNOWN_SHARE * len(words), 1)


def _table(
    m: ConceptMatrix, columns: np.ndarray, cosine: np.ndarray, calibration: Calibration, fits: np.ndarray
) -> pl.DataFrame:
    shown = m.concepts[columns]
    return pl.DataFrame(
        {
            "rank": pl.Series(np.arange(1, len(columns) + 1), dtype=pl.UInt32),
            "latent": shown["latent"],
            "label": shown["label"] if "label" in shown.columns else pl.Series([None] * len(columns), dtype=pl.String),
            "score": calibration.share_below(cosine[columns]),
            "cosine": cosine[columns],
            "density": m.density()[columns],
            "fits": fits[columns],
        }
    )


def _notes(table: pl.DataFrame, unknown: tuple[str, ...]) -> list[str]:
    notes = []
    if unknown and table["fits"].any():
        notes.append(f"The encoder's examples do not know: {_listed(unknown)}. What fits may rest on the other words.")
    silent = table.filter(pl.col("fits") & (pl.col("density") == 0)).height
    if silent:
        notes.append(f"Of the concepts shown that fit, {silent} are active in none of these documents.")
    return notes


def _listed(words: tuple[str, ...], most: int = 5) -> str:
    return ", ".join(words[:most]) + (", …" if len(words) > most else "")


def _short(text: str, most: int = 60) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
