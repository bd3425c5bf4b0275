"""Imports run one way, and what is heavy is imported only where it is used."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "saelens_data"

#: Lower layers first; a module imports its own part of the package and the layers below, so there is no circle.
LAYERS = [
    {"errors"},
    {"stats", "wording", "progress", "display", "query", "published"},
    {"matrix"},
    {"store", "readers"},
    {"corpus", "sae", "results"},
    {"datasets", "encoders", "evidence"},
    {"concepts"},
    {"labels", "retrieve"},
    {"encode", "training"},
    {"diff"},
    {"correlate"},
    {"cluster"},
    {"report"},
    {"cli"},
]
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "saelens_data":
            found.update(f"saelens_data.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
        elif isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
    return found


FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_run_one_way(path):
    own = part_of(path)
    for module in imports(path):
        if module.startswith("saelens_data.") and (other := module.split(".")[1]) != own:
            assert RANK[other] < RANK[own], f"{path.name} imports {other}, which lies beside it or above"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_torch_is_used_only_where_models_run(path):
    heavy = {module.split(".")[0] for module in imports(path)} & {"torch", "transformers", "sentence_transformers"}
    assert not heavy or part_of(path) in {"readers", "sae", "encoders", "training"}


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, saelens_data, saelens_data.cli.main; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "sklearn", "faiss", "polars", "numpy", "scipy", "pyarrow"} & set(loaded)
