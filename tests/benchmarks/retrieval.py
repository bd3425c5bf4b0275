"""Mean average precision of `retrieve` on labelled documents: each label is a query, its documents are the right ones.

    python tests/benchmarks/retrieval.py STORE [STORE ...] --label COLUMN [--phrase "Sci/Tech=Science and technology"]
        [--skip neither] [--cache FOLDER] [--examples]

A phrase is the label with spaces for underscores, unless --phrase says otherwise. The baseline is the reader's own
embedding of each whole text, by cosine; "with feedback" lets the first documents move the query, in every arm.
Per-set mean: over sets, of the ratio of two means over queries. Pooled: the ratio over all queries of all sets.
--examples adds the curve of 1 to 16 examples against the mean of their embeddings. A file of texts may stand for a
store: it is encoded into the cache.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl

from saelens_data.cli.source import open_or_encode
from saelens_data.concepts.space import space_of
from saelens_data.matrix import ConceptMatrix
from saelens_data.retrieve.by_example import from_examples
from saelens_data.retrieve.lexical import LexicalIndex, words_of
from saelens_data.retrieve.ranking import FEEDBACK, ConceptArm, DenseArm, Ranker, joined

BASELINE = "embedding of the text"
#: Numbers of examples, the fewest documents of a label that is asked for by example, and draws of each.
SHOTS, FEWEST, DRAWS = (1, 2, 4, 8, 16), 30, 3


@dataclass(frozen=True)
class Labelled:
    """A set of documents, the phrases of its labels, and which documents are right for each."""

    name: str
    m: ConceptMatrix
    phrases: list[str]
    right: list[np.ndarray]
    whole: np.ndarray


def average_precision(scores: np.ndarray, right: np.ndarray) -> float:
    """Mean over the right documents of the share of right ones among those as high; ties in row order."""
    ranked = right[np.argsort(-scores, kind="stable")]
    return float((np.cumsum(ranked)[ranked] / (np.flatnonzero(ranked) + 1)).mean())


def labelled(source: str, options: argparse.Namespace) -> Labelled:
    """Open a set; embeddings of whole texts are kept in --cache, if given."""
    (m,) = open_or_encode(source, encoder=options.encoder, dtype="auto", text=options.text, id=None, limit=None)
    m = m.filter_docs(pl.col(options.label).is_not_null())
    name = Path(source).stem
    kept = options.cache / f"{name}.dense.npy" if options.cache else None
    whole = np.load(kept) if kept and kept.exists() else space_of(m).embed(m.docs["text"].fill_null("").to_list())
    if kept and not kept.exists():
        np.save(kept, whole)
    whole /= np.maximum(np.linalg.norm(whole, axis=1, keepdims=True), 1e-12)
    phrases = dict(pair.split("=", 1) for pair in options.phrase)
    column = m.docs[options.label].cast(pl.String)
    labels = [label for label in column.unique().sort().to_list() if label not in options.skip]
    words = [phrases.get(label, label.replace("_", " ").replace("?", "").strip()) for label in labels]
    return Labelled(name, m, words, [(column == label).to_numpy() for label in labels], whole)


def by_phrase(data: Labelled) -> dict[str, np.ndarray]:
    """Average precision of each query, for each way to rank."""
    space, fit = space_of(data.m), np.diff(data.m.X.indptr) > 0
    queries, concepts = space.embed(data.phrases), ConceptArm.of(data.m, space.directions)
    dense = DenseArm(data.whole if data.m.vectors is None else data.m.vectors)
    lexical = LexicalIndex.of(data.m)
    found = {
        BASELINE: data.whole @ queries.T,
        "bm25": np.stack([lexical.scores(words_of(phrase)) for phrase in data.phrases], axis=1),
    }
    arms = {
        BASELINE: (DenseArm(data.whole), None),
        "dense": (dense, None),
        "concepts": (None, concepts),
        "hybrid": (dense, concepts),
    }
    for feedback, suffix in ((0, ""), (FEEDBACK, " with feedback")):
        for name, (by_vector, by_concept) in arms.items():
            found[name + suffix] = Ranker(fit, by_vector, by_concept, feedback).rank(queries).score
    return {
        name: np.array([average_precision(scores[:, i], right) for i, right in enumerate(data.right)])
        for name, scores in found.items()
    }


def by_example(data: Labelled) -> dict[str, np.ndarray]:
    """Mean average precision over labels and draws for each number of examples, [shots]."""
    arm = ConceptArm.of(data.m, space_of(data.m).directions)
    vectors = data.whole if data.m.vectors is None else data.m.vectors
    fit, rng = np.diff(data.m.X.indptr) > 0, np.random.default_rng(0)
    found: dict[str, list[list[float]]] = {}
    for shots in SHOTS:
        for right in (right for right in data.right if right.sum() >= FEWEST):
            for draw in range(DRAWS):
                like = rng.choice(np.flatnonzero(right), shots, replace=False)
                rest = fit.copy()
                rest[like] = False
                for name, scores in example_scores(data, arm, vectors, like, fit, draw).items():
                    cell = found.setdefault(name, [[] for _ in SHOTS])[SHOTS.index(shots)]
                    cell.append(average_precision(scores[rest], right[rest]))
    return {name: np.array([np.mean(cell) for cell in cells]) for name, cells in found.items() if cells[0]}


def example_scores(
    data: Labelled, arm: ConceptArm, vectors: np.ndarray, like: np.ndarray, fit: np.ndarray, seed: int
) -> dict[str, np.ndarray]:
    """Scores of all documents by examples: the mean of their whole embeddings, and the product's ways."""
    example = from_examples(arm, vectors, like, np.empty(0, np.int64), fit=fit, seed=seed)
    concepts = arm.weighed(example.weights[:, None])[:, 0]
    assert example.vector is not None
    dense = DenseArm(vectors).scores(example.vector[None])[:, 0]
    both = (dense[:, None], concepts[:, None])
    return {
        BASELINE: data.whole @ data.whole[like].mean(axis=0),
        "dense": dense,
        "concepts": concepts,
        "hybrid": joined(example.vector[None], *both, both, weight=1.0).score[:, 0],
    }


