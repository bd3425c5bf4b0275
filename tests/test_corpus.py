"""What each source becomes: texts, prompts, ids and the other columns, by value; and what each fault says."""

from __future__ import annotations

import codecs
import gzip
import hashlib
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from saelens_data.corpus import Corpus, read_corpus
from saelens_data.errors import InputError

ROWS = [{"id": "a", "text": "One."}, {"id": "b", "text": "Zwei “drei”."}, {"id": "c", "text": 'four,\n\n"five"\t'}]


def zipped(data: bytes) -> bytes:
    """The same bytes whenever it is called, since some become the names of tests."""
    return gzip.compress(data, mtime=0)


def jsonl(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def put(folder: Path, name: str, data: bytes | list[dict[str, Any]]) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else jsonl(data))
    return path


def read(folder: Path, rows: list[dict[str, Any]], **options: Any) -> Corpus:
    return read_corpus(put(folder, "answers.jsonl", rows), **options)


def fault(source: Any, **options: Any) -> str:
    """The message of the one error; it is a sentence on one line."""
    with pytest.raises(InputError) as caught:
        read_corpus(source, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Formats


def parquet(rows: list[dict[str, Any]]) -> bytes:
    buffer = io.BytesIO()
    pl.DataFrame(rows).write_parquet(buffer)
    return buffer.getvalue()


def arrow(rows: list[dict[str, Any]]) -> bytes:
    buffer = io.BytesIO()
    pl.DataFrame(rows).write_ipc(buffer)
    return buffer.getvalue()


def compressed(data: bytes, codec: str) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, codec) as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


CSV = pl.DataFrame(ROWS).write_csv().encode()
TSV = pl.DataFrame(ROWS).write_csv(separator="\t").encode()
FILES = {
    "a.jsonl": jsonl(ROWS),
    "a.ndjson": jsonl(ROWS),
    "lines.json": jsonl(ROWS),
    "array.json": json.dumps(ROWS, indent=2).encode(),
    "wrapped.json": json.dumps({"model": "m", "results": ROWS}).encode(),
    "array-by-another-name.jsonl": json.dumps(ROWS).encode(),
    "blank-lines.jsonl": jsonl(ROWS).replace(b"\n", b"\r\n\r\n"),
    "bom.jsonl": codecs.BOM_UTF8 + jsonl(ROWS),
    "utf16.jsonl": jsonl(ROWS).decode().encode("utf-16"),
    "a.jsonl.gz": zipped(jsonl(ROWS)),
    "members.jsonl.gz": zipped(jsonl(ROWS[:1])) + zipped(jsonl(ROWS[1:])),
    "a.jsonl.zst": compressed(jsonl(ROWS), "zstd"),
    "a.json.bz2": compressed(json.dumps(ROWS).encode(), "bz2"),
    "a.csv": CSV,
    "bom.csv": codecs.BOM_UTF8 + CSV,
    "utf16.csv": CSV.decode().encode("utf-16"),
    "a.csv.gz": zipped(CSV),
    "semicolon.csv": pl.DataFrame(ROWS).write_csv(separator=";").encode(),
    "blank-lines.csv": CSV + b"\n\n",
    "a.tsv": TSV,
    "a.parquet": parquet(ROWS),
    "a.parquet.zst": compressed(parquet(ROWS), "zstd"),
    "a.feather": arrow(ROWS),
    "lines.log": jsonl(ROWS),
    "array.data": json.dumps(ROWS).encode(),
    "comma.data": CSV,
    "parquet.data": parquet(ROWS),
    "arrow.data": arrow(ROWS),
}


@pytest.mark.parametrize("name", FILES)
def test_every_format_gives_the_same_documents(tmp_path: Path, name: str) -> None:
    corpus = read_corpus(put(tmp_path, name, FILES[name]))
    assert corpus.docs.to_dicts() == [{"doc_id": row["id"], "text": row["text"], "id": row["id"]} for row in ROWS]
    assert corpus.notes == ("read as text: the text is 'text'",)
    assert (corpus.schema, corpus.name) == (
        "text",
        name if name.endswith((".log", ".data")) else name.partition(".")[0],
    )
    assert read_corpus(tmp_path / name, limit=2).docs["text"].to_list() == [row["text"] for row in ROWS[:2]]


def test_frames_give_the_same_documents() -> None:
    frame = pl.DataFrame(ROWS)
    for source in (frame, frame.lazy(), frame.to_pandas(), frame.to_pandas().astype(object)):
        corpus = read_corpus(source, limit=2)
        assert corpus.docs.rows() == [("a", "One.", "a"), ("b", "Zwei “drei”.", "b")]
        assert corpus.name == "frame"


