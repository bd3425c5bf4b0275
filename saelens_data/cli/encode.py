"""`saelens-data encode`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from saelens_data.cli.options import READING, encoder_options, option, reader_options, text_options, verb
from saelens_data.cli.output import progress_bar, say
from saelens_data.cli.source import refuse_empty
from saelens_data.errors import InputError
from saelens_data.wording import count

if TYPE_CHECKING:
    from saelens_data.matrix import ConceptMatrix


@verb(
    "encode",
    "encode answers.jsonl -o answers.sae",
    "encode chats.jsonl --field prompt --field response",
    "encode answers.jsonl --reader MODEL --layer 19 --sae SAE_FOLDER",
)
@click.argument("source")
@option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="STORE",
    help="The store to write.  [default: SOURCE.sae, beside it]",
)
@option("--overwrite", is_flag=True, help="Replace a store that holds something else.")
@reader_options
@text_options
@option(
    "--field",
    "fields",
    multiple=True,
    metavar="NAME",
    section=READING,
    help="The field to read of conversations: response, prompt, system or all; repeatable.",
)
@encoder_options
def encode_command(
    source: str,
    output: Path | None,
    text: str | None,
    id_: str | None,
    limit: int | None,
    fields: tuple[str, ...],
    encoder: str,
    dtype: str,
    device: str | None,
    overwrite: bool,
    **parts: Any,
) -> None:
    """Encode texts into a store.

    Run it again after an interruption, and it goes on where it stopped. Of conversations, several fields are kept in
    one store.
    """
    from saelens_data.corpus import read_corpus
    from saelens_data.encode import encode
    from saelens_data.encoders import Address, check_encoder

    if any(part is not None for part in parts.values()):
        if click.get_current_context().get_parameter_source("encoder") is ParameterSource.COMMANDLINE:
            raise InputError("--encoder and a reader with an SAE are both given: leave one out")
        encoder = str(Address.of(**parts))
    check_encoder(encoder)
    corpus = refuse_empty(read_corpus(source, text=text, id=id_, limit=limit), source)
    store = output or _beside(Path(source).expanduser(), corpus.name)
    say(f"{source}: {count(corpus.docs.height, 'document')}, layout: {corpus.schema}")
    read = [corpus.field(name) for name in fields] or [corpus]
    for note in dict.fromkeys(note for part in read for note in part.notes):
        say(f"  {note}")
    with progress_bar(f"encoding {Path(source).name}") as progress:
        m = encode(
            corpus,
            store=store,
            encoder=encoder,
            fields=fields,
            dtype=dtype,
            device=device,
            overwrite=overwrite,
            progress=progress,
        )
    for name in m.fields:
        _tell(store, m.field(name), name if fields else "")


def _tell(store: Path, m: ConceptMatrix, field: str) -> None:
    """Say what a store holds, and which documents could not be encoded."""
    failed = m.docs.filter(m.docs["error"].is_not_null())
    for doc_id, error in failed.select("doc_id", "error").head(5).iter_rows():
        say(f"  not encoded: document '{doc_id}': {error}")
    if failed.height > 5:
        say(f"  and {failed.height - 5:,} more: see the column 'error'")
    spans = count(int(m.docs["n_units"].sum()), m.source.unit)
    of = f", field {field}" if field else ""
    say(f"{store}{of}: {count(m.n_docs, 'document')}, {spans}, {count(m.X.nnz, 'activation')}")


def _beside(source: Path, name: str) -> Path:
    """NAME.sae in the folder that holds the source, which may be `.` or `..`."""
    return (source if source.name.strip(".") else source.resolve()).parent / f"{name}.sae"
