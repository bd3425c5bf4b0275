"""`saelens-data train`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from saelens_data.cli.options import say, stage_bars
from saelens_data.errors import InputError

if TYPE_CHECKING:
    import polars as pl

#: The columns that training knows: what is read, and what its card and examples name.
_COLUMNS = ("text", "source", "licence")


@click.command("train")
@click.argument("texts", nargs=-1, required=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Folder of the encoder to make.")
@click.option("--latents", type=click.IntRange(min=2), default=8192, show_default=True, help="Concepts to learn.")
@click.option(
    "--k", type=click.IntRange(min=1), default=64, show_default=True, help="Active latents a span or token, on average."
)
@click.option(
    "--epochs", type=click.IntRange(min=1), default=14, show_default=True, help="Passes over the spans or tokens."
)
@click.option("--batch", type=click.IntRange(min=16), default=1024, show_default=True, help="Spans or tokens a step.")
@click.option("--lr", type=click.FloatRange(min=0, min_open=True), default=1e-3, show_default=True, help="Peak rate.")
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True)
@click.option(
    "--reader", default=None, help="A sentence-transformers model, or any with --hook  [default: all-MiniLM-L6-v2]"
)
@click.option("--part", "parts", multiple=True, help="final or layer.N, repeatable  [default: final, layer.3]")
@click.option("--hook", metavar="HOOK", help="Read tokens instead of spans: layer.N, or layer.N.mlp_out and the like.")
@click.option("--tokens", type=click.IntRange(min=1), help="With --hook: tokens drawn from each text  [default: 32]")
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
    hook: str | None,
    tokens: int | None,
    text: str | None,
    limit: int | None,
    overwrite: bool,
) -> None:
    """Train an encoder on texts. Run it again after an interruption, and it goes on from its last checkpoint.

    \b
    Example: saelens-data train texts.parquet -o my-encoder --latents 8192 --k 64
    Example: saelens-data train texts.parquet -o token-encoder --hook layer.4 --k 32
    """
    from saelens_data.readers.weights import MINILM
    from saelens_data.sae.train import TrainConfig
    from saelens_data.store.files import explained
    from saelens_data.training import DEFAULT_PARTS, TOKENS_PER_TEXT, train

    if hook and parts:
        raise InputError("--part is for spans and --hook for tokens: leave one out")
    if tokens and not hook:
        raise InputError("--tokens is for an encoder that reads tokens: name its --hook too")
    config = TrainConfig(latents=latents, k=k, epochs=epochs, batch=batch, lr=lr, seed=seed)
    _refuse_foreign(output)
    docs = _read(texts, text, limit)
    with explained(output), stage_bars() as progress:
        train(
            docs,
            output,
            config=config,
            reader=reader or MINILM,
            parts=parts or DEFAULT_PARTS,
            hook=hook,
            tokens_per_text=tokens or TOKENS_PER_TEXT,
            overwrite=overwrite,
            progress=progress,
        )
    say(f"wrote {output}: use it with --encoder {output}")


def _refuse_foreign(folder: Path) -> None:
    """Raise InputError for a file, and for a folder with what no training wrote."""
    from saelens_data import encoders

    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file, not the folder of an encoder: choose another name")
    own = {encoders.CONFIG_FILE, encoders.WEIGHTS_FILE, encoders.CONCEPTS_FILE, encoders.EXAMPLES_FILE}
    own |= {encoders.METRICS_FILE, encoders.ENCODER_FILE}
    encoder = (folder / encoders.ENCODER_FILE).is_file()
    others = sorted({path.name for path in folder.iterdir()} - own) if folder.is_dir() and not encoder else []
    if others:
        raise InputError(f"{folder} is not an encoder (it holds {others[0]}) and is left as it is: choose another name")


def _read(sources: tuple[str, ...], text: str | None, limit: int | None) -> pl.DataFrame:
    """The documents of all sources, numbered. Raises InputError if none of them holds a word."""
    import polars as pl

    from saelens_data.corpus import read_corpus

    frames = []
    for source in sources:
        corpus = read_corpus(source, text=text, limit=limit)
        for note in corpus.notes:
            say(f"{source}: {note}")
        frames.append(corpus.docs.select(c for c in _COLUMNS if corpus.docs.schema.get(c) == pl.String))
    docs = pl.concat(frames, how="diagonal").with_row_index("doc_id").cast({"doc_id": pl.String})
    if not docs["text"].str.contains(r"\S").any():
        raise InputError(f"there is no text to train on in {', '.join(sources)}: give other sources")
    return docs
