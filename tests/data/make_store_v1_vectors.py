"""Write tests/data/store_v1_vectors.sae, a store of format 1 with vectors that every later version has to open.

Run once, with the version that introduced the vectors; the files are kept, never written again.
"""

from pathlib import Path

import numpy as np
import polars as pl

from saelens_data.matrix import CONCEPT_SCHEMA, Source, Units
from saelens_data.store import Shard, StoreWriter

HERE = Path(__file__).parent


def main() -> None:
    docs = pl.DataFrame({"doc_id": ["a", "b", "c"], "text": ["One. Two.", "", "Three."]})
    concepts = pl.DataFrame({"latent": [2, 5], "label": ["numbers", None]}).select(
        (pl.col(name) if name in ("latent", "label") else pl.lit(None)).cast(dtype).alias(name)
        for name, dtype in CONCEPT_SCHEMA.items()
    )
    source = Source("tiny", "tiny-reader", "11" * 32, "tiny-sae", "22" * 32, "final+layer.1")
    first = Shard(
        indptr=np.array([0, 1, 1], np.int64),
        latents=np.array([2], np.int32),
        maxima=np.array([1.5], np.float32),
        means=np.array([1.0], np.float32),
        unit=np.array([1], np.int32),
        units=Units(np.array([0, 2, 2], np.int64), np.array([0, 5], np.int32), np.array([4, 9], np.int32)),
        n_tokens=np.array([4, 0], np.int64),
        errors=[None, None],
        vectors=np.float16([[0.6, 0, -0.8], [0, 0, 0]]),
    )
    second = Shard(
        indptr=np.array([0, 2], np.int64),
        latents=np.array([2, 5], np.int32),
        maxima=np.array([2.0, 3.5], np.float32),
        means=np.array([2.0, 3.5], np.float32),
        unit=np.array([0, 0], np.int32),
        units=Units(np.array([0, 1], np.int64), np.array([0], np.int32), np.array([6], np.int32)),
        n_tokens=np.array([2], np.int64),
        errors=[None],
        vectors=np.float16([[0, 1, 0]]),
    )
    with StoreWriter(
        HERE / "store_v1_vectors.sae",
        docs=docs,
        concepts=concepts,
        source=source,
        plan=[(0, 2), (2, 3)],
        digest="44" * 32,
        vector_dim=3,
    ) as writer:
        for number, shard in enumerate((first, second)):
            writer.write_shard(number, shard)
        writer.finish()


if __name__ == "__main__":
    main()
