"""Progress is shown to whoever is watching: a terminal, a notebook, a function; and to nobody else."""

from __future__ import annotations

import io

import nbformat
import polars as pl
import pytest
from keywords import keyword_matrix
from nbclient import NotebookClient

import saelens_data as sd
from saelens_data import progress
from saelens_data.diff.many_check import aa_check_many


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass when a test says so."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


@pytest.mark.parametrize(
    ("share", "seconds", "shown"),
    [
        (0.0, 0, "reading ╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌   0% 0:00 now"),
        (0.25, 10, "reading ━━━━━━╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌  25% 0:30 left now"),
        (0.5, 3_700, "reading ━━━━━━━━━━━━╌╌╌╌╌╌╌╌╌╌╌╌  50% 1:01:40 left now"),
        (1.0, 61, "reading ━━━━━━━━━━━━━━━━━━━━━━━━ 100% 1:01 now"),
        (1.7, 61, "reading ━━━━━━━━━━━━━━━━━━━━━━━━ 100% 1:01 now"),
    ],
)
def test_a_line(share, seconds, shown):
    assert progress.line("reading", share, "now", seconds) == shown


def test_lines_are_drawn_when_a_stage_begins_and_ends_and_now_and_then(clock):
    drawn = []
    tell = progress.Lines(lambda lines: drawn.append([line.split()[0] + line.split("%")[0][-4:] for line in lines]))
    for done in (0, 1, 2):
        tell("reading", done, 4, "")
        clock[0] += 0.05
    clock[0] += 0.2
    tell("reading", 3, 4, "")
    tell("reading", 4, 4, "")
    tell("writing", 0, 0, "")
    assert drawn == [["reading   0"], ["reading  75"], ["reading 100"], ["reading 100", "writing   0"]]


def test_a_terminal_shows_the_lines_in_place_of_those_before(monkeypatch, clock):
    monkeypatch.setattr(progress.sys, "stderr", Terminal())
    monkeypatch.setattr(progress, "get_terminal_size", lambda: type("Size", (), {"columns": 20}))
    tell = progress.stages()
    tell("one", 1, 2, "")
    tell("two", 2, 2, "a long way behind the edge")
    first, second = "one ━━━━━━━━━━━━╌╌╌", "two ━━━━━━━━━━━━━━━"
    assert progress.sys.stderr.getvalue() == f"\x1b[2K{first}\n\x1b[1F\x1b[2K{first}\n\x1b[2K{second}\n"


def test_nobody_is_told_where_nobody_watches_or_it_is_not_wanted(monkeypatch, capsys):
    progress.stages()("one", 1, 2, "")
    progress.one_stage("one")(1, 2)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(progress.sys, "stderr", Terminal())
    progress.stages(False)("one", 1, 2, "")
    progress.one_stage("one", False)(1, 2)
    assert progress.sys.stderr.getvalue() == ""
    told = []
    progress.one_stage("one", lambda *now: told.append(now))(1, 2)
    assert (told, progress.sys.stderr.getvalue()) == ([(1, 2)], "")


def test_encoding_tells_of_parts_of_a_shard(tmp_path, monkeypatch):
    encoder = sd.load_encoder("minilm-8k")
    monkeypatch.setattr(encoder.reader, "_batch_tokens", 16)
    monkeypatch.setattr("saelens_data.encoders.encoder._GATHER_UNITS", 2)
    texts = [f"Some words, number {i}." for i in range(6)]
    told, length = [], sum(map(len, texts))
    sd.encode(
        pl.DataFrame({"text": texts}), store=tmp_path / "m.sae", encoder=encoder, progress=lambda *now: told.append(now)
    )
    assert [total for _, total in told] == [length] * len(told)
    shares = [done / length for done, _ in told]
    assert len(shares) >= 3
    assert shares == sorted(shares)
    assert 0 < shares[0] < 0.6
    assert shares[-1] == 1


def test_checks_tell_how_many_splits_are_done():
    m = keyword_matrix(["tea is here"] * 20 + ["coffee is here"] * 20, {1: "tea", 2: "coffee"}, side=["x", "y"] * 20)
    a, b = m.take_docs(range(0, 40, 2)), m.take_docs(range(1, 40, 2))
    for work in (
        lambda tell: sd.aa_check(sd.diff(a, b), splits=3, progress=tell),
        lambda tell: aa_check_many(sd.diff_many(m, "side"), splits=3, progress=tell),
        lambda tell: sd.permutation_check(sd.correlate(m), runs=3, progress=tell),
    ):
        told = []
        work(lambda *now, told=told: told.append(now))
        assert told[-1] == (3, 3)


CELL = """
import saelens_data.progress as progress
print(progress.in_notebook())
tell = progress.stages()
tell("reading", 0, 2, "")
tell("reading", 2, 2, "MB")
tell("training", 1, 1, "")
"""


def test_a_notebook_shows_one_output_that_is_replaced():
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL)])
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    said, shown = notebook.cells[0].outputs
    assert said["text"] == "True\n"
    first, second = shown["data"]["text/plain"].split("\n")
    assert first == f"reading {'━' * 24} 100% 0:00 MB"
    assert second == f"training {'━' * 24} 100% 0:00"
