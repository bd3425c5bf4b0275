"""The store: a concept matrix as a folder on disk, written in shards that survive any interruption."""

from saelens_data.store.files import atomic_file, atomic_write_bytes
from saelens_data.store.manifest import Manifest, is_store, read_manifest
from saelens_data.store.reader import open_store
from saelens_data.store.shard import Shard
from saelens_data.store.verify import verify_store
from saelens_data.store.writer import StoreWriter, shard_plan, write_store

__all__ = [
    "Manifest",
    "Shard",
    "StoreWriter",
    "atomic_file",
    "atomic_write_bytes",
    "is_store",
    "open_store",
    "read_manifest",
    "shard_plan",
    "verify_store",
    "write_store",
]
