"""What did a new release change? Answers of several versions, and what rises or falls from one to the next.

Usage: python recipes/what_changed.py [ANSWERS] [--column version] [--prompts prompt] [--report trend.html]
"""

from __future__ import annotations

import argparse

import numpy as np
import polars as pl

import saelens_data as sd

#: Of 80 answers of each made version, those of the bundled assistant B; the others are of A.
MADE = {"1.0": 4, "1.1": 28, "1.2": 52, "1.3": 76}


def made_versions() -> sd.ConceptMatrix:
    """The bundled answers dealt out to four versions, in which assistant B takes A's place step by step."""
    m = sd.encode(sd.datasets.load("habits"))
    rng = np.random.default_rng(0)
    dealt = {}
    for model, counts in (("A", [80 - n for n in MADE.values()]), ("B", list(MADE.values()))):
        ids = rng.permutation(m.docs.filter(model=model)["doc_id"].to_list())
        dealt |= dict(zip(ids, np.repeat(list(MADE), counts), strict=True))
    return m.with_docs(pl.DataFrame({"doc_id": list(dealt), "version": [str(v) for v in dealt.values()]}))


def main(data: str | None, column: str, prompts: str, report: str | None) -> None:
    m = sd.encode(data) if data else made_versions()
    t = sd.trend(m, column, cluster_on=prompts if prompts in m.docs.columns else None)
    print(t.summary())
    print(f"{'by step':>8}  {'95% interval':<16} {'first to last':<22} concept")
    for row in t.frame.filter("finding").head(10).iter_rows(named=True):
        interval = f"[{row['slope_low']:+.0%}, {row['slope_high']:+.0%}]"
        steps = " ".join(f"{share:.0%}" for share in row["densities"])
        print(f"{row['slope']:>+8.0%}  {interval:<16} {steps:<22} {row['label']}")
    print("\nEach version against the others:", sd.diff_many(m, column).summary())
    if report:
        print(f"written: {sd.write_many_report(t, report)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", nargs="?", help="answers of all versions in one file; made from bundled ones without")
    parser.add_argument("--column", default="version", help="says of which version an answer is")
    parser.add_argument("--prompts", default="prompt", help="what was asked, where several versions answered it")
    parser.add_argument("--report", help="also write a page to read")
    try:
        main(**vars(parser.parse_args()))
    except sd.SaelensDataError as error:
        parser.error(str(error))
