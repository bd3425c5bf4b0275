"""`saelens-data encode`."""

from __future__ import annotations

from pathlib import Path

import click

from saelens_data.cli.options import corpus_options, encoder_options, progress_bar, say
from saelens_data.wording import count


@click.command("encode")
@click.argument("source")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Store to write  [default: SOURCE.sae, beside it]"
)
@corpus_options
@encoder_options
@click.option("--overwrite", is_flag=True, help="Replace a store that holds something else.")
def encode_command(
    source: str,
    output: Path | None,
    text: str | None,
    id_: str | None,
    limit: int | None,
    encoder: str,
    dtype: str,
    overwrite: bool,
) -> None:
    """Encode texts into a store. Run it again after an interruption, and it goes on where it stopped.

    \b
    Example: saelens-data encode answers.jsonl -o answers.sae
    """
    from saelens_data.corpus import read_corpus
    from saelens_data.encode import encode
    from saelens_data.encoders import find_encoder

    find_encoder(encoder)
    corpus = read_corpus(source, text=text, id=id_, limit=limit)
    store = output or _beside(Path(source).expanduser(), corpus.name)
    say(f"{source}: {count(corpus.docs.height, 'document')}, layout: {corpus.schema}")
    for note in corpus.notes:
        say(f"  {note}")
    with progress_bar(f"encoding {Path(source).name}") as progress:
        m = encode(corpus, store=store, encoder=encoder, dtype=dtype, overwrite=overwrite, progress=progress)
    failed = m.docs.filter(m.docs["error"].is_not_null())
    for doc_id, error in failed.select("doc_id", "error").head(5).iter_rows():
        say(f"  not encoded: document '{doc_id}': {error}")
    if failed.height > 5:
        say(f"  and {failed.height - 5:,} more: see the column 'error'")
    spans = count(int(m.docs["n_units"].sum()), "span")
    say(f"{store}: {count(m.n_docs, 'document')}, {spans}, {count(m.X.nnz, 'activation')}")


def _beside(source: Path, name: str) -> Path:
    """NAME.sae in the folder that holds the source, which may be `.` or `..`."""
    return (source if source.name.strip(".") else source.resolve()).parent / f"{name}.sae"