def test_name_keeps_dots_that_are_no_suffixes(tmp_path: Path) -> None:
    assert read_corpus(put(tmp_path, "model-v0.1_x.jsonl.gz", zipped(jsonl(ROWS)))).name == "model-v0.1_x"


def test_folder_of_text_files(tmp_path: Path) -> None:
    for name, data in {
        "b.txt": b"two\r\n",
        "a/z.md": b"# one",
        "c.TXT": b"caf\xe9",
        ".git/d.txt": b"no",
        "e.png": b"\0",
    }.items():
        put(tmp_path, f"texts/{name}", data)
    corpus = read_corpus(tmp_path / "texts")
    assert corpus.docs.rows() == [("a/z.md", "# one", "a"), ("b.txt", "two\r\n", "."), ("c.TXT", "café", ".")]
    assert corpus.notes[:2] == (
        "the folder 'texts' also holds 1 .png: passed over",
        "c.TXT: lines that are not valid UTF-8, read as Windows-1252: 1",
    )
    assert corpus.name == "texts"
    assert read_corpus(tmp_path / "texts", limit=1).docs["doc_id"].to_list() == ["a/z.md"]
    assert read_corpus(tmp_path / "texts" / "b.txt").docs.rows() == [("b.txt", "two\r\n")]


def save_dataset(folder: Path, shards: list[list[dict[str, Any]]], features: dict[str, Any], *, stream: bool) -> Path:
    """Write what `datasets.Dataset.save_to_disk` writes."""
    folder.mkdir(parents=True)
    files = [f"data-{i:05d}-of-{len(shards):05d}.arrow" for i in range(len(shards))]
    for file, rows in zip(files, shards, strict=True):
        table = pa.Table.from_pylist(rows)
        new = pa.ipc.new_stream if stream else pa.ipc.new_file
        with new(str(folder / file), table.schema) as writer:
            writer.write_table(table)
    state = {"_data_files": [{"filename": f} for f in files], "_fingerprint": "0", "_split": None}
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text(json.dumps({"description": "", "features": features}))
    return folder


LABEL = {"label": {"names": ["bad", "good"], "_type": "ClassLabel"}, "text": {"dtype": "string", "_type": "Value"}}


@pytest.mark.parametrize("stream", [True, False])
def test_saved_dataset(tmp_path: Path, stream: bool) -> None:
    shards = [[{"text": "x", "label": 1}, {"text": "y", "label": 0}], [{"text": "z", "label": -1}]]
    folder = save_dataset(tmp_path / "set", shards, LABEL, stream=stream)
    corpus = read_corpus(folder)
    assert corpus.docs.rows() == [("000001", "x", "good"), ("000002", "y", "bad"), ("000003", "z", None)]
    assert corpus.name == "set"
    assert read_corpus(folder, limit=1).docs["text"].to_list() == ["x"]
    state = (folder / "state.json").read_text()
    (folder / "state.json").write_text(state.replace("{", '{"_indices_data_files": [{}], ', 1))
    assert "was saved by an old version of datasets: load it and save it again" in fault(folder)
    (folder / "state.json").write_text(state)
    (folder / "data-00001-of-00002.arrow").unlink()
    assert "cannot read data-00000-of-00002.arrow, data-00001-of-00002.arrow in " in fault(folder)


def test_saved_dataset_dict_joins_its_splits(tmp_path: Path) -> None:
    put(tmp_path, "d/dataset_dict.json", b'{"splits": ["train", "test"]}')
    save_dataset(tmp_path / "d" / "train", [[{"id": 1, "text": "x"}]], {}, stream=True)
    save_dataset(tmp_path / "d" / "test", [[{"id": 1, "text": "y"}, {"id": 2, "text": "z"}]], {}, stream=True)
    corpus = read_corpus(tmp_path / "d")
    assert corpus.docs["text"].to_list() == ["x", "y", "z"]
    assert corpus.docs["split"].to_list() == ["train", "test", "test"]
    assert corpus.notes[0] == "all splits were read, told apart by the column 'split': train (1), test (2)"
    assert read_corpus(tmp_path / "d", limit=2).docs["text"].to_list() == ["x", "y"]
    put(tmp_path, "d/dataset_dict.json", b'{"splits": ["train", "odd"]}')
    save_dataset(tmp_path / "d" / "odd", [[{"id": 1, "text": ["y"]}]], {}, stream=True)
    assert "have other types of columns: give one, as " in fault(tmp_path / "d")


