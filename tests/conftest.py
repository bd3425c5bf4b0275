"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Before anything imports torch: several test processes share the cores, and threads that wait for a core spin.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of larger public files that development machines may have; tests that want it skip elsewhere."""
    default = Path(__file__).parents[1].parent / "shared" / "data"
    folder = Path(os.environ.get("SAELENS_DATA_SHARED", default))
    if not folder.is_dir():
        pytest.skip("the development data folder is not here")
    return folder
