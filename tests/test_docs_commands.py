"""What stands on the pages can be pasted: commands work as they are written, and print what the page shows.

A fenced `sh` block is run, in a folder that holds the bundled data, with the blocks before it on the page. The fenced `text` block
that follows it, if any, is what it prints: each of its lines occurs in the output, in that order; white space counts once; a
line that ends in `…` is the beginning of one. A command that is said to end with `# status 1` ends so. A block below
`<!-- not run: WHY -->` is only looked at for commands, options and values that there are, and Python for names that there are.
`make demo` stands for what the Makefile runs; `python recipes/NAME.py` is run and compared by tests/test_recipes.py.

Pages show float32 arithmetic, which differs between processors by rounding only: commands that encode are run with it.
"""

from __future__ import annotations

import ast
import functools
import re
from importlib import import_module
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from shown import ROOT, blocks, lines, missing, pages, words

import saelens_data as sd
from saelens_data.cli.main import COMMANDS, cli

PAGES = pages()
#: What a page may tell a reader to type that is neither ours nor Python; never run here.
FOREIGN = {"source", "hf", "vllm", "jupyter"}


def of_demo() -> list[str]:
    recipe = (ROOT / "Makefile").read_text(encoding="utf-8").split("\ndemo:")[1].split("\n\n")[0]
    found = [line.removeprefix("@$(BIN)/") for line in lines(recipe)]
    return [line for line in found if line.startswith("saelens-data ")]


def write_file(line: str) -> None:
    """Do what `printf '...' > FILE` does."""
    text, name = re.fullmatch(r"printf '(.*)' > (\S+)", line).groups()
    Path(name).write_text(text.replace("\\n", "\n"), encoding="utf-8")


def in_float32(argv: list[str]) -> list[str]:
    command = cli.get_command(None, argv[0])
    reads = any("--dtype" in parameter.opts for parameter in command.params) and "--dtype" not in argv
    return [*argv, "--dtype", "float32"] if reads and any(word.endswith(".jsonl") for word in argv) else argv


def run_line(page: str, line: str) -> str:
    """What a line of a page prints; empty for those that are run elsewhere."""
    if line.startswith("printf "):
        write_file(line)
    if line.startswith("make demo"):
        return "".join(run_line(page, command) for command in of_demo())
    if not line.startswith("saelens-data "):
        runs_elsewhere = line.startswith(("printf ", "make test")) or re.match(r"python recipes/\w+\.py( *#|$)", line)
        assert runs_elsewhere, f"{page}: nothing runs {line}; <!-- not run: WHY --> if that is so"
        return ""
    result = CliRunner().invoke(cli, in_float32(words(line)[1:]), prog_name="saelens-data")
    status = re.search(r"# status (\d)", line)
    assert result.exit_code == int(status[1] if status else 0), f"{page}: {line}\n{result.output}\n{result.exception!r}"
    return result.output


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
    printed = None
    for block in blocks(page):
        if block.kind == "sh":
            by_recipe = any(line.startswith("python recipes/") for line in lines(block.body))
            printed = "".join(run_line(page, line) for line in lines(block.body)) if block.why_not is None else None
            printed = None if by_recipe else printed
        elif block.kind == "text" and printed is not None:
            line = missing(block.body, printed)
            assert line is None, f"{page} shows a line that is not printed:\n{line}\nprinted is\n{printed}"


def check_ours(argv: list[str], folder: Path) -> None:
    """Raise as the command would for a wrong option or value, with an empty file for each that is named."""
    assert argv[0] in COMMANDS, f"no command {argv[0]}"
    command = cli.get_command(None, argv[0])
    for word in argv[1:]:
        if re.fullmatch(r"[\w.-]+\.\w+", word) and not word.startswith("-"):
            (folder / word).touch()
    # Below its parent, whose names for the help option a command keeps from then on.
    above = click.Context(cli, info_name="saelens-data", **cli.context_settings)
    command.make_context(argv[0], list(argv[1:]), parent=above)


def check_script(argv: list[str]) -> None:
    """A script that is there, with the options that it reads by name."""
    script = (ROOT / argv[0]).read_text(encoding="utf-8")
    for option in (word for word in argv[1:] if re.fullmatch(r"-[a-z]|--[a-z-]+", word)):
        assert f'"{option}"' in script, f"{argv[0]} has no {option}"


