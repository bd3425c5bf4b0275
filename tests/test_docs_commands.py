"""The commands of the README and the tutorial work as they stand there, and print what the pages show.

A fenced `sh` block is run, in a folder that holds the bundled data, with the blocks before it on the page. The fenced `text` block
that follows it, if any, is what it prints: each of its lines occurs in the output, in that order; white space counts once; a
line that ends in `…` is the beginning of one. A block below `<!-- not run: WHY -->` is only looked at for commands and
options that there are. `make demo` stands for what the Makefile runs.

Pages show float32 arithmetic, which differs between processors by rounding only: commands that encode are run with it.
"""

from __future__ import annotations

import functools
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner

import saelens_data as sd
from saelens_data.cli.main import cli

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "docs/tutorial.md")
_BLOCK = re.compile(r"(?:<!-- not run: (?P<why>[^>]+) -->\n+)?```(?P<kind>sh|text|python)\n(?P<body>.*?)```", re.DOTALL)
_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?")


@dataclass(frozen=True)
class Block:
    kind: str
    body: str
    why_not: str | None


def blocks(page: str) -> list[Block]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return [Block(m["kind"], m["body"], m["why"]) for m in _BLOCK.finditer(text)]


def commands(body: str) -> list[list[str]]:
    """The words of each `saelens-data` command of a block; comments and continued lines are the shell's."""
    lines = body.replace("\\\n", " ").splitlines()
    if "make demo" in body:
        recipe = (ROOT / "Makefile").read_text(encoding="utf-8").split("\ndemo:")[1].split("\n\n")[0]
        lines += [line.strip().removeprefix("@$(BIN)/") for line in recipe.replace("\\\n", " ").splitlines()]
    found = [shlex.split(line, comments=True) for line in lines if line.startswith("saelens-data ")]
    return [words[1:] for words in found]


def write_files(body: str) -> None:
    """Do what `printf '...' > FILE` of a block does."""
    for text, name in re.findall(r"^printf '(.*)' > (\S+)$", body, re.MULTILINE):
        Path(name).write_text(text.replace("\\n", "\n"), encoding="utf-8")


def options(name: str) -> set[str]:
    command = cli.get_command(None, name)
    assert command is not None, f"no command {name}"
    return {"--help", "-h"} | {option for parameter in command.params for option in parameter.opts}


def in_float32(words: list[str]) -> list[str]:
    reads = "--dtype" in options(words[0]) and "--dtype" not in words
    return [*words, "--dtype", "float32"] if reads and any(word.endswith(".jsonl") for word in words) else words


def value(number: str) -> float:
    return float(number.replace(",", ""))


def unit(number: str) -> float:
    """What the last digit of a number as it is written counts."""
    mantissa, _, exponent = number.partition("e")
    return 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))


def alike(shown: str, printed: str) -> bool:
    """Equal words; numbers within two in the last digit shown, or 5% where there are more digits than that says."""
    if shown.endswith("…"):
        shown, printed = shown[:-1].rstrip(), printed[: len(shown) - 1].rstrip()
    if _NUMBER.sub("0", shown) != _NUMBER.sub("0", printed):
        return False
    pairs = zip(_NUMBER.findall(shown), _NUMBER.findall(printed), strict=True)
    return all(abs(value(s) - value(p)) <= max(2.001 * unit(s), 0.05 * value(s) if "e" in s else 0.0) for s, p in pairs)


def missing(shown: str, printed: str) -> str | None:
    """The first line of `shown` that `printed` does not have behind those before it."""
    rest = iter([" ".join(line.split()) for line in printed.splitlines()])
    for line in filter(None, (" ".join(line.split()) for line in shown.splitlines())):
        if line != "…" and not any(alike(line, candidate) for candidate in rest):
            return line
    return None


@pytest.fixture(scope="module")
def place(tmp_path_factory, request):
    """A folder with the bundled data in it, and a cache of encoded files that all pages share, and later runs too."""
    folder = tmp_path_factory.mktemp("reader")
    (folder / "datasets").symlink_to(ROOT / "datasets")
    (folder / "demo").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAELENS_DATA_CACHE", str(request.config.cache.mkdir("encoded")))
        patch.setenv("COLUMNS", "150")
        patch.chdir(folder)
        yield folder


@pytest.mark.parametrize("page", PAGES)
def test_commands_print_what_the_page_shows(page, place):
    printed, ran = "", 0
    for block in blocks(page):
        if block.kind == "sh" and block.why_not is None:
            printed = ""
            write_files(block.body)
            for words in commands(block.body):
                result = CliRunner().invoke(cli, in_float32(words), prog_name="saelens-data")
                assert result.exit_code == 0, f"{page}: {shlex.join(words)}\n{result.output}\n{result.exception!r}"
                printed += result.output
                ran += 1
        elif block.kind == "text":
            line = missing(block.body, printed)
            assert line is None, f"{page} shows a line that is not printed:\n{line}\nprinted is\n{printed}"
    assert ran >= 3


@pytest.mark.parametrize("page", PAGES)
def test_commands_that_are_not_run_exist_with_their_options(page):
    for block in blocks(page):
        if block.kind == "sh":
            for name, *words in commands(block.body):
                unknown = {w for w in words if re.fullmatch(r"-[a-z]|--[a-z-]+", w)} - options(name)
                assert not unknown, f"{page}: saelens-data {name} has no {unknown}"


@pytest.mark.parametrize("page", PAGES)
def test_python_of_the_pages_runs(page, place, monkeypatch, capsys):
    monkeypatch.setattr(sd, "encode", functools.partial(sd.encode, dtype="float32"))
    for block in blocks(page):
        if block.kind == "python" and block.why_not is None:
            exec(compile(block.body, page, "exec"), {})
            assert capsys.readouterr().out


def test_lines_are_compared_by_words_and_by_numbers_within_their_last_digits():
    assert missing("rank  label\n 1  a · b  40%  1.3e-08", "note\nrank label\n   1   a · b   41%   1.32e-08\n") is None
    assert missing("1  a · b  40%", "1 a · c 40%") == "1 a · b 40%"
    assert missing("0.40", "0.43") == "0.40"
    assert missing("two\none", "one\ntwo") == "one"
    assert missing("a long li…\n…\nend", "a long line\nmore\nend") is None
    assert missing("1.3e-08", "9.6e-09") == "1.3e-08"


def test_the_pages_run_by_default_where_nothing_says_why_not():
    found = [block for page in PAGES for block in blocks(page) if block.kind == "sh"]
    assert len([block for block in found if block.why_not is None]) >= 8


def test_the_site_has_every_page_and_its_links_lead_somewhere(tmp_path):
    build = pytest.importorskip("mkdocs.commands.build", reason="pip install '.[docs]'").build
    from mkdocs.config import load_config

    build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(tmp_path), strict=True))
    pages = [page.relative_to(ROOT) for folder in ("docs", "recipes") for page in (ROOT / folder).rglob("*.md")]
    written = {path.relative_to(tmp_path).with_suffix(".md") for path in tmp_path.rglob("*.html")}
    for page in pages:
        assert (page.parent / "index.md" if page.name == "README.md" else page) in written
    start = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"<(script|img|iframe)[^>]* src=[\"']?(https?:)?//", start)
    assert not re.search(r"<link[^>]* rel=[\"']?(stylesheet|preconnect)[^>]* href=[\"']?(https?:)?//", start)
