"""Planted artefacts among 5,000 documents: in which group `correlate` shows them. Needs the shared data folder.

    python tests/benchmarks/correlate_planted.py FOLDER [--injected 10 25 50] [--kinds ...] [--no-filter usual]
    python tests/benchmarks/correlate_planted.py FOLDER --permuted 50

FOLDER keeps what is encoded. The documents are encyclopaedia, dialogues, mathematics, answers and persona statements out
of the training text, without its prompt templates, which are artefacts of their own, and news. Planted are ten artefacts
(`planted_texts.py`), one at a time: six endings on mathematical problems, three manners of speaking around news of one
topic, and emoticons in Spanish texts, of which there are 100, with them or without. A group shows an artefact if a pair
of it holds at least half of the injected documents in common, and at least three quarters of the documents that it holds
in common are injected: then its export is the list to mend, which that of two concepts of the kind of text itself is not.
Printed is the first such group, among all. What is usual in ordinary text the encoder knows from other documents than these.

With --permuted, two sets of fields are made of the documents: the concepts of each document, and those of another one
drawn at random; `correlate_between` looks at these, and any finding is false.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import planted_texts
import polars as pl

import saelens_data as sd
from saelens_data.correlate import CorrelateResult, correlate
from saelens_data.correlate.between import between_matrices
from saelens_data.correlate.pairs import Options
from saelens_data.matrix import ConceptMatrix

DATA = Path(__file__).parents[3] / "shared" / "data"
N, MOST, SPANISH = 5_000, 50, 100
KINDS = (*planted_texts.ENDINGS, *planted_texts.STYLES, "emoticon")


def training() -> pl.DataFrame:
    """The first documents of the training text."""
    frame = pl.read_parquet(DATA / "sae_training_text.parquet").head(N).with_row_index("id")
    return frame.with_columns(pl.format("d{}", pl.col("id")).alias("id"))


def news() -> pl.DataFrame:
    """The first news."""
    frame = pl.read_csv(DATA / "ag_news_test.csv").head(N).with_row_index("id")
    return frame.with_columns(pl.format("n{}", pl.col("id")).alias("id"))


def planted() -> pl.DataFrame:
    """All injected texts, and Spanish ones like them without the artefact; `of` is the document to be replaced."""
    maths, rows = training().filter(pl.col("source") == "gsm8k").head(MOST), []
    parts = {ending: (planted_texts.ended(maths["text"].to_list(), ending), maths) for ending in planted_texts.ENDINGS}
    for style, topic in planted_texts.TOPICS.items():
        of = news().filter(pl.col("topic") == topic).head(MOST)
        parts[style] = planted_texts.styled(of["text"].to_list(), style), of
    for kind, (texts, of) in parts.items():
        rows += [{"id": f"{kind}{i}", "text": t, "of": o} for i, (t, o) in enumerate(zip(texts, of["id"], strict=True))]
    for kind, emoticons in (("spanish", False), ("emoticon", True)):
        texts = planted_texts.spanish(SPANISH, emoticons=emoticons)
        rows += [{"id": f"{kind}{i}", "text": text, "of": None} for i, text in enumerate(texts)]
    return pl.DataFrame(rows)


def encoded(folder: Path, name: str, frame: pl.DataFrame) -> ConceptMatrix:
    """The store of these texts, with no column but the ids and what they stand for."""
    m = sd.encode(frame, store=folder / f"{name}.sae", text="text", id="id")
    return m.with_docs(m.docs.select("doc_id", *(["of"] if "of" in m.docs.columns else [])))


def documents(folder: Path) -> ConceptMatrix:
    """The 5,000 documents."""
    base, source = encoded(folder, "base", training()), training()["source"]
    kept = np.flatnonzero((source != "t0_prompts").to_numpy())
    rest = encoded(folder, "news", news()).take_docs(np.arange(N - len(kept)))
    return ConceptMatrix.concat([base.take_docs(kept), rest])


def injected(m: ConceptMatrix, texts: ConceptMatrix, kind: str, n: int) -> ConceptMatrix:
    """The documents with the artefact in `n` of them, in place of as many others."""
    names = [f"{kind}{i}" for i in range(n)]
    if kind == "emoticon":
        out = np.random.default_rng(5).choice(m.n_docs, SPANISH, replace=False)
        names += [f"spanish{i}" for i in range(n, SPANISH)]
    new = texts.take_docs(np.flatnonzero(texts.docs["doc_id"].is_in(names).to_numpy()))
    if kind != "emoticon":
        out = np.flatnonzero(m.docs["doc_id"].is_in(new.docs["of"].to_list()).to_numpy())
    kept = m.take_docs(np.setdiff1d(np.arange(m.n_docs), out))
    return ConceptMatrix.concat([kept, new.with_docs(new.docs.select("doc_id"))])


def first_group(result: CorrelateResult, kind: str, n: int) -> int | None:
    """The first group that shows the artefact."""
    mine = result.docs["doc_id"].str.starts_with(kind).to_numpy()
    for row in result.frame.iter_rows(named=True):
        if row["direction"] == "together" and n <= 2 * row["n_both"]:
            held = mine[result.rows(row["rank"])]
            if held.sum() >= max(n / 2, 0.75 * len(held)):
                return int(row["group"])
    return None


def permuted(folder: Path, runs: int) -> None:
    """Count runs with any finding, where fields are shuffled against each other."""
    m, rng, found = documents(folder), np.random.default_rng(0), 0
    for _ in range(runs):
        part = m.take_docs(np.sort(rng.choice(m.n_docs, 1_000, replace=False)))
        other = part.take_docs(rng.permutation(part.n_docs))
        other = other.with_docs(other.docs).__class__(
            other.X, part.docs.with_columns(other.docs["n_units"]), other.concepts, other.source
        )
        result = between_matrices(part, other, ("one", "other"), Options(without=["similar", "third", "few"]))
        found += result.frame.height > 0
    print(f"{found} of {runs} runs with shuffled fields show a finding")


def main() -> None:
    """Print a line for each artefact."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--injected", type=int, nargs="+", default=[10, 25, 50])
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--no-filter", nargs="+", default=[])
    parser.add_argument("--permuted", type=int, default=0)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    if options.permuted:
        permuted(options.folder, options.permuted)
        return
    m, texts = documents(options.folder), encoded(options.folder, "planted", planted())
    for n in options.injected:
        for kind in options.kinds:
            start = time.perf_counter()
            result = correlate(injected(m, texts, kind, n), without=options.no_filter)
            group = first_group(result, kind, n)
            took = time.perf_counter() - start
            print(f"{kind} in {n}: group {group} of {result.n_groups:,}; {result.removed}; {took:.0f} s", flush=True)


if __name__ == "__main__":
    main()
