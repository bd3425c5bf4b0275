"""What does a language model itself make of these texts? Its states at a layer, named by a published SAE.

Usage: python recipes/real_lm.py [TEXTS] --reader MODEL --layer 19 --sae FILE [--field response] [--limit 200]
"""

from __future__ import annotations

import argparse

import numpy as np

import saelens_data as sd


def main(data: str | None, limit: int | None, field: str | None, n: int, **parts: str | int | None) -> None:
    source = data or sd.datasets.load("artefacts").paths[0]
    m = sd.encode(source, limit=limit, field=field, **parts)  # type: ignore[arg-type]
    print(m)
    for name, value in sorted(m.source.checks.items()):
        print(f"  {name}: {value:.3g}")
    n_active = np.bincount(m.X.indices, minlength=m.n_concepts)
    # What nearly all texts have says little, and what one text has says nothing.
    common = np.flatnonzero((n_active >= 5) & (n_active <= m.n_docs / 2))
    if not len(common):
        print("no concept is in 5 documents or more and in no more than half of them: give more texts")
    for latent in m.concepts["latent"].to_numpy()[common[np.argsort(-n_active[common], kind="stable")][:n]]:
        label = m.concepts.filter(latent=int(latent))["label"][0] or "no label"
        print(f"\n{latent} ({label}), in {n_active[latent]} of {m.n_docs} documents")
        for row in sd.examples(m, latent=int(latent), n=2).frame.iter_rows(named=True):
            around = f"{row['before'][-40:]}>>{row['text']}<<{row['after'][:40]}"
            print(f"  {row['doc_id']} {row['activation']:.2f}  {' '.join(around.split())}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", nargs="?", help="texts or conversations; bundled ones without")
    parser.add_argument("--reader", help="a model on disk or by its name on the hub")
    parser.add_argument("--layer", type=int, help="counted from 0")
    parser.add_argument("--sae", help="file or folder of the SAE, in any known layout")
    parser.add_argument("--release", help="instead of --sae: of SAELens's catalogue")
    parser.add_argument("--sae-id", help="the SAE of that release")
    parser.add_argument("--device", help="cuda, cpu, ...")
    parser.add_argument("--field", help="response, prompt, system or all, of conversations")
    parser.add_argument("--limit", type=int, help="read so many documents only")
    parser.add_argument("-n", type=int, default=5, help="concepts to show")
    try:
        main(**vars(parser.parse_args()))
    except sd.SaelensDataError as error:
        parser.error(str(error))
