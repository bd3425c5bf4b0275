"""Write tests/data/store_v1.sae, a store of format 1 that every later version has to open.

Run once, with the version that introduced the format; the files are kept, never written again.
"""

from pathlib import Path

import numpy as np
import polars as pl

from saelens_data.matrix import CONCEPT_SCHEMA, Source, Units
from saelens_data.store import Shard, StoreWriter

HERE = Path(__file__).parent


def main() -> None:
    docs = pl.DataFrame(
        {
            "doc_id": ["a", "β", "c/3", "d"],
            "text": ["One. Two.", "", None, "Three 🙂 four."],
            "model": ["A", "B", "A", None],
            "year": [1999, 2001, None, 2024],
        }
    )
    concepts = pl.DataFrame(
        {
            "latent": [2, 5, 7],
            "label": ["numbers", "faces", None],
            "explanation": ["Words for numbers.", None, None],
            "score": [0.75, None, None],
            "origin": ["hand", "hand", None],
        },
        schema=CONCEPT_SCHEMA,
    )
    source = Source(
        encoder="tiny",
        reader="tiny-reader",
        reader_sha256="11" * 32,
        sae="tiny-sae",
        sae_sha256="22" * 32,
        hook="final",
        limits={"span_tokens": 8},
        dtype="bfloat16",
        versions={"numpy": "2.4.6"},
    )
    first = Shard(
        indptr=np.array([0, 2, 2], np.int64),
        latents=np.array([2, 7], np.int32),
        maxima=np.array([1.5, 0.25], np.float32),
        means=np.array([1.0, 0.125], np.float32),
        unit=np.array([1, 0], np.int32),
        units=Units(np.array([0, 2, 2], np.int64), np.array([0, 5], np.int32), np.array([4, 9], np.int32)),
        n_tokens=np.array([4, 0], np.int64),
        errors=[None, None],
    )
    second = Shard(
        indptr=np.array([0, 0, 2], np.int64),
        latents=np.array([2, 5], np.int32),
        maxima=np.array([2.0, 3.5], np.float32),
        means=np.array([2.0, 3.5], np.float32),
        unit=np.array([0, 0], np.int32),
        units=Units(np.array([0, 0, 1], np.int64), np.array([0], np.int32), np.array([13], np.int32)),
        n_tokens=np.array([0, 3], np.int64),
        errors=["there is no text", None],
    )
    settings = {"docs": docs, "concepts": concepts, "source": source, "plan": [(0, 2), (2, 4)], "digest": "33" * 32}
    with StoreWriter(HERE / "store_v1.sae", **settings) as writer:
        for number, shard in enumerate((first, second)):
            writer.write_shard(number, shard)
        writer.finish()


if __name__ == "__main__":
    main()
