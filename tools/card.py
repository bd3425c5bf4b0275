"""Write the card of an encoder from what was measured: ENCODER/README.md.

Usage: python tools/card.py saelens_data/assets/minilm-8k
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import polars as pl

COMMANDS = """```sh
python tools/stdlib_text.py build/stdlib.jsonl
saelens-data train sae_training_text.parquet build/stdlib.jsonl -o {name} --latents {latents} --k {k} --epochs {epochs}
python tests/benchmarks/probing.py --encoder {name} --out banking77.csv:intent ag_news_test.csv:topic
python tests/benchmarks/label_scores.py --encoder {name} --out banking77.csv ag_news_test.csv bills_1000.jsonl
python tools/card.py {name}
```"""

SOURCES = """
The texts are public; none of them is part of this repository, except for the excerpts of up to 160 characters in
`examples.parquet`, each with its source and licence.

| source | licence | what |
|---|---|---|
{rows}

One document in 50 was held out of training, and of its spans those count below whose wording occurs in no training
document: nearly half of the spans of any document of this corpus are templates that occur elsewhere.
"""


def card(folder: Path, name: str) -> str:
    """The card's text."""
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    config = json.loads((folder / "cfg.json").read_text(encoding="utf-8"))
    spec = json.loads((folder / "encoder.json").read_text(encoding="utf-8"))
    training, reader = config["metadata"]["training"], spec["reader"]
    parts = " + ".join(f"`{part['name']}` x {part['scale']:g}" for part in reader["parts"])
    return "\n".join(
        [
            f"# {name}\n",
            f"A span encoder: {reader['name']} reads sentence-sized spans of at most {reader['max_tokens']} tokens; a span's vector is",
            f"{parts} ({config['d_in']} numbers); a JumpReLU SAE of {config['d_sae']:,} latents, trained as a BatchTopK SAE with nested",
            f"groups of {', '.join(f'{g:,}' for g in config['metadata']['groups'])}, names what is in it. English; weights in float16.\n",
            "Made by these commands, with seed " + str(training["seed"]) + ":\n",
            COMMANDS.format(name=name, **training),
            "\n## What it was trained on",
            SOURCES.format(rows=_sources(metrics["sources"])),
            "## Measured\n",
            _figures(metrics),
            "\n## Probing\n",
            "Accuracy of logistic regression, three folds, its strength chosen by inner folds, on 5,000 documents of each set;",
            "the ratio is to the same probe on the reader's own embedding of the whole document. The random SAE has random",
            "directions and, latent by latent, the density of the trained one.\n",
            _probing(metrics.get("probing", [])),
            *_label_scores(metrics.get("label_scores")),
            "\n## Thirty labels, drawn at random\n",
            "A label is the phrases that best tell the spans of a latent from all others; *cover* is the share of 120 of its spans (the",
            "strongest sixty, and sixty over the rest of its range) that hold one of them. No language model was asked, and nothing",
            "was picked.\n",
            _labels(folder),
            "",
        ]
    )


def _sources(sources: list[dict[str, object]]) -> str:
    return "\n".join(f"| {s['source']} | {s['licence']} | {s['documents']:,} documents |" for s in sources)


def _figures(metrics: dict[str, object]) -> str:
    rows = [
        ("explained variance, held out", f"{metrics['explained_variance']:.3f}"),
        ("held-out spans, of a wording not trained on", f"{metrics['held_out_units']:,}"),
        ("training spans, each wording once", f"{metrics['training_units']:,}"),
        ("active latents per span", f"{metrics['active_per_unit']:.1f}"),
        ("active latents per document", f"{metrics['active_per_document']:.0f}"),
        (f"latents active on none of {metrics['units_for_labels']:,} training spans", f"{metrics['unused']:.2%}"),
        ("latents active on none of the held-out spans", f"{metrics['silent']:.2%}"),
        ("latents with a label", f"{metrics['labelled']:.1%}"),
    ]
    return "| | |\n|---|---|\n" + "\n".join(f"| {key} | {value} |" for key, value in rows)


def _probing(rows: list[dict[str, object]]) -> str:
    head = (
        "| set | features | active per document | accuracy | document embedding | ratio |\n|---|---|---|---|---|---|\n"
    )
    line = "| {set} | {features} | {active_per_document} | {accuracy:.3f} | {document_embedding:.3f} | {ratio:.3f} |"
    return head + "\n".join(line.format(**row) for row in rows)


def _label_scores(found: dict[str, object] | None) -> list[str]:
    if found is None:
        return []
    own, dealt = found["quantiles"], found["dealt"]
    rows = [
        f"| {name} | {' | '.join(f'{q:.2f}' for q in part.values())} |"
        for name, part in (("the labels", own), ("labels of other latents", dealt))
    ]
    return [
        "\n## How true the labels are\n",
        f"Embedding scoring: the AUC of the cosine between a label and spans that activate its latent against all others, over {found['spans']:,} spans of",
        f"texts that had no part in training or naming ({', '.join(found['files'])}), each wording once. {found['latents']:,} latents are active",
        f"on {found['least']} or more of these spans and have a label. 0.5 is chance; the second row deals each latent a label of another that is about as frequent.\n",
        "| AUC at the quantile | 5% | 25% | 50% | 75% | 95% |\n|---|---|---|---|---|---|",
        *rows,
        f"\nThe mean is {found['mean']:.2f}. For {found['above_chance']:.0%} of the labels the interval (95%) lies above 0.5; {found['below_half']:.0%} score below 0.5, and {found['above_0.9']:.0%} above 0.9. The rank",
        f"correlation with *cover* below is {found['spearman_with_cover']:.2f}: a cover is no substitute. Labels of frequent latents, of marks and of code score least.",
    ]


def _labels(folder: Path) -> str:
    concepts = pl.read_parquet(folder / "concepts.parquet")
    examples = pl.read_parquet(folder / "examples.parquet")
    chosen = np.sort(np.random.default_rng(0).choice(concepts.height, 30, replace=False)).tolist()
    lines = ["| latent | label | cover | share of spans | strongest span |", "|---|---|---|---|---|"]
    for row in concepts[chosen].iter_rows(named=True):
        top = examples.filter(pl.col("latent") == row["latent"])["text"].head(1).to_list()
        text = " ".join("".join(top).split()).replace("|", "\\|").replace("`", "'").replace("<", "&lt;")[:100]
        cover = "" if row["score"] is None else f"{row['score']:.0%}"
        lines.append(f"| {row['latent']} | {row['label'] or '(none)'} | {cover} | {row['span_density']:.3%} | {text} |")
    return "\n".join(lines)


if __name__ == "__main__":
    encoder = Path(sys.argv[1])
    (encoder / "README.md").write_text(card(encoder, encoder.name), encoding="utf-8")
