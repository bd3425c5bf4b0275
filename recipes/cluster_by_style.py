"""How do these texts group by style, whatever they are about? And by topic, however they are written?

Usage: python recipes/cluster_by_style.py [TEXTS] [-k 4] [--truth COLUMN --other COLUMN] [--report clusters.html]
"""

from __future__ import annotations

import argparse
from typing import Literal

import saelens_data as sd


def number_or_auto(word: str) -> int | Literal["auto"]:
    return "auto" if word == "auto" else int(word)


def main(data: str | None, k: int | Literal["auto"], truth: str | None, other: str | None, report: str | None) -> None:
    m = sd.encode(data or sd.datasets.load("crossed"))
    if not data:
        truth, other = "style", "topic"
    for by, without, follow, ignore in (
        ("writing style", "topic", truth, other),
        ("topic", "writing style", other, truth),
    ):
        r = sd.cluster(m, by, without=without, k=k, truth=follow, leakage=ignore)
        print(f"By {by}, without {without}: {r.summary()}")
        for row in r.frame.iter_rows(named=True):
            print(f"  {row['size']:>4} documents, e.g. {row['central']}: {row['name']}")
        for kind, column in (("truth", follow), ("leakage", ignore)):
            if column:
                agreement = r.quality[kind]
                print(f"  {kind}: of '{column}' it finds {agreement.accuracy:.0%} (chance {agreement.majority:.0%})")
        if report and by == "writing style":
            print(f"written: {sd.write_cluster_report(r, report)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", nargs="?", help="any texts; the bundled ones without")
    parser.add_argument("-k", type=number_or_auto, default=4, help="number of clusters, or auto")
    parser.add_argument("--truth", help="a column that clusters of style should follow, if there is one")
    parser.add_argument("--other", help="a column that they should not follow, if there is one")
    parser.add_argument("--report", help="also write a page with a map")
    try:
        main(**vars(parser.parse_args()))
    except sd.SaelensDataError as error:
        parser.error(str(error))