# Layouts


def turns(
    *said: Any, role: str = "role", words: str = "content", names: tuple[str, str] = ("user", "assistant")
) -> Any:
    return [{role: names[i % 2], words: text} for i, text in enumerate(said)]


PARTS = [
    {"type": "text", "text": "A1"},
    {"type": "image_url", "image_url": {"url": "x"}},
    {"type": "text", "text": "A2"},
]
LAYOUT_CASES = {
    "openai": ({"messages": turns("Q", "A"), "n": 1}, {"text": "A", "prompt": "Q", "n": 1}),
    "openai, several turns": ({"messages": turns("Q1", "A1", "Q2", "A2")}, {"text": "A1\n\nA2", "prompt": "Q1\n\nQ2"}),
    "openai, system": (
        {"messages": [{"role": "system", "content": "S"}, *turns("Q", "A")]},
        {"text": "A", "prompt": "Q", "system": "S"},
    ),
    "openai, parts": (
        {"messages": [{"role": "user", "content": PARTS[:1]}, {"role": "assistant", "content": PARTS}]},
        {"text": "A1\nA2", "prompt": "A1"},
    ),
    "openai, JSON text": ({"messages": json.dumps(turns("Q", "A"))}, {"text": "A", "prompt": "Q"}),
    "openai, Python text": ({"messages": repr(turns("Q", "It's"))}, {"text": "It's", "prompt": "Q"}),
    "arena-hard": (
        {"uid": "u", "messages": turns({"answer": "Q"}, {"answer": "A"})},
        {"doc_id": "u", "text": "A", "prompt": "Q", "uid": "u"},
    ),
    "choices": (
        {"question_id": 7, "choices": [{"index": 0, "turns": [{"content": "A1"}, {"content": "A2"}]}]},
        {"doc_id": "7", "text": "A1\n\nA2", "question_id": 7},
    ),
    "choices, completions": ({"choices": [{"message": {"role": "assistant", "content": "A"}}]}, {"text": "A"}),
    "sharegpt": (
        {"conversations": turns("Q", "A", role="from", words="value", names=("human", "gpt"))},
        {"text": "A", "prompt": "Q"},
    ),
    "lmsys": ({"conversation": turns("Q", "A"), "model": "m"}, {"text": "A", "prompt": "Q", "model": "m"}),
    "alpaca-eval": (
        {"instruction": "Q", "output": "A", "generator": "g", "dataset": "d"},
        {"text": "A", "prompt": "Q", "generator": "g", "dataset": "d"},
    ),
    "instruction": (
        {"instruction": "Q", "input": "about", "output": "A", "text": "### Q"},
        {"text": "A", "prompt": "Q\n\nabout", "input": "about", "text_source": "### Q"},
    ),
    "prompt-response": ({"prompt": "Q", "response": "A", "model": "m"}, {"text": "A", "prompt": "Q", "model": "m"}),
    "prompt-response, question": ({"question": "Q", "answer": "A"}, {"text": "A", "prompt": "Q"}),
    "prompt-response, completion": ({"prompt": "Q", "completion": "A"}, {"text": "A", "prompt": "Q"}),
    "prompt-response, input": ({"input": "Q", "output": "A"}, {"text": "A", "prompt": "Q"}),
    "prompt-response, chats": (
        {"prompt": turns("Q"), "completion": [{"role": "assistant", "content": "A"}]},
        {"text": "A", "prompt": "Q"},
    ),
    "text": ({"Text": "T", "label": "l"}, {"text": "T", "label": "l"}),
    "text, tweet": ({"label": "l", "tweet": "T"}, {"text": "T", "label": "l"}),
    "text, answers alone": ({"model": "m", "response": "A"}, {"text": "A", "model": "m"}),
    "text, only strings": ({"id": "x", "words": "T", "n": 2}, {"doc_id": "x", "text": "T", "id": "x", "n": 2}),
    "text, longest": ({"kind": "k", "words": "long enough"}, {"text": "long enough", "kind": "k"}),
}


