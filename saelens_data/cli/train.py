"""`saelens-data train`."""

from __future__ import annotations

from pathlib import Path

import click

from saelens_data.cli.options import say


@click.command("train")
@click.argument("texts", nargs=-1, required=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Folder of the encoder to make.")
@click.option("--latents", type=click.IntRange(min=2), default=8192, show_default=True, help="Concepts to learn.")
@click.option(
    "--k", type=click.IntRange(min=1), default=64, show_default=True, help="Active latents a span, on average."
)
@click.option("--epochs", type=click.IntRange(min=1), default=8, show_default=True, help="Passes over the spans.")
@click.option("--batch", type=click.IntRange(min=16), default=1024, show_default=True, help="Spans a step.")
@click.option("--lr", type=click.FloatRange(min=0, min_open=True), default=1e-3, show_default=True, help="Peak rate.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--reader", default=None, help="A sentence-transformers model  [default: all-MiniLM-L6-v2]")
@click.option("--part", "parts", multiple=True, help="final or layer.N, repeatable  [default: final, layer.3]")
@click.option("--text", metavar="COL", help="Column that holds the text.")
@click.option("--limit", type=click.IntRange(min=1), help="Read this many documents of each source only.")
@click.option("--overwrite", is_flag=True, help="Replace an encoder of this name.")
def train_command(
    texts: tuple[str, ...],
    output: Path,
    latents: int,
    k: int,
    epochs: int,
    batch: int,
    lr: float,
    seed: int,
    reader: str | None,
    parts: tuple[str, ...],
    text: str | None,
    limit: int | None,
    overwrite: bool,
) -> None:
    """Train an encoder on texts. Run it again after an interruption, and it goes on from its last checkpoint.

    \b
    Example: saelens-data train texts.parquet -o my-encoder --latents 8192 --k 64
    """
    import polars as pl
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from saelens_data.corpus import read_corpus
    from saelens_data.readers.weights import MINILM
    from saelens_data.sae.train import TrainConfig
    from saelens_data.training import DEFAULT_PARTS, train

    config = TrainConfig(latents=latents, k=k, epochs=epochs, batch=batch, lr=lr, seed=seed)
    frames = [read_corpus(source, text=text, limit=limit).docs for source in texts]
    docs = pl.concat([frame.select(pl.col("^(text|source|licence)$")) for frame in frames], how="diagonal_relaxed")
    docs = docs.with_row_index("doc_id").cast({"doc_id": pl.String})
    bar = Progress(
        TextColumn("{task.description:10}"), BarColumn(), TextColumn("{task.completed}/{task.total} {task.fields[detail]}"),
        TimeRemainingColumn(), console=Console(stderr=True),
    )  # fmt: skip
    with bar:
        tasks: dict[str, object] = {}

        def report(stage: str, done: int, total: int, detail: str) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=total, detail=detail)
            bar.update(tasks[stage], completed=done, total=total, detail=detail)  # type: ignore[arg-type]

        train(
            docs, output, config=config, reader=reader or MINILM, parts=parts or DEFAULT_PARTS, overwrite=overwrite,
            progress=report,
        )  # fmt: skip
    say(f"wrote {output}: use it with --encoder {output}")
