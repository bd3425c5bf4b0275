"""What is installed is all that is needed: a wheel, unpacked into an empty folder, works there with the files it brought."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MADE_BY_PYTHON = ("__pycache__",)


def files(package: Path) -> set[str]:
    """Every file of a package, by its path below the folder that holds it; links are followed."""
    found = set()
    for folder, inner, names in os.walk(package, followlinks=True):
        inner[:] = [name for name in inner if name not in MADE_BY_PYTHON]
        found |= {(Path(folder) / name).relative_to(package.parent).as_posix() for name in names}
    return found


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of a copy of the sources, so that nothing is left behind beside them; without network or isolation."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("saelens_data", "datasets"):
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns(*MADE_BY_PYTHON))
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--no-index", "--no-deps"]
    built = subprocess.run(
        [*pip, "--no-build-isolation", "--quiet", "--wheel-dir", str(folder), str(source)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def unpacked(wheel, tmp_path_factory):
    folder = tmp_path_factory.mktemp("unpacked")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def run(unpacked: Path, empty: Path, code: str, *arguments: str) -> str:
    """What Python prints in an empty folder where this package is the unpacked one."""
    ended = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=os.environ | {"PYTHONPATH": str(unpacked), "SAELENS_DATA_CACHE": str(empty / "cache")},
        cwd=empty,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_the_wheel_has_every_file_of_the_package_and_no_other(wheel):
    with zipfile.ZipFile(wheel) as archive:
        inside = {name for name in archive.namelist() if not name.startswith("saelens_data-")}
    expected = files(ROOT / "saelens_data")
    assert {name for name in expected if not name.endswith(".py")} >= {
        "saelens_data/py.typed",
        "saelens_data/labels/prices.json",
        "saelens_data/labels/prompts/label.j2",
        "saelens_data/templates/diff.html",
        "saelens_data/assets/minilm-8k/sae_weights.safetensors",
        "saelens_data/assets/datasets/habits/answers_a.jsonl",
    }
    assert inside == expected


def test_the_commands_run_from_the_wheel_in_an_empty_folder(unpacked, tmp_path):
    main = "from saelens_data.cli.main import main; main()"
    assert run(unpacked, tmp_path, main, "--version") == "saelens-data, version 0.1.0\n"
    table = run(unpacked, tmp_path, main, "encoders", "-f", "csv")
    assert table.splitlines()[1].startswith("minilm-8k,")
    assert "llama-3.1-8b-goodfire" in table


def test_what_the_package_reads_at_work_is_found_there(unpacked, tmp_path):
    """Data, prices, prompts, templates, and the bundled encoder."""
    code = """
import saelens_data as sd
from saelens_data.encoders import check_encoder
from saelens_data.labels.budget import prices_date
from saelens_data.labels.prompting import checking
from saelens_data.display.markup import environment
print(sd.__file__)
print([sd.datasets.load(name).rows for name in sd.datasets.names()])
print(len(prices_date()), len(checking("a statement", ["a text"])))
print(environment().get_template("cluster.html").name)
check_encoder("minilm-8k")
"""
    where, *read = run(unpacked, tmp_path, code).splitlines()
    assert Path(where).parents[1] == unpacked
    assert read == ["[320, 224, 128, 240]", "7 2", "cluster.html"]
