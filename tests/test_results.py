"""Result: what is saved can be read again, and hostile text stays text."""

from __future__ import annotations

import dataclasses
import json
from datetime import date
from pathlib import Path

import polars as pl
import pytest

from saelens_data.errors import InputError
from saelens_data.results import Result

NASTY = 'a "quoted", line\u2028with\nbreaks <script>alert(1)</script> é 🙂'


@pytest.fixture
def result() -> Result:
    frame = pl.DataFrame(
        {
            "rank": [1, 2, 3],
            "label": [NASTY, None, "plain"],
            "score": [0.1, float("nan"), float("-inf")],
            "finding": [True, False, None],
        }
    )
    return Result(frame, {"alpha": 0.05, "names": ["A", "B"], "pair_on": None}, ("3 documents left out.",), "diff")


def test_a_result_is_frozen(result):
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.kind = "other"
    assert result.to_frame() is result.frame


def test_csv_holds_the_rows(result, tmp_path):
    read = pl.read_csv(result.save(tmp_path / "r.csv"))
    assert read["label"].to_list() == [NASTY, None, "plain"]
    assert read["rank"].to_list() == [1, 2, 3]
    assert read["score"][0] == 0.1


def test_json_holds_rows_and_how_they_were_made(result, tmp_path):
    read = json.loads(result.save(tmp_path / "r.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert read == {
        "kind": "diff",
        "parameters": {"alpha": 0.05, "names": ["A", "B"], "pair_on": None},
        "notes": ["3 documents left out."],
        "rows": [
            {"rank": 1, "label": NASTY, "score": 0.1, "finding": True},
            {"rank": 2, "label": None, "score": None, "finding": False},
            {"rank": 3, "label": "plain", "score": None, "finding": None},
        ],
    }


def test_json_of_no_rows(tmp_path):
    saved = Result(pl.DataFrame(schema={"rank": pl.Int64})).save(tmp_path / "r.json")
    assert json.loads(saved.read_text()) == {"kind": "result", "parameters": {}, "notes": [], "rows": []}


def test_jsonl_holds_one_object_a_line(result, tmp_path):
    content = result.save(tmp_path / "r.jsonl").read_bytes()
    rows = [json.loads(line, parse_constant=pytest.fail) for line in content.split(b"\n")[:-1]]
    assert [row["label"] for row in rows] == [NASTY, None, "plain"]
    assert [row["score"] for row in rows] == [0.1, None, None]


def test_parquet_holds_the_frame_exactly_and_how_it_was_made(result, tmp_path):
    saved = result.save(tmp_path / "r.PARQUET")
    assert pl.read_parquet(saved).equals(result.frame)
    metadata = pl.read_parquet_metadata(saved)
    assert json.loads(metadata["notes"]) == ["3 documents left out."]
    assert json.loads(metadata["parameters"])["alpha"] == 0.05
    assert json.loads(metadata["kind"]) == "diff"


def test_dates_and_lists_become_json(tmp_path):
    frame = pl.DataFrame({"day": [date(2024, 5, 1)], "spans": [[{"start": 1, "value": float("nan")}]]})
    row = json.loads(Result(frame).save(tmp_path / "r.jsonl").read_text())
    assert row == {"day": "2024-05-01", "spans": [{"start": 1, "value": None}]}


def test_lists_of_latents_are_numbers_with_spaces_in_csv(tmp_path):
    members = pl.Series("members", [[7, 2, 30], [5], [], None], dtype=pl.List(pl.Int32))
    result = Result(pl.DataFrame({"rank": [1, 2, 3, 4], "members": members}))
    assert result.save(tmp_path / "r.csv").read_text() == 'rank,members\n1,7 2 30\n2,5\n3,""\n4,\n'
    rows = [json.loads(line) for line in result.save(tmp_path / "r.jsonl").read_text().splitlines()]
    assert [row["members"] for row in rows] == [[7, 2, 30], [5], [], None]
    assert pl.read_parquet(result.save(tmp_path / "r.parquet")).equals(result.frame)


@pytest.mark.parametrize("suffix", [".csv", ".json", ".jsonl", ".parquet"])
def test_the_same_result_gives_the_same_bytes(result, tmp_path, suffix):
    first = result.save(tmp_path / f"one{suffix}").read_bytes()
    assert result.save(tmp_path / f"two{suffix}").read_bytes() == first
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"one{suffix}", f"two{suffix}"]


def test_a_failed_save_leaves_the_old_file_and_nothing_else(result, tmp_path, monkeypatch):
    target = tmp_path / "r.json"
    target.write_text("old")

    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(InputError, match=r"cannot write '.*r\.json': No space left on device"):
        result.save(target)
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["r.json"]


def test_places_and_suffixes_that_cannot_be_used(result, tmp_path):
    with pytest.raises(InputError, match=r"must end in \.csv, \.json, \.jsonl, \.parquet"):
        result.save(tmp_path / "r.xlsx")
    with pytest.raises(InputError, match="No such file or directory"):
        result.save(tmp_path / "nowhere" / "r.csv")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot write"):
        result.save(tmp_path / "file" / "r.csv")


def test_html_is_short_and_escaped():
    frame = pl.DataFrame({"<b>name</b>": [NASTY, "x" * 500, *["row"] * 10], "p": [1 / 3] * 12})
    html = Result(frame, notes=("<i>note</i>",), kind="<u>kind</u>")._repr_html_()
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "&lt;b&gt;name&lt;/b&gt;" in html
    for hostile in ("<script", "<b>", "<i>", "<u>"):
        assert hostile not in html
    assert "x" * 119 + "…" in html
    assert "x" * 120 not in html
    assert html.count(">0.3333</td>") == 10
    assert html.count(">row</td>") == 8
    assert "and 2 more rows" in html


def test_repr_and_summary(result):
    assert result.summary() == "diff: 3 rows"
    assert repr(result).startswith("diff: 3 rows\nshape: (3, 4)")
