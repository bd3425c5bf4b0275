"""How do I use the concepts in pandas and scikit-learn? A table, a classifier with its reasons, and a pipeline.

Usage: python recipes/use_a_store.py [TEXTS or STORE] [--target model] [--group prompt] [--csv documents.csv]
"""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd
import polars as pl
from polars import selectors as cs
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler

import saelens_data as sd
from saelens_data.store import is_store


def main(data: str | None, target: str, group: str, csv: str | None) -> None:
    m = sd.open(data) if data and is_store(data) else sd.encode(data or sd.datasets.load("habits"))
    if target not in m.docs.columns:
        raise sd.SaelensDataError(f"there is no column '{target}': name one with --target; {', '.join(m.docs.columns)}")
    m = m.filter_docs(pl.col(target).is_not_null())
    grouped = group in m.docs.columns
    if m.docs[target].n_unique() < 2 or m.docs[group if grouped else "doc_id"].n_unique() < 5:
        raise sd.SaelensDataError(f"give at least two values of '{target}', and five documents of different '{group}'")
    X, y = m.X, m.docs[target].cast(pl.String).to_numpy()  # documents x latents, sparse, as scikit-learn takes it
    # Answers to one prompt stay together, so that a prompt cannot help to find itself.
    folds = GroupKFold(5) if grouped else KFold(5, shuffle=True, random_state=0)
    groups = m.docs[group].to_numpy() if grouped else None
    model = make_pipeline(MaxAbsScaler(), LogisticRegression(C=1.0, max_iter=1000))
    scores = cross_val_score(model, X, y, groups=groups, cv=folds)
    print(f"{m.n_docs} documents, {len(set(y))} values of '{target}': accuracy {scores.mean():.3f} in 5 folds")
    weights = model.fit(X, y)[-1].coef_[-1]
    print(f"what speaks most for {model[-1].classes_[-1]}, and against it:")
    names = [f"{latent} {label}" for latent, label in m.concepts.select("latent", "label").iter_rows()]
    order = np.argsort(weights)
    for j in [*order[::-1][:4], *order[:4]]:
        print(f"  {weights[j]:+.2f}  {names[j]}")
    # The ten most telling concepts as columns of a pandas table, beside the columns of the source.
    best = np.sort(np.argsort(-np.abs(weights))[:10])
    table = pd.DataFrame.sparse.from_spmatrix(X[:, best], columns=[names[j] for j in best])
    docs = m.docs.select(~cs.nested()).to_pandas()
    means = pd.concat([docs[[target]], table.sparse.to_dense()], axis=1).groupby(target).mean()
    print(means.T.round(3).to_string())
    if csv:
        pd.concat([docs, table.sparse.to_dense()], axis=1).to_csv(csv, index=False)
        print(f"written: {csv}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", nargs="?", help="texts or a store; the bundled answers without")
    parser.add_argument("--target", default="model", help="the column to predict")
    parser.add_argument("--group", default="prompt", help="equal values stay in one fold, where there is this column")
    parser.add_argument("--csv", help="also write the table of documents")
    try:
        main(**vars(parser.parse_args()))
    except sd.SaelensDataError as error:
        parser.error(str(error))
