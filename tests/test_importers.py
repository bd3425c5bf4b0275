"""Labels that others made, written here in each layout, and what is no label at all."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic import random_matrix, write

import saelens_data as sd
from saelens_data.errors import InputError
from saelens_data.labels.importers import read_labels
from saelens_data.labels.places import import_labels
from saelens_data.store.labels import read_labels as kept_labels


def neuronpedia(index: int, description: Any, **changes: Any) -> dict[str, Any]:
    """A row as the public exports have it: the index is a string, and most of the row is an embedding."""
    row = {
        "id": f"id{index}",
        "modelId": "llama3.1-8b-it",
        "layer": "19-resid-post-gf",
        "index": str(index),
        "description": description,
        "typeName": "oai_token-act-pair",
        "explanationModelName": "gpt-4o-mini",
        "authorId": "author",
        "scoreV1": 0,
        "scoreV2": None,
        "embedding": [0.5] * 256,
    }
    return {**row, **changes}


def jsonl(rows: list[Any]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def labels(found: pl.DataFrame) -> list[tuple[int, str, str]]:
    return found.select(pl.col("latent").cast(pl.Int64), "label", "origin").sort("latent", "origin").rows()


# Neuronpedia


EXPORT = [neuronpedia(3, "tea"), neuronpedia(3, "hot drinks", explanationModelName="o4-mini"), neuronpedia(0, "rain")]
EXPECTED = [
    (0, "rain", "neuronpedia:gpt-4o-mini"),
    (3, "tea", "neuronpedia:gpt-4o-mini"),
    (3, "hot drinks", "neuronpedia:o4-mini"),
]


@pytest.mark.parametrize("name", ["batch-0.jsonl", "batch-0.jsonl.gz", "export.json", "no_suffix", "folder"])
def test_neuronpedia_exports(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if name == "folder":
        path.mkdir()
        (path / "batch-0.jsonl.gz").write_bytes(gzip.compress(jsonl(EXPORT[:2])))
        (path / "batch-1.jsonl.gz").write_bytes(gzip.compress(jsonl(EXPORT[2:])))
    elif name == "export.json":
        path.write_bytes(json.dumps(EXPORT).encode())
    else:
        data = jsonl(EXPORT)
        path.write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    found = read_labels(path)
    assert labels(found.rows) == EXPECTED
    assert (found.layout, found.source) == ("Neuronpedia export", "llama3.1-8b-it/19-resid-post-gf")
    assert found.rows["method"].unique().to_list() == ["oai_token-act-pair"]
    assert found.rows["score"].null_count() == 3  # 0 is what the export has where there is no score


def test_one_row_is_an_export_too(tmp_path: Path) -> None:
    (tmp_path / "one.jsonl").write_bytes(jsonl(EXPORT[:1]))
    assert labels(read_labels(tmp_path / "one.jsonl").rows) == EXPECTED[1:2]


def test_neuronpedia_scores_and_dates_are_the_files_own(tmp_path: Path) -> None:
    scores = [
        {"value": 0.8, "explanationScoreTypeName": "eleuther_fuzz"},
        {"value": 0.6, "explanationScoreTypeName": "eleuther_recall"},
    ]
    rows = [neuronpedia(1, "a", scores=scores, createdAt="2025-01-10T00:00:00Z"), neuronpedia(2, "b", scoreV2=0.4)]
    (tmp_path / "x.jsonl").write_bytes(jsonl(rows))
    found = read_labels(tmp_path / "x.jsonl").rows.select("score", "score_kind", "created", "extra").rows()
    other = '{"scores": {"eleuther_fuzz": 0.8, "eleuther_recall": 0.6}}'
    assert found == [(0.8, "eleuther_fuzz", "2025-01-10T00:00:00Z", other), (0.4, "scoreV2", None, None)]


def test_an_export_of_several_saes_needs_a_choice(tmp_path: Path) -> None:
    rows = [*EXPORT, neuronpedia(1, "elsewhere", layer="20-resid-post-gf")]
    (tmp_path / "x.jsonl").write_bytes(jsonl(rows))
    with pytest.raises(InputError, match=r"labels of 2 SAEs: choose one with --source .*19-resid-post-gf"):
        read_labels(tmp_path / "x.jsonl")
    for source in ("20-resid-post-gf", "llama3.1-8b-it/20-resid-post-gf"):
        assert labels(read_labels(tmp_path / "x.jsonl", source=source).rows) == [
            (1, "elsewhere", "neuronpedia:gpt-4o-mini")
        ]
    with pytest.raises(InputError, match="no labels of '21-x'"):
        read_labels(tmp_path / "x.jsonl", source="21-x")


def test_rows_without_a_description_are_counted(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_bytes(jsonl([*EXPORT, neuronpedia(5, None), neuronpedia(6, " ")]))
    found = read_labels(tmp_path / "x.jsonl")
    assert labels(found.rows) == EXPECTED
    assert found.notes == ("2 rows without a label are left out.",)


# Goodfire's JSON and tables


def test_goodfire_json(tmp_path: Path) -> None:
    (tmp_path / "Llama-3.1-8B-Instruct.json").write_text('{"0": "rain", "41": "tea", "7": null}')
    found = read_labels(tmp_path / "Llama-3.1-8B-Instruct.json")
    assert labels(found.rows) == [(0, "rain", "file:Llama-3.1-8B-Instruct"), (41, "tea", "file:Llama-3.1-8B-Instruct")]
    assert labels(read_labels(tmp_path / "Llama-3.1-8B-Instruct.json", origin="goodfire").rows)[0][2] == "goodfire"


TABLE = pl.DataFrame(
    {
        "latent": [3, 0],
        "label": ["tea, hot", "rain"],
        "score": [0.5, None],
        "origin": ["me", None],
        "colour": ["a", "b"],
    }
)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".json", ".parquet", ".txt"])
def test_tables(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"mine{suffix}"
    if suffix == ".parquet":
        TABLE.write_parquet(path)
    elif suffix == ".jsonl":
        TABLE.write_ndjson(path)
    elif suffix == ".json":
        path.write_text(json.dumps(TABLE.to_dicts()))
    else:
        TABLE.write_csv(path, separator="\t" if suffix == ".tsv" else ",")
    found = read_labels(path)
    assert labels(found.rows) == [(0, "rain", "file:mine"), (3, "tea, hot", "me")]
    assert found.rows.sort("latent", descending=True)["score"].to_list() == [0.5, None]
    assert found.notes == ("Columns that are not read: colour.",)


@settings(deadline=None, max_examples=40)
@given(
    rows=st.dictionaries(
        st.integers(0, 99), st.text(st.characters(codec="utf-8"), min_size=1, max_size=12), min_size=1, max_size=8
    )
)
def test_json_and_lines_hold_what_was_written(rows: dict[int, str], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("labels")
    rows = {**rows, 100: "never blank"}
    (path / "a.json").write_text(json.dumps({str(k): v for k, v in rows.items()}))
    (path / "b.jsonl").write_bytes(jsonl([{"latent": k, "label": v} for k, v in rows.items()]))
    found = [read_labels(path / name, origin="o").rows for name in ("a.json", "b.jsonl")]
    assert labels(found[0]) == labels(found[1])
    assert {(latent, label) for latent, label, _ in labels(found[0])} <= set(rows.items())


# delphi


def delphi(folder: Path, module: str = "layers.19") -> Path:
    judged = [(True, True), (True, True), (True, False), (True, None), (False, False), (False, True)]
    examples = [{"activating": a, "prediction": p, "str_tokens": ["x"], "correct": a == p} for a, p in judged]
    for inner in ("explanations", "scores/detection", "scores/fuzz"):
        (folder / inner).mkdir(parents=True, exist_ok=True)
    for latent, text in ((3, "tea"), (40, "rain")):
        (folder / "explanations" / f"{module}_latent{latent}.txt").write_text(json.dumps(text))
    (folder / "scores/detection" / f"{module}_latent3.txt").write_text(json.dumps(examples))
    (folder / "scores/fuzz" / f"{module}_latent3.txt").write_text(json.dumps(examples[:3] + examples[4:5]))
    (folder / "scores/fuzz" / f"{module}_latent40.txt").write_text(json.dumps({"correlation": 0.3}))
    return folder


def test_delphi_folders(tmp_path: Path) -> None:
    found = read_labels(delphi(tmp_path / "run"))
    assert labels(found.rows) == [(3, "tea", "delphi"), (40, "rain", "delphi")]
    tea, rain = found.rows.rows(named=True)
    # Two of three activating examples and one of two others judged right; one without an answer counts for neither.
    assert (tea["score"], tea["n"]) == (pytest.approx((2 / 3 + 1 / 2) / 2), 5)
    assert tea["score_kind"] == "detection balanced accuracy"
    assert json.loads(tea["extra"])["scores"]["fuzz"] == pytest.approx((2 / 3 + 1) / 2)
    assert (rain["score"], rain["n"]) == (None, None)
    assert found.source == "layers.19"
    assert found.notes == ("Scores of a kind that is not known here are not read: fuzz.",)
    assert labels(read_labels(tmp_path / "run" / "explanations").rows) == labels(found.rows)


def test_a_delphi_folder_of_several_modules_needs_a_choice(tmp_path: Path) -> None:
    delphi(tmp_path)
    delphi(tmp_path, "gpt--layers.2")
    with pytest.raises(InputError, match=r"labels of 2 modules: choose one with --source .*gpt/layers\.2"):
        read_labels(tmp_path)
    assert read_labels(tmp_path, source="gpt/layers.2").rows.height == 2
    with pytest.raises(InputError, match=r"no labels of 'layers\.3'"):
        read_labels(tmp_path, source="layers.3")


def test_a_delphi_explanation_that_is_no_json_string(tmp_path: Path) -> None:
    (delphi(tmp_path) / "explanations" / "layers.19_latent3.txt").write_text("tea")
    with pytest.raises(InputError, match=r"layers\.19_latent3\.txt' is not JSON"):
        read_labels(tmp_path)


# what is refused, each with one sentence


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"{}", "holds no labels"),
        (b"[]", "holds no labels"),
        (b'{"0": "a"', "is not JSON"),
        (b'{"0": 5}', "layout that is not known here"),
        (b'{"colour": "red"}', "layout that is not known here"),
        (b'[{"colour": "red"}]', "layout that is not known here"),
        (b"[1, 2]", "layout that is not known here"),
        (b"latent,name\n1,tea\n", "no column 'label'"),
        (b"latent,label\n", "holds no labels"),
        (b"just some words", "no column 'latent'"),
        (b"\x1f\x8bnot gzip at all", "damaged or cut off"),
        (b"PAR1 and no more", "cannot be read"),
        (jsonl([neuronpedia(1, "a"), {"modelId": "m"}]), "row 2 of .* is not a Neuronpedia explanation"),
        (jsonl([{**neuronpedia(1, "a"), "index": "first"}]), "row 1 of .* is not a Neuronpedia explanation"),
        (jsonl([neuronpedia(1, "a")]) + b"{cut", "line 2 of .* is not JSON"),
        (jsonl([neuronpedia(1, ["a"])]), "labels are wanted as text"),
        (b"[" * 5000, "is not JSON"),
    ],
)
def test_files_that_hold_no_labels(content: bytes, says: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(InputError, match=says) as caught:
        read_labels(tmp_path / "x")
    assert "\n" not in str(caught.value)


def test_folders_and_names_that_hold_no_labels(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there are no labels at"):
        read_labels(tmp_path / "nowhere")
    with pytest.raises(InputError, match="holds no labels that are known here"):
        read_labels(tmp_path)
    (tmp_path / "features.jsonl").write_bytes(jsonl([{"frac_nonzero": 0.1}]))
    with pytest.raises(InputError, match="not a Neuronpedia export, whose rows have modelId"):
        read_labels(tmp_path)


# into a store


@pytest.fixture
def store(tmp_path: Path) -> Path:
    write(tmp_path / "a.sae", random_matrix(3, 12, 6))
    return tmp_path / "a.sae"


def test_several_explainers_stay_apart_in_the_store(store: Path, tmp_path: Path) -> None:
    (tmp_path / "x.jsonl.gz").write_bytes(gzip.compress(jsonl(EXPORT)))
    import_labels(store, tmp_path / "x.jsonl.gz", prefer=("neuronpedia:o4-mini",))
    m = sd.open(store)
    assert m.concepts["label"].to_list() == ["rain", "label 1", "label 2", "hot drinks", "label 4", "label 5"]
    assert m.labels.of_latents([3]).rows["origin"].to_list() == [
        "neuronpedia:gpt-4o-mini",
        "neuronpedia:o4-mini",
        "test",
    ]


def test_a_latent_beyond_the_sae_leaves_the_store_as_it_was(store: Path, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"5": "last", "6": "beyond"}')
    with pytest.raises(InputError, match="label for latent 6, and this SAE has 6"):
        import_labels(store, tmp_path / "x.json")
    assert kept_labels(store) is None


def test_labels_that_name_another_sae_are_refused(tmp_path: Path) -> None:
    m = random_matrix(3, 12, 6)
    encoder = "meta-llama/Llama-3.1-8B-Instruct@layer.19.resid_post@release:goodfire-llama-3.1-8b-instruct:layer_19"
    source = {**vars(m.source), "encoder": encoder}
    write(tmp_path / "a.sae", m, source=type(m.source)(**source))
    (tmp_path / "x.jsonl").write_bytes(jsonl(EXPORT))
    import_labels(tmp_path / "a.sae", tmp_path / "x.jsonl")
    (tmp_path / "y.jsonl").write_bytes(jsonl([neuronpedia(1, "a", layer="20-resid-post-gf")]))
    with pytest.raises(InputError, match=r"are of llama3\.1-8b-it/20-resid-post-gf, and the SAE here is .*19-resid"):
        import_labels(tmp_path / "a.sae", tmp_path / "y.jsonl")
