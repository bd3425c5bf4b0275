"""`saelens-data encode`."""

from __future__ import annotations

from pathlib import Path

import click

from saelens_data.cli.options import corpus_options, encoder_options, progress_bar, say


@click.command("encode")
@click.argument("source")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Store to write  [default: SOURCE with .sae]")
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

    corpus = read_corpus(source, text=text, id=id_, limit=limit)
    store = output or Path(source.rstrip("/")).with_suffix(".sae")
    say(f"{source}: {corpus.docs.height:,} documents, layout: {corpus.schema}")
    for note in corpus.notes:
        say(f"  {note}")
    with progress_bar(f"encoding {Path(source).name}") as progress:
        m = encode(corpus, store=store, encoder=encoder, dtype=dtype, overwrite=overwrite, progress=progress)
    failed = m.docs.filter(m.docs["error"].is_not_null())
    for doc_id, error in failed.select("doc_id", "error").head(5).iter_rows():
        say(f"  not encoded: document '{doc_id}': {error}")
    if failed.height > 5:
        say(f"  and {failed.height - 5:,} more: see the column 'error'")
    say(f"{store}: {m.n_docs:,} documents, {m.docs['n_units'].sum():,} spans, {m.X.nnz:,} activations")
