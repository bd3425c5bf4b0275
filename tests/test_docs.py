"""Docs cannot rot: every command and public name is documented, and the reference is what the code says."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import saelens_data
from saelens_data.cli.main import COMMANDS

ROOT = Path(__file__).parents[1]


def test_the_reference_is_what_the_code_says():
    spec = importlib.util.spec_from_file_location("reference", ROOT / "tools" / "reference.py")
    reference = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reference)
    assert (ROOT / "docs" / "reference.md").read_text(encoding="utf-8") == reference.page(), (
        "run python tools/reference.py"
    )


def test_every_command_and_public_name_is_documented():
    text = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    for command in COMMANDS:
        assert f"### saelens-data {command}\n" in text
    for name in saelens_data.__all__:
        assert f"### sd.{name}\n" in text


def test_links_between_the_pages_lead_somewhere():
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "datasets").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name} links to {target}"