@pytest.mark.parametrize("case", LAYOUT_CASES)
@pytest.mark.parametrize("form", ["jsonl", "array", "parquet", "frame", "pandas"])
def test_layouts_are_recognised(tmp_path: Path, case: str, form: str) -> None:
    row, want = LAYOUT_CASES[case]
    source: Any = {
        "jsonl": lambda: put(tmp_path, "a.jsonl", [row]),
        "array": lambda: put(tmp_path, "a.json", json.dumps([row]).encode()),
        "parquet": lambda: put(tmp_path, "a.parquet", parquet([row])),
        "frame": lambda: pl.DataFrame([row]),
        "pandas": lambda: pd.DataFrame([row]),
    }[form]()
    corpus = read_corpus(source)
    assert corpus.docs.to_dicts() == [{"doc_id": "000001", **want}]
    assert corpus.docs.columns[:2] == ["doc_id", "text"]
    assert corpus.schema == case.partition(",")[0]


def test_a_chat_beside_other_things(tmp_path: Path) -> None:
    rows = [
        {"messages": turns("Q", "A"), "prompt": "old", "text": "templated"},
        {"messages": [*turns("Q"), {"role": "tool", "content": "42"}], "prompt": "old", "error": "late"},
        {"messages": None},
        {"messages": "plain"},
        {"messages": [1]},
        {"messages": []},
    ]
    corpus = read(tmp_path, rows)
    assert corpus.docs["text"].to_list() == ["A", "", None, "plain", None, ""]
    assert corpus.docs["prompt"].to_list() == ["Q", "Q", None, None, None, None]
    assert corpus.docs.columns == ["doc_id", "text", "prompt", "prompt_source", "text_source", "error_source"]
    assert corpus.notes == (
        "read as openai: the text is what the assistant says in 'messages', the prompt what the user says",
        "turns of tools or without words, left out: 1",
        "rows without a conversation, whose text is null: 1",
        "the column 'prompt' was renamed 'prompt_source', because its name is needed",
        "the column 'text' was renamed 'text_source', because its name is needed",
        "the column 'error' was renamed 'error_source', because its name is needed",
        "of 6 texts, 2 null and 2 empty: they are kept, and no concept is active in them",
    )


def test_content_of_another_type_in_each_row(tmp_path: Path) -> None:
    said = ["A", {"answer": "B"}, [{"type": "text", "text": "C"}], None]
    rows = [{"uid": str(i), "messages": turns("Q", s)} for i, s in enumerate(said)]
    assert read(tmp_path, rows).docs["text"].to_list() == ["A", "B", "C", ""]


def test_a_text_that_looks_like_a_conversation_is_text(tmp_path: Path) -> None:
    said = json.dumps(turns("Q", "A"))
    assert read(tmp_path, [{"text": said}, {"text": "x"}]).docs["text"].to_list() == [said, "x"]


def test_strings_and_conversations_in_one_column(tmp_path: Path) -> None:
    rows = [{"prompt": "Q1", "response": "A1"}, {"prompt": turns("Q2"), "response": turns("no", "A2")}]
    corpus = read(tmp_path, rows)
    assert corpus.docs.rows() == [("000001", "A1", "Q1"), ("000002", "A2", "Q2")]


def test_text_can_be_named(tmp_path: Path) -> None:
    row = {"prompt": "Q", "response": "A", "chosen": turns("Q", "B"), "title": "T"}
    assert read(tmp_path, [row], text="title").docs.row(0)[:3] == ("000001", "T", "Q")
    chosen = read(tmp_path, [row], text="chosen")
    assert chosen.docs.row(0, named=True) == {
        "doc_id": "000001",
        "text": "B",
        "prompt": "Q",
        "prompt_source": "Q",
        "response": "A",
        "title": "T",
    }
    assert chosen.schema == "chat"
    assert read(tmp_path, [row], text="response").schema == "prompt-response"
    assert read(tmp_path, [row], text="prompt").docs.row(0)[:3] == ("000001", "Q", "A")


# Ids


def test_ids_are_found_or_made(tmp_path: Path) -> None:
    rows = [{"text": "x", "id": 1, "uid": "p"}, {"text": "y", "id": 1, "uid": "q"}]
    corpus = read(tmp_path, rows)
    assert corpus.docs["doc_id"].to_list() == ["p", "q"]
    assert corpus.notes[1] == "the column 'id' was not taken for ids, because '1' is in rows 1 and 2"
    made = read(tmp_path, [{"text": "x", "id": None}, {"text": "y", "id": "z"}])
    assert made.docs["doc_id"].to_list() == ["000001", "000002"]
    assert made.notes[1] == "the column 'id' was not taken for ids, because row 1 has none"
    assert read(tmp_path, [{"text": "x", "id": 0.5}]).docs.row(0) == ("000001", "x", 0.5)
    assert read(tmp_path, [{"text": "x", "doc_id": "a"}]).docs.row(0) == ("a", "x")
    kept = read(tmp_path, [{"text": "x", "doc_id": "a"}] * 2)
    assert kept.docs.row(1, named=True) == {"doc_id": "000002", "text": "x", "doc_id_source": "a"}