def check_line(line: str, folder: Path) -> None:
    name, *rest = words(re.sub(r"^[A-Z_]+=\S+ ", "", line))
    if name == "saelens-data":
        check_ours(rest, folder)
    elif name == "python":
        check_script(rest)
    elif name == "make":
        assert re.search(rf"^{rest[0]}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE), line
    elif name == "pip":
        extra = re.fullmatch(r"saelens_data\[(\w+)\]", rest[1])[1]
        assert f"\n{extra} = [" in (ROOT / "pyproject.toml").read_text(encoding="utf-8"), line
    else:
        assert name in {"printf", *FOREIGN}, f"what is {line}?"


@pytest.mark.parametrize("page", PAGES)
def test_commands_take_the_options_and_values_that_they_are_given(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for block in blocks(page):
        for line in lines(block.body) if block.kind == "sh" else []:
            check_line(line, tmp_path)


def check_names(source: str, page: str) -> None:
    """What a piece of Python takes from this package is there."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("saelens_data"):
            module = import_module(node.module)
            for alias in node.names:
                if not hasattr(module, alias.name):
                    import_module(f"{node.module}.{alias.name}")
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "sd":
            assert hasattr(sd, node.attr), f"{page}: there is no sd.{node.attr}"
        elif isinstance(node, ast.Constant) and re.fullmatch(r"saelens_data(\.\w+)+", str(node.value)):
            import_module(node.value)


@pytest.mark.parametrize("page", [page for page in PAGES if any(block.kind == "python" for block in blocks(page))])
def test_python_of_the_pages_runs(page, place, monkeypatch):
    monkeypatch.setattr(sd, "encode", functools.partial(sd.encode, dtype="float32"))
    for block in blocks(page):
        if block.kind == "python":
            check_names(block.body, page)
            if block.why_not is None:
                exec(compile(block.body, page, "exec"), {})


def test_python_of_the_readme_shows_what_it_finds(place, monkeypatch, capsys):
    monkeypatch.setattr(sd, "encode", functools.partial(sd.encode, dtype="float32"))
    (block,) = (block for block in blocks("README.md") if block.kind == "python")
    exec(compile(block.body, "README.md", "exec"), {})
    assert "34 findings at q < 0.05" in capsys.readouterr().out


def test_lines_are_compared_by_words_and_by_numbers_within_their_last_digits():
    assert missing("rank  label\n 1  a · b  40%  1.3e-08", "note\nrank label\n   1   a · b   41%   1.32e-08\n") is None
    assert missing("1  a · b  40%", "1 a · c 40%") == "1 a · b 40%"
    assert missing("0.40", "0.43") == "0.40"
    assert missing("two\none", "one\ntwo") == "one"
    assert missing("a long li…\n…\nend", "a long line\nmore\nend") is None
    assert missing("1.3e-08", "9.6e-09") == "1.3e-08"


def test_what_is_wrong_on_a_page_is_found(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for line in (
        "saelens-data dif a.jsonl b.jsonl",
        "saelens-data diff a.jsonl --no-such-option",
        "saelens-data diff a.jsonl b.jsonl -n many",
        "saelens-data diff a.jsonl b.jsonl c.jsonl",
        "saelens-data cluster a.jsonl --method hdbskan",
        "python tests/benchmarks/no_such_script.py",
        "python tests/benchmarks/diff.py --no-such-option",
        "make everything",
        "curl example.org",
    ):
        with pytest.raises((AssertionError, OSError, click.ClickException)):
            check_line(line, tmp_path)
    with pytest.raises(AssertionError, match="nothing runs"):
        run_line("a page", "python tests/benchmarks/diff.py")
    with pytest.raises(ImportError):
        check_names("from saelens_data.diff import no_such_name", "a page")
    with pytest.raises(AssertionError, match=r"sd\.dif"):
        check_names("sd.dif(a, b)", "a page")


def test_most_of_what_can_be_pasted_is_run():
    found = [block for page in PAGES for block in blocks(page) if block.kind == "sh"]
    assert len([block for block in found if block.why_not is None]) >= 28


def test_the_site_has_every_page_and_its_links_lead_somewhere(tmp_path):
    build = pytest.importorskip("mkdocs.commands.build", reason="pip install '.[docs]'").build
    from mkdocs.config import load_config

    build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(tmp_path), strict=True))
    found = [page.relative_to(ROOT) for folder in ("docs", "recipes") for page in (ROOT / folder).rglob("*.md")]
    written = {path.relative_to(tmp_path).with_suffix(".md") for path in tmp_path.rglob("*.html")}
    for page in found:
        assert (page.parent / "index.md" if page.name == "README.md" else page) in written
    start = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"<(script|img|iframe)[^>]* src=[\"']?(https?:)?//", start)
    assert not re.search(r"<link[^>]* rel=[\"']?(stylesheet|preconnect)[^>]* href=[\"']?(https?:)?//", start)
