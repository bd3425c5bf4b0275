"""`saelens-data train`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from saelens_data.cli.options import READING, number, option, seed_option, verb
from saelens_data.cli.output import say, stage_bars
from saelens_data.errors import InputError

if TYPE_CHECKING:
    import polars as pl

#: The columns that training knows: what is read, and what its card and examples name.
_COLUMNS = ("text", "source", "licence")


@verb(
    "train",
    "train texts.parquet -o my-encoder --latents 8192 --k 64",
    "train texts.parquet -o token-encoder --hook layer.4 --k 32",
)
@click.argument("texts", nargs=-1, required=True)
@option("-o", "--output", type=click.Path(path_type=Path), metavar="FOLDER", required=True, help="The encoder to make.")
@option("--overwrite", is_flag=True, help="Replace an encoder of this name.")
@number("--latents", least=2, default=8192, help="Concepts to learn.")
@number("--k", least=1, default=64, help="Active latents of a span or token, on average.")
@number("--epochs", least=1, default=14, help="Passes over the spans or tokens.")
@number("--batch", least=16, default=1024, help="Spans or tokens in a step.")
@option("--lr", type=click.FloatRange(min=0, min_open=True), metavar="RATE", default=1e-3, help="Peak learning rate.")
@seed_option
@option(
    "--reader",
    metavar="MODEL",
    section=READING,
    help="A sentence-transformers model, or any with --hook.  [default: all-MiniLM-L6-v2]",
)
@option(
    "--part",
    "parts",
    metavar="PART",
    multiple=True,
    section=READING,
    help="final or layer.N; repeatable.  [default: final, layer.3]",
)
@option("--hook", metavar="HOOK", section=READING, help="Read tokens, not spans: layer.N, layer.N.mlp_out, ...")
@number("--tokens", least=1, section=READING, help="With --hook: tokens drawn from each text.  [default: 32]")
@option("--text", metavar="COL", section=READING, help="The column that holds the text, where it is not found.")
@number("--limit", least=1, section=READING, help="Read this many documents of each source only.")
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
    """Train an encoder on texts.

    Run it again after an interruption, and it goes on from its last checkpoint.
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
