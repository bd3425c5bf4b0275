"""Does length alone make findings? Concepts that fire independently, as often in every unit, in documents of any length.

    python tests/benchmarks/correlate_length.py [--documents 5000] [--concepts 600] [--runs 3]

A concept is in a document of n units with the chance 1 - exp(-rate n), so that longer documents hold more of all, and
nothing else ties them. Lengths fall off as those of mixed text do (half of the documents have one or two units, a
twentieth more than fifteen). Printed are the findings with the filter "length" for wider and narrower strata, and without.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import polars as pl
from scipy.sparse import csr_array

from saelens_data.correlate import correlate
from saelens_data.matrix import ConceptMatrix
from saelens_data.stats import strata

sys.path.insert(0, str(Path(__file__).parents[1]))
from synthetic import SOURCE, concepts

OTHERS = ("third", "similar", "spans", "usual")


def documents(rng: np.random.Generator, n: int, d: int) -> ConceptMatrix:
    """Documents whose length is all that their concepts have in common."""
    length = np.minimum(1 + (rng.pareto(1.1, n) * 1.2).astype(np.int64), 80)
    rates = np.exp(rng.uniform(np.log(0.001), np.log(0.1), d))
    held = rng.random((n, d), dtype=np.float32) < -np.expm1(-np.outer(length, rates))
    docs = pl.DataFrame({"doc_id": [str(i) for i in range(n)], "n_units": length})
    return ConceptMatrix(csr_array(held.astype(np.float32)), docs, concepts(range(d)), SOURCE)


def main() -> None:
    """Print a line for each width of strata."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--documents", type=int, default=5_000)
    parser.add_argument("--concepts", type=int, default=600)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    sets = [documents(np.random.default_rng(k), options.documents, options.concepts) for k in range(options.runs)]
    print("units a document, 5%, 50%, 95%:", np.percentile(sets[0].docs["n_units"], [5, 50, 95]).tolist())
    print("without:", [correlate(m, without=[*OTHERS, "length"]).frame.height for m in sets])
    for ratio in (3.0, 2.0, 1.5, 1.25):
        strata.RATIOS = ((ratio, 1),)
        print(f"lengths of a stratum within {ratio:g}:", [correlate(m, without=OTHERS).frame.height for m in sets])


if __name__ == "__main__":
    main()