def test_ids_can_be_named(tmp_path: Path) -> None:
    rows = [{"text": t, "id": i, "key": k} for t, i, k in [("x", 1, 10), ("y", 2, 20), ("z", 3, 10)]]
    assert read(tmp_path, rows[:2], id="key").docs.row(1) == ("20", "y", 2, 20)
    assert read(tmp_path, rows, id="text").docs["doc_id"].to_list() == ["x", "y", "z"]
    path = put(tmp_path, "a.jsonl", rows)
    assert fault(path, id="key") == (
        "the column 'key' cannot be the ids, because '10' is in rows 1 and 3: leave it out to number the documents"
    )
    assert "row 2 has none" in fault(
        put(tmp_path, "b.jsonl", [{"text": "x", "k": "a"}, {"text": "y", "k": ""}]), id="k"
    )


def test_ids_of_a_csv_keep_their_zeros(tmp_path: Path) -> None:
    corpus = read_corpus(put(tmp_path, "a.csv", b"id,text,n,x,long\n001,7,1,0.5,12345678901234567890\n002,8,-2,,1\n"))
    assert corpus.docs.rows() == [
        ("001", "7", "001", 1, 0.5, "12345678901234567890"),
        ("002", "8", "002", -2, None, "1"),
    ]


# Faults


