"""What are the leading differences about, in a language model's words? Labels by a model of your own, each proved.

Usage: python recipes/label_locally.py [ANSWERS] --model NAME [--base-url http://localhost:8000/v1] [--column model]
"""

from __future__ import annotations

import argparse

import polars as pl

import saelens_data as sd
from saelens_data.labels.settings import LabelSettings


def main(data: str | None, model: str, base_url: str | None, column: str, n: int, max_calls: int) -> None:
    m = sd.encode(data or sd.datasets.load("habits"))
    if column not in m.docs.columns:
        raise sd.SaelensDataError(f"there is no column '{column}': name one with --column; {', '.join(m.docs.columns)}")
    first = m.docs[column].drop_nulls().sort()[0]
    d = sd.diff(m.filter_docs(pl.col(column) == first), m.filter_docs(pl.col(column) != first))
    latents = d.findings["latent"].head(n).to_list()
    if not latents:
        raise sd.SaelensDataError(f"the sets of '{column}' do not differ in any concept: there is nothing to label")
    settings = LabelSettings(price=(0, 0))  # a server of your own costs nothing; put dollars per million tokens here
    print(sd.plan_labels(m, latents, model=model, base_url=base_url, settings=settings).summary())
    result = sd.label(m, latents, model=model, base_url=base_url, max_calls=max_calls, settings=settings)
    print(result.summary())
    for row in result.frame.iter_rows(named=True):
        print(f"\n{row['latent']}: {row['before']}  ->  {row['label']}")
        if row["score"] is None:
            print(f"  not judged: {row['why']}")
            continue
        proof = f"detection {row['score']:.2f} [{row['score_low']:.2f}, {row['score_high']:.2f}]"
        print(f"  {proof}, the label before {row['before_score']:.2f}: {'used' if row['used'] else row['why']}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", nargs="?", help="texts with a column of two values; the bundled answers without")
    parser.add_argument("--model", required=True, help="as the server names it")
    parser.add_argument("--base-url", help="any OpenAI-compatible endpoint; $OPENAI_BASE_URL, else OpenAI's")
    parser.add_argument("--column", default="model", help="makes the two sets that are compared")
    parser.add_argument("-n", type=int, default=3, help="leading findings to label")
    parser.add_argument("--max-calls", type=int, default=200, help="send no more than these")
    try:
        main(**vars(parser.parse_args()))
    except sd.SaelensDataError as error:
        parser.error(str(error))
