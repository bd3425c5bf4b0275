"""Does the training data hold artefacts? What goes together between prompts and answers, and the rows behind it.

Usage: python recipes/find_artefacts.py [ROWS] [--fields prompt response] [--score score] [--export suspects.jsonl]
"""

from __future__ import annotations

import argparse

import saelens_data as sd

#: Groups shown and exported, and characters of an answer's end.
GROUPS, END = 5, 60


def main(data: str | None, fields: list[str], score: str, export: str | None, report: str | None) -> None:
    m = sd.encode(data or sd.datasets.load("artefacts"), fields=fields)
    r = sd.correlate_between(m, *fields)
    print(r.summary())
    suspects = r.documents(groups=GROUPS)
    for row in r.frame.unique("group", keep="first", maintain_order=True).head(GROUPS).iter_rows(named=True):
        print(f"\n{row['group']}: {row['label_a']} + {row['label_b']}")
        print(f"   {row['n_both']} rows have both, {row['expected']:.1f} would by chance")
        for text in suspects.filter(group=row["group"])[fields[1]].head(2):
            print(f"   … {' '.join(text.split())[-END:]}")
    if score in m.docs.columns:
        best = sd.correlate_with(m.field(fields[1]), score).frame.row(0, named=True)
        print(f"\n{score}: {best['mean_with']:.1f} with {best['label']}, {best['mean_without']:.1f} without")
    if export:
        suspects.write_ndjson(export)
        print(f"written: {export}, {suspects.height} rows")
    if report:
        print(f"written: {sd.write_correlate_report(r, report)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", nargs="?", help="rows of training data; the bundled ones without")
    parser.add_argument("--fields", nargs=2, default=["prompt", "response"], help="what is paired with what")
    parser.add_argument("--score", default="score", help="a column to pair with concepts, if it is there")
    parser.add_argument("--export", help="write the rows behind the first groups here")
    parser.add_argument("--report", help="also write a page to read")
    try:
        main(**vars(parser.parse_args()))
    except sd.SaelensDataError as error:
        parser.error(str(error))