def table(title: str, sets: Sequence[Labelled], rows: dict[str, list[str]]) -> None:
    print(f"\n{title}\n" + " " * 38 + "".join(f"{data.name[:12]:>14}" for data in sets))
    for name, cells in rows.items():
        print(f"{name:38}" + "".join(f"{cell:>14}" for cell in cells))


def show_phrases(sets: Sequence[Labelled], found: Sequence[dict[str, np.ndarray]]) -> None:
    pooled = {name: np.concatenate([one[name] for one in found]) for name in found[0]}
    print(f"{'':38}{'ratio to the baseline:':>24}\n{'':38}{'per-set mean':>14}{'pooled':>10}")
    for name, values in pooled.items():
        ratios = [one[name].mean() / one[BASELINE].mean() for one in found]
        print(f"{name:38}{np.mean(ratios):14.3f}{values.mean() / pooled[BASELINE].mean():10.3f}")
    table("mean average precision", sets, {n: [f"{one[n].mean():.3f}" for one in found] for n in pooled})
    cells: Callable[[str], list[str]] = lambda n: [f"{one[n].mean() / one[BASELINE].mean():.3f}" for one in found]  # noqa: E731
    table("ratio to the baseline", sets, {n: cells(n) for n in pooled})


def show_examples(found: Sequence[dict[str, np.ndarray]]) -> None:
    print(f"\nby example, ratio to the mean of whole embeddings\n{'':38}" + "".join(f"{n:>10}" for n in SHOTS))
    for name in found[0]:
        ratios = np.mean([one[name] / one[BASELINE] for one in found], axis=0)
        print(f"{name:38}" + "".join(f"{ratio:10.3f}" for ratio in ratios))
    mean = np.mean([one[BASELINE] for one in found], axis=0)
    print(f"{'mean average precision of the baseline':38}" + "".join(f"{value:10.3f}" for value in mean))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stores", nargs="+")
    parser.add_argument("--label", required=True)
    parser.add_argument("--text")
    parser.add_argument("--encoder", default="minilm-8k")
    parser.add_argument("--phrase", action="append", default=[], metavar="LABEL=WORDS")
    parser.add_argument("--skip", action="append", default=[], metavar="LABEL")
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--examples", action="store_true")
    options = parser.parse_args()
    sets = [labelled(source, options) for source in options.stores]
    for data in sets:
        kept = "its own vectors" if data.m.vectors is not None else "no vectors: the baseline's serve as dense"
        print(f"{data.name}: {data.m.n_docs:,} documents, {len(data.phrases)} queries; {kept}")
    show_phrases(sets, [by_phrase(data) for data in sets])
    if options.examples:
        show_examples([by_example(replace(data)) for data in sets])


if __name__ == "__main__":
    main()
