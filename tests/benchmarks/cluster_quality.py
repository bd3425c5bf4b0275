"""How well clusters of concept vectors follow known labels, beside k-means on the reader's embedding at the same k.

    python tests/benchmarks/cluster_quality.py FILE --truth COLUMN [--truth OTHER] [--text COL] [--sample N] [--rows EXPR]
        [--by "PHRASE"] [--without "PHRASE"] [--seeds 5] [--variants]

All concepts first; then, for each truth, the concepts that words choose, where --by names them ("COLUMN=PHRASE"), and
the oracle: the 100 latents that tell the values of the column apart best (F statistic of their means), placed as the
words' concepts are and with the same left out; and in two spaces with nothing left out. Accuracy: each cluster stands for one value, matched for the most documents (Hungarian method). With a
second truth, `leak` is what the clusters give away of it: (accuracy of the majority - largest share) / (1 - largest
share). Means over seeds. --variants adds the other spaces, pooling by the maximum, roots of the values, and other
numbers of dimensions.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np
import polars as pl
from scipy.sparse import csr_array

from saelens_data.cli.source import open_or_encode
from saelens_data.cluster.axis import Axis, all_concepts
from saelens_data.cluster.coordinates import FOR_EACH, coordinates
from saelens_data.cluster.methods import kmeans
from saelens_data.cluster.quality import agreement
from saelens_data.matrix import ConceptMatrix

#: Latents that the oracle takes.
ORACLE = 100


def oracle(m: ConceptMatrix, codes: np.ndarray, n: int = ORACLE) -> Axis:
    """The latents whose mean activations differ most between the values, by the F statistic, with the truth known."""
    X = m.pooled("mean").X.astype(np.float64)
    k, rows = codes.max() + 1, m.n_docs
    member = csr_array((np.ones(rows), (codes, np.arange(rows))), shape=(k, rows))
    size = np.bincount(codes)[:, None]
    sums, squares = (member @ X).toarray(), np.asarray(X.power(2).sum(axis=0)).ravel()
    total = squares - sums.sum(axis=0) ** 2 / rows
    between = (sums**2 / size).sum(axis=0) - sums.sum(axis=0) ** 2 / rows
    f = (between / (k - 1)) / np.maximum((total - between) / (rows - k), 1e-12)
    f[np.bincount(m.X.indices, minlength=m.n_concepts) < 3] = 0
    columns = np.sort(np.argsort(-f, kind="stable")[:n])
    return Axis(columns, np.ones(len(columns), np.float32), m.concepts[columns].select("latent", "label"))


def rooted(m: ConceptMatrix) -> ConceptMatrix:
    """The roots of the mean activations, as if they were maxima."""
    mean = m.pooled("mean")
    X = csr_array((np.sqrt(mean.X.data), mean.X.indices, mean.X.indptr), shape=mean.X.shape)
    return replace(mean, X=X)


def codes_of(m: ConceptMatrix, column: str) -> np.ndarray:
    return (m.docs[column].cast(pl.String).rank("dense") - 1).to_numpy().astype(np.int64)


def score(name: str, labels: list[np.ndarray], rows: np.ndarray, truth: dict[str, np.ndarray], about: str) -> None:
    """A line: agreement with `about`, and what is given away of the other columns."""
    found = [agreement(one, truth[about][rows]) for one in labels]
    mean = {key: np.mean([getattr(one, key) for one in found]) for key in ("accuracy", "nmi", "ari")}
    spread = np.std([one.nmi for one in found])
    leaks = [
        f"  leak of {other} {np.mean([agreement(one, codes[rows]).gain for one in labels]):.3f}"
        for other, codes in truth.items()
        if other != about
    ]
    print(
        f"  {name:44} accuracy {mean['accuracy']:.3f}  NMI {mean['nmi']:.3f} (sd {spread:.3f})  ARI {mean['ari']:.3f}"
        + "".join(leaks),
        flush=True,
    )


def grouped(Z: np.ndarray, k: int, seeds: int) -> list[np.ndarray]:
    return [kmeans(Z, k, seed=seed).labels for seed in range(seeds)]


def show(
    name: str,
    m: ConceptMatrix,
    axis: Axis,
    k: int,
    truth: dict[str, np.ndarray],
    about: str,
    *,
    options: argparse.Namespace,
    **how: object,
) -> None:
    how.setdefault("dimensions", FOR_EACH * k)
    placed = coordinates(m, axis, **how)  # type: ignore[arg-type]
    score(name, grouped(placed.Z, k, options.seeds), placed.rows, truth, about)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file")
    parser.add_argument("--truth", action="append", required=True)
    parser.add_argument("--by", action="append", default=[], metavar="COLUMN=PHRASE")
    parser.add_argument("--without", action="append", default=[], metavar="COLUMN=PHRASE")
    parser.add_argument("--text")
    parser.add_argument("--rows")
    parser.add_argument("--sample", type=int)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--encoder", default="minilm-8k")
    parser.add_argument("--variants", action="store_true")
    options = parser.parse_args()
    (m,) = open_or_encode(options.file, encoder=options.encoder, dtype="auto", text=options.text, id=None, limit=None)
    m = m.filter_docs(pl.all_horizontal(pl.col(name).is_not_null() for name in options.truth))
    m = m.filter_docs(options.rows) if options.rows else m
    if options.sample and options.sample < m.n_docs:
        m = m.take_docs(np.sort(np.random.default_rng(0).choice(m.n_docs, options.sample, replace=False)))
    truth = {name: codes_of(m, name) for name in options.truth}
    axes = {what: dict(pair.split("=", 1) for pair in getattr(options, what)) for what in ("by", "without")}
    for about, codes in truth.items():
        k = int(codes.max()) + 1
        print(f"{options.file}: {m.n_docs:,} documents, {about}: {k} values")
        everything = np.arange(m.n_docs)
        assert m.vectors is not None
        score(
            "k-means on the reader's embedding",
            grouped(m.vectors.astype(np.float32), k, options.seeds),
            everything,
            truth,
            about,
        )
        show("all concepts", m, all_concepts(m), k, truth, about, options=options)
        if about in axes["by"]:
            from saelens_data.cluster.choose import choose_axis

            without = [axes["without"][about]] if about in axes["without"] else []
            axis = choose_axis(m, by=[axes["by"][about]], without=without)
            show(f"by '{axes['by'][about]}' ({axis.n})", m, axis, k, truth, about, options=options)
        best = oracle(m, codes)
        if about in axes["by"]:
            same = replace(best, unwanted=axis.unwanted, space=axis.space, within=axis.within)
            show(f"oracle: {ORACLE} latents by the truth, same method", m, same, k, truth, about, options=options)
        for space in ("reconstruction", "svd"):
            show(
                f"oracle: {ORACLE} latents by the truth, {space}",
                m,
                best,
                k,
                truth,
                about,
                options=options,
                space=space,
            )
        if options.variants:
            variants(m, k, truth, about, options)


def variants(m: ConceptMatrix, k: int, truth: dict[str, np.ndarray], about: str, options: argparse.Namespace) -> None:
    everything = all_concepts(m)
    for dimensions in (k, 2 * k, 3 * k, 5 * k, 10 * k):
        show(
            f"reconstruction, {dimensions} dimensions",
            m,
            everything,
            k,
            truth,
            about,
            options=options,
            dimensions=dimensions,
        )
    for space in ("svd", "graph"):
        for dimensions in (k, 2 * k, 5 * k):
            show(
                f"{space}, {dimensions} dimensions",
                m,
                everything,
                k,
                truth,
                about,
                options=options,
                space=space,
                dimensions=dimensions,
            )
    for space in ("reconstruction", "svd", "graph"):
        show(f"{space}, maximum", m, everything, k, truth, about, options=options, space=space, pooling="max")
        show(f"{space}, root of the mean", rooted(m), everything, k, truth, about, options=options, space=space)


if __name__ == "__main__":
    main()
