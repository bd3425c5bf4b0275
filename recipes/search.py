"""Which documents have a property? Asked by words, by a query of several, and by examples.

Usage: python recipes/search.py [TEXTS] [--phrase "compares it with a football match"] [--also "money"] [-n 5]
"""

from __future__ import annotations

import argparse

import saelens_data as sd


def shown(title: str, found: sd.Result) -> list[str]:
    """Print the documents of a result, each with the sentence that made it be found; return their ids."""
    print(f"\n{title}")
    for row in found.frame.iter_rows(named=True):
        mark = row["evidence"][0] if row["evidence"] else {"start": 0, "end": 80}
        print(
            f"  {row['rank']}. {row['doc_id']} ({row['score']:.2f})  {row['text'][mark['start'] : mark['end']].strip()}"
        )
    return found.frame["doc_id"].to_list()


def main(data: str | None, phrase: str, also: str, n: int) -> None:
    m = sd.encode(data or sd.datasets.load("habits"))
    concepts = sd.find_concepts(m, phrase, n=3).frame
    print(f"Concepts nearest to '{phrase}':")
    for row in concepts.iter_rows(named=True):
        print(f"  {row['latent']} {row['label']}: {'fits' if row['fits'] else 'does not fit'}, in {row['density']:.0%}")
    ids = shown(f"By words: {phrase}", sd.retrieve(m, phrase, n=n))
    shown(f"And not {also}, and long", sd.retrieve(m, f'"{phrase}" and not "{also}" and length > 500', n=n))
    shown(f"Like {' and '.join(ids[:2])}", sd.retrieve(m, like=ids[:2], n=n))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", nargs="?", help="any texts; the bundled answers without")
    parser.add_argument("--phrase", default="compares it with a football match")
    parser.add_argument("--also", default="money", help="what they should not be about")
    parser.add_argument("-n", type=int, default=5, help="documents to show")
    try:
        main(**vars(parser.parse_args()))
    except sd.SaelensDataError as error:
        parser.error(str(error))
