"""How do the answers of two models differ? A file of answers with a column that says whose each one is.

Usage: python recipes/compare_models.py [ANSWERS] [--column model] [--pair-on prompt] [--report diff.html]
"""

from __future__ import annotations

import argparse

import polars as pl

import saelens_data as sd


def main(data: str | None, column: str, pair_on: str, report: str | None) -> None:
    m = sd.encode(data or sd.datasets.load("habits"))
    if column not in m.docs.columns:
        raise sd.SaelensDataError(f"there is no column '{column}': name one with --column; {', '.join(m.docs.columns)}")
    values = m.docs[column].drop_nulls().unique().sort().to_list()
    if len(values) != 2:
        raise sd.SaelensDataError(f"'{column}' has {len(values)} values, and two are compared: saelens-data diff --by")
    a, b = (m.filter_docs(pl.col(column) == value) for value in values)
    d = sd.diff(a, b, pair_on=pair_on if pair_on in m.docs.columns else None, names=(str(values[0]), str(values[1])))
    print(d.summary())
    for row in d.findings.head(5).iter_rows(named=True):
        low, high = sorted((row["ci_low"], row["ci_high"]))
        print(f"\n{row['label']}: {row['density_a']:.0%} of {values[0]}, {row['density_b']:.0%} of {values[1]}")
        print(f"  difference {row['difference']:+.0%} [{low:+.0%}, {high:+.0%}], q = {row['q_value']:.1g}")
        more = a if row["difference"] > 0 else b
        best = sd.examples(more, latent=row["latent"], n=1).frame.row(0, named=True)
        print(f"  {best['doc_id']}: {best['text'].strip()}")
    if report:
        print(f"\nwritten: {sd.write_diff_report(d, report)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", nargs="?", help="answers, both models' in one file; the bundled ones without")
    parser.add_argument("--column", default="model", help="says whose an answer is")
    parser.add_argument("--pair-on", default="prompt", help="what both answered, where the file has it")
    parser.add_argument("--report", help="also write a page to read")
    try:
        main(**vars(parser.parse_args()))
    except sd.SaelensDataError as error:
        parser.error(str(error))