def test_broken_json(tmp_path: Path) -> None:
    path = put(tmp_path, "a.jsonl", b'{"text": "x"}\n\n{"text": oops}\n')
    message = "broken JSON (Expecting value): repair or delete that line"
    assert fault(path) == f"a.jsonl, line 3, column 10: {message}"
    assert read_corpus(path, limit=1).docs["text"].to_list() == ["x"]
    assert fault(put(tmp_path, "lines.json", path.read_bytes())) == f"lines.json, line 3, column 10: {message}"
    array = put(tmp_path, "b.json", b'[{"text": "x"},\n {"text": oops}]')
    assert fault(array) == "b.json, line 2, column 11: broken JSON (Expecting value): repair or delete that line"
    assert "line 1, column 1: broken JSON" in fault(put(tmp_path, "deep.jsonl", b'{"a":' * 10**5))


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.jsonl", b'{"text": "x"}\n[1]\n', "a.jsonl, line 2: a JSON list where an object is expected"),
        ("a.json", b'[{"text": "x"}, "y"]', "a.json, item 2: a JSON str where an object is expected"),
        ("a.json", b'"x"', "a.json: a JSON str where an object is expected"),
        ("a.csv", b"id,text\n1,x\n2,y,z\n", "a.csv, line 3: 3 fields where the header has 2: quote every field"),
        ("a.csv", b'id,text,n\n1,"x\ny",2\n2,y\n', "a.csv, line 4: 2 fields where the header has 3: quote every field"),
        ("a.csv", b'id,text\n1,"x\n', "a.csv cannot be read as csv: quote every field"),
        ("a.parquet", b"PAR1 no", "cannot read a.parquet in '"),
        ("a.arrow", b"ARROW1 no", "which may be damaged"),
        ("a.jsonl", zipped(b"x" * 999), "looks binary"),
        ("a.txt", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "looks binary"),
        ("a.csv", "a,text\n1,x\n".encode("utf-16-le"), "looks binary"),
        ("a.jsonl.gz", b'{"text": "x"}\n', "is damaged or not gzip: copy it again"),
        ("a.jsonl.gz", zipped(jsonl(ROWS))[:-9], "is damaged or not gzip: copy it again"),
        ("a.csv.zst", compressed(CSV, "zstd")[:-3], "is damaged or not zstd: copy it again"),
        ("a.data", b"Once upon a time\nthere was", "cannot tell what 'a.data' holds: name it .jsonl"),
    ],
)
def test_unreadable_files(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    assert message in fault(put(tmp_path, name, data))


def test_other_kinds_of_csv(tmp_path: Path) -> None:
    alone = read_corpus(put(tmp_path, "a.csv", b"text\nx; y\n\nz\n"))
    assert alone.docs["text"].to_list() == ["x; y", None, "z"]
    mac = read_corpus(put(tmp_path, "b.csv", b"id,text\ra,x\rb,y\r"))
    assert mac.docs.rows() == [("a", "x", "a"), ("b", "y", "b")]


def test_a_csv_of_short_lines_beyond_the_limit(tmp_path: Path) -> None:
    path = put(tmp_path, "a.csv", b"text,n\nx,\ny\n")
    assert read_corpus(path, limit=1).docs["text"].to_list() == ["x"]
    assert "a.csv, line 3: 1 fields where the header has 2" in fault(path)


def test_missing_things(tmp_path: Path) -> None:
    path = put(tmp_path, "answers.jsonl", [{"id": 1, "text": "x", "note": "y"}])
    assert fault(tmp_path / "anwsers.jsonl").endswith("did you mean 'answers.jsonl'? available: answers.jsonl")
    assert fault(tmp_path / "no" / "a.jsonl").endswith(f"because there is no folder '{tmp_path / 'no'}'")
    assert fault(path, text="txt") == (
        "there is no column 'txt' in 'answers' (text); did you mean 'text'? available: id, text, note"
    )
    assert "there is no column 'key' in 'answers' (id)" in fault(path, id="key")
    assert fault(path, limit=0) == "the limit is 0: give 1 or more documents"
    put(tmp_path, "empty/x.parquet", b"")
    assert "has no .txt or .md file (it holds 1 .parquet): give a file" in fault(tmp_path / "empty")
    assert fault(["x"]) == "cannot read documents from a list: give a path, or a Polars or pandas frame"


def test_no_text_to_be_found(tmp_path: Path) -> None:
    path = put(tmp_path, "a.jsonl", [{"n": 1, "one": "long", "two": "word"}])
    assert fault(path) == (
        "cannot tell which column of 'a' holds the text: name it with --text (text=); "
        "columns: n (int), one (str), two (str)"
    )
    assert "the column 'n' holds no text but int; columns: n (int)" in fault(path, text="n")
    assert "the column 'n' holds no text but Int64" in fault(pl.DataFrame({"n": [1]}), text="n")
    assert "the column 'n' holds no text but Int64" in fault(put(tmp_path, "a.csv", b"n,text\n1,x\n"), text="n")
    mixed = put(tmp_path, "b.jsonl", [{"text": "x"}, {"text": 1}])
    assert "the column 'text' holds no text but int and str" in fault(mixed, text="text")


@pytest.mark.parametrize(
    ("name", "data"),
    [
        *[(f"a.{suffix}", b"") for suffix in ("jsonl", "json", "csv", "tsv", "jsonl.gz", "log")],
        *[("a.csv", b"id,text\n"), ("a.json", b"[]"), ("a.jsonl", b"\n\n"), ("a.jsonl.gz", zipped(b""))],
        ("a.parquet", parquet([{"text": "x"}][:0])),
    ],
)
def test_no_rows(tmp_path: Path, name: str, data: bytes) -> None:
    corpus = read_corpus(put(tmp_path, name, data))
    assert corpus.docs.schema == {"doc_id": pl.String, "text": pl.String}
    assert corpus.docs.height == 0
    assert corpus.notes == (f"'{corpus.name}' holds no documents",)
    assert corpus.schema == "empty"


# Repairs


def test_nulls_and_empty_texts_are_kept(tmp_path: Path) -> None:
    corpus = read(tmp_path, [{"text": t} for t in (None, "", " \n", "x")])
    assert corpus.docs["text"].to_list() == [None, "", " \n", "x"]
    assert corpus.notes[1] == "of 4 texts, 1 null and 2 empty: they are kept, and no concept is active in them"
    csv = read_corpus(put(tmp_path, "a.csv", b'text,n\n"",1\n,2\n'))
    assert csv.docs["text"].to_list() == ["", None]
    assert read(tmp_path, [{"text": None, "n": 1}]).docs.row(0) == ("000001", None, 1)


def test_lines_that_are_not_utf8(tmp_path: Path) -> None:
    data = '{"text": "naïve"}\n'.encode() + '{"text": "“naïve”"}\n'.encode("cp1252") + b'{"text": "\x81"}'
    corpus = read_corpus(put(tmp_path, "a.jsonl", data))
    assert corpus.docs["text"].to_list() == ["naïve", "“naïve”", "\ufffd"]
    assert corpus.notes[0] == "a.jsonl: lines that are not valid UTF-8, read as Windows-1252: 2"
    csv = read_corpus(put(tmp_path, "a.csv", "text\ncafé\n".encode("latin-1")))
    assert csv.docs["text"].to_list() == ["café"]
    assert csv.notes[0] == "a.csv: lines that are not valid UTF-8, read as Windows-1252: 1"


def test_characters_that_trip_readers(tmp_path: Path) -> None:
    odd = "a\u2028b\u0085c\x0bd\x00e\ufefff\x1cg"
    raw = json.dumps({"text": odd}, ensure_ascii=False).encode()
    for name, data in {
        "raw.jsonl": raw + b"\n" + raw,
        "raw.json": b"[" + raw + b",\n" + raw + b"]",
        "control.jsonl": (b'{"text": "' + odd.encode() + b'"}\n') * 2,
        "a.csv": b'text\n"' + odd.encode() + b'"\n"' + odd.encode() + b'"\n',
        "a.parquet": parquet([{"text": odd}] * 2),
    }.items():
        corpus = read_corpus(put(tmp_path, name, data))
        assert corpus.docs["text"].to_list() == [odd, odd], name


def test_lone_surrogates_are_replaced(tmp_path: Path) -> None:
    data = rb'{"text": "a\ud800b \ud83d\ude00", "meta": {"\udc00": ["\ud801x"]}, "\udfff": 1}'
    corpus = read_corpus(put(tmp_path, "a.jsonl", data))
    assert corpus.docs.row(0, named=True) == {
        "doc_id": "000001",
        "text": "a\ufffdb 😀",
        "meta": {"\ufffd": ["\ufffdx"]},
        "\ufffd": 1,
    }
    assert corpus.notes[1:] == tuple(
        f"lone surrogates in the column '{name}' were replaced by U+FFFD" for name in ("text", "meta")
    )
    frame = pd.DataFrame({"text": pd.Series(["\ud800"], dtype=object)})
    assert read_corpus(frame).docs["text"].to_list() == ["\ufffd"]


def test_a_long_document(tmp_path: Path) -> None:
    long = 'word, "x"\n' * 1_000_000
    for name, data in {
        "a.jsonl": jsonl([{"text": long}]),
        "a.csv": pl.DataFrame({"text": [long], "n": [None]}).write_csv().encode(),
        "a.txt": long.encode(),
    }.items():
        assert read_corpus(put(tmp_path, name, data)).docs["text"].to_list() == [long]


def test_nested_and_irregular_columns(tmp_path: Path) -> None:
    rows = [
        {"text": "x", "meta": {"a": 1}, "tags": ["p"], "score": 1, "mixed": 1, "free": {}, "big": 2**70, "none": None},
        {"text": "y", "meta": {"b": [0.5]}, "tags": [], "score": 0.5, "mixed": {"k": "é"}, "nan": float("nan")},
    ]
    data = json.dumps(rows).encode()
    corpus = read_corpus(put(tmp_path, "a.json", data))
    assert corpus.docs.drop("doc_id").to_dicts() == [
        {
            "text": "x",
            "meta": {"a": 1, "b": None},
            "tags": ["p"],
            "score": 1.0,
            "mixed": "1",
            "free": "{}",
            "big": str(2**70),
            "none": None,
            "nan": None,
        },
        {
            "text": "y",
            "meta": {"a": None, "b": [0.5]},
            "tags": [],
            "score": 0.5,
            "mixed": '{"k": "é"}',
            "free": None,
            "big": None,
            "none": None,
            "nan": None,
        },
    ]
    assert corpus.notes[1:] == tuple(
        f"the column '{name}' holds values of several types and was kept as JSON strings"
        for name in ("mixed", "free", "big")
    )
    many = read(tmp_path, [{"text": "x", "by_id": {f"k{i}": i for i in range(999)}}])
    assert json.loads(many.docs["by_id"][0])["k998"] == 998


def test_pandas_objects(tmp_path: Path) -> None:
    columns = {"text": ["x", None, "z"], "any": [{"a": 1}, pd.NA, np.ones(2)], 3: [1.5, float("nan"), 2]}
    corpus = read_corpus(pd.DataFrame(columns, index=["p", "q", "r"]))
    assert corpus.docs.rows() == [
        ("000001", "x", '{"a": 1}', 1.5),
        ("000002", None, None, None),
        ("000003", "z", "[1.0, 1.0]", 2.0),
    ]
    assert "two columns 'text'" in fault(pd.DataFrame([["x", "y"]], columns=["text", "text"]))


# Round trips and the digest

TEXTS = st.lists(st.text(st.characters(codec="utf-8"), max_size=30), min_size=1, max_size=8)


@given(texts=TEXTS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_texts_survive_any_format(tmp_path: Path, texts: list[str]) -> None:
    rows = [{"id": f"d{i}", "text": text} for i, text in enumerate(texts)]
    frame = pl.DataFrame(rows)
    files = {
        "a.jsonl": jsonl(rows),
        "raw.jsonl": "\n".join(json.dumps(row, ensure_ascii=False) for row in rows).encode(),
        "a.json": json.dumps(rows, ensure_ascii=False).encode(),
        "a.csv": frame.write_csv(quote_style="non_numeric").encode(),
        "a.tsv": frame.write_csv(separator="\t").encode(),
        "a.parquet": parquet(rows),
    }
    digests = set()
    for name, data in files.items():
        corpus = read_corpus(put(tmp_path, name, data))
        assert corpus.docs["text"].to_list() == texts, name
        assert corpus.docs["doc_id"].to_list() == [row["id"] for row in rows], name
        digests.add(corpus.digest)
    assert len(digests) == 1


def corpus_of(docs: pl.DataFrame) -> Corpus:
    return Corpus(docs, (), "x", "text")


def test_digest_is_of_the_content_alone() -> None:
    docs = pl.DataFrame(
        {
            "doc_id": ["a", "b"],
            "text": ["é\n", None],
            "n": [1, 2],
            "x": [0.1, None],
            "s": [{"p": [1], "o": b"\x01"}, None],
        }
    )
    written = (
        '["doc_id", 0, ["a", "b"]]',
        '["text", 0, ["é\\n", null]]',
        '["n", 0, [1, 2]]',
        '["x", 0, [0.1, null]]',
        '["s", 0, [{"o": "01", "p": [1]}, null]]',
    )
    assert corpus_of(docs).digest == hashlib.sha256("".join(written).encode()).hexdigest()
    halves = pl.concat([docs[:1], docs[1:]], rechunk=False)
    assert corpus_of(halves.with_columns(pl.col("n").cast(pl.Int8))).digest == corpus_of(docs).digest
    others = [
        docs.rename({"n": "m"}),
        docs[::-1],
        docs.select("text", pl.exclude("text")),
        docs.with_columns(text=pl.lit("")),
        docs.with_columns(doc_id=pl.Series(["a", "c"])),
        docs.head(1),
    ]
    assert len({corpus_of(other).digest for other in [docs, *others]}) == 7


def test_reading_again_what_was_read(tmp_path: Path) -> None:
    corpus = read(tmp_path, [{"uid": "u", "messages": turns("Q", "A"), "error": "e"}])
    corpus.docs.write_parquet(tmp_path / "b.parquet")
    assert_frame_equal(read_corpus(tmp_path / "b.parquet").docs, corpus.docs)
    assert re.fullmatch(r"Corpus\(answers: 1 documents, arena-hard\)", repr(corpus))


# Real files


def test_arena_hard(shared_data: Path) -> None:
    corpus = read_corpus(shared_data / "arena_hard_v0.1_gpt-4-0613.jsonl")
    assert corpus.schema == "arena-hard"
    assert corpus.name == "arena_hard_v0.1_gpt-4-0613"
    assert corpus.docs.shape == (500, 4)
    first = corpus.docs.row(0, named=True)
    assert first["doc_id"] == first["uid"] == "0122ab60646b4961bc39e9c03bdf6bcc"
    assert first["prompt"] == "Tell me how to implement a SCIM server in PHP using slim as a router"
    assert first["text"].startswith("Implementing a SCIM (System for Cross-domain Identity Management) server in PHP")

    table = read_corpus(shared_data / "arena_hard_v0.1_responses.parquet")
    assert table.schema == "prompt-response"
    assert table.docs.columns == ["doc_id", "text", "prompt", "uid", "model"]
    assert table.docs.row(0, named=True)["prompt"] == first["prompt"]
    assert "'0122ab60646b4961bc39e9c03bdf6bcc' is in rows 1 and 501" in table.notes[1]
    same = table.docs.filter(model="gpt-4-0613").sort("uid")
    assert_frame_equal(same.select("uid", "prompt", "text"), corpus.docs.sort("uid").select("uid", "prompt", "text"))


def test_banking77(shared_data: Path) -> None:
    corpus = read_corpus(shared_data / "banking77.csv")
    assert corpus.docs.columns == ["doc_id", "text", "split", "intent"]
    assert corpus.docs.row(0) == ("000001", "I am still waiting on my card?", "train", "card_arrival")
    assert (corpus.docs.height, corpus.docs["intent"].n_unique(), corpus.docs["text"].null_count()) == (13083, 77, 0)
