"""Labels of many origins: which is shown, what a store keeps of them, and that they belong to one SAE."""

from __future__ import annotations

import random
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from synthetic import SOURCE, random_matrix, write, writer

import saelens_data as sd
from saelens_data.encoders import find_encoder
from saelens_data.errors import InputError, StoreError
from saelens_data.labels.places import (
    add_labels,
    inherit_labels,
    labels_of,
    place_of,
    prefer_labels,
    remove_labels,
)
from saelens_data.matrix.label_table import LABEL_SCHEMA, LabelTable
from saelens_data.store import open_store, verify_store, write_store
from saelens_data.store.labels import read_labels, to_bytes, write_labels

SAE = SOURCE.sae_sha256


def table(*rows: dict[str, object], sae: str = SAE, **options: object) -> LabelTable:
    frame = pl.DataFrame(rows, schema_overrides={k: v for k, v in LABEL_SCHEMA.items() if k in rows[0]})
    return LabelTable.of(frame, sae_sha256=sae, **options)  # type: ignore[arg-type]


def shown(found: LabelTable) -> dict[int, str]:
    return dict(found.preferred().select("latent", "label").rows())


@pytest.fixture
def store(tmp_path: Path) -> Path:
    write(tmp_path / "a.sae", random_matrix(3, 12, 6))
    return tmp_path / "a.sae"


# which label is shown


def test_a_label_that_beats_the_one_it_replaces_comes_first_by_how_much() -> None:
    found = table(
        {"latent": 1, "label": "by a little", "origin": "llm:a", "score": 0.9, "baseline": 0.85},
        {"latent": 1, "label": "by much", "origin": "llm:b", "score": 0.7, "baseline": 0.5},
        {"latent": 1, "label": "never compared", "origin": "file:x", "score": 1.0, "baseline": None},
    )
    assert shown(found) == {1: "by much"}


def test_a_label_that_does_not_beat_it_is_not_used_unless_asked_for() -> None:
    rejected = {"latent": 1, "label": "worse", "origin": "llm:a", "score": 0.5, "baseline": 0.5}
    found = table(rejected, {"latent": 1, "label": "offline", "origin": "offline phrases", "score": 0.1})
    assert shown(found) == {1: "offline"}
    assert found.rejected()["label"].to_list() == ["worse"]
    assert shown(table(rejected)) == {}
    assert shown(found.preferring("llm")) == {1: "worse"}


def test_without_comparison_the_later_origin_comes_first_and_within_it_the_higher_score() -> None:
    shipped = table({"latent": 1, "label": "old", "origin": "offline phrases", "score": 1.0})
    first = table(
        {"latent": 1, "label": "low", "origin": "file:x", "method": "a", "score": 0.2},
        {"latent": 1, "label": "high", "origin": "file:x", "method": "b", "score": 0.4},
        {"latent": 1, "label": "unscored", "origin": "file:x", "method": "c", "score": None},
    )
    assert shown(shipped.adding(first)) == {1: "high"}
    assert shown(shipped.adding(first).adding(table({"latent": 1, "label": "newest", "origin": "b"}))) == {1: "newest"}


def test_preference_by_origin_or_its_family_in_the_order_given() -> None:
    found = table(
        {"latent": 1, "label": "gpt", "origin": "neuronpedia:gpt-4o-mini"},
        {"latent": 1, "label": "llama", "origin": "neuronpedia:llama"},
        {"latent": 1, "label": "mine", "origin": "file:mine"},
        {"latent": 2, "label": "other", "origin": "file:other"},
    )
    assert shown(found.preferring("neuronpedia:llama", "file:mine")) == {1: "llama", 2: "other"}
    assert shown(found.preferring("file:mine", "neuronpedia")) == {1: "mine", 2: "other"}
    assert shown(found.preferring("neuronpedia")) == {1: "gpt", 2: "other"}
    with pytest.raises(InputError, match=r"no labels of origin 'neuron': .*file:mine"):
        found.preferring("neuron")


ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "latent": st.integers(0, 4),
            "label": st.sampled_from(["a", "b", "c"]),
            "origin": st.sampled_from(["x", "x:1", "y"]),
            "score": st.none() | st.sampled_from([0.0, 0.5, 1.0]),
            "baseline": st.none() | st.just(0.5),
        }
    ),
    min_size=1,
    max_size=20,
)


@settings(deadline=None, max_examples=30)
@given(rows=ROWS, seed=st.integers(0, 3))
def test_what_is_shown_does_not_depend_on_the_order_of_rows_of_one_origin(rows: list, seed: int) -> None:
    one = [{**row, "origin": "x", "label": f"{row['label']} {i}"} for i, row in enumerate(rows)]
    mixed = random.Random(seed).sample(one, len(one))
    assert_frame_equal(table(*one).rows, table(*mixed).rows)
    assert to_bytes(table(*one)) == to_bytes(table(*mixed))


@settings(deadline=None, max_examples=30)
@given(rows=ROWS, more=ROWS)
def test_adding_replaces_what_the_origin_said_of_these_latents_and_nothing_else(rows: list, more: list) -> None:
    before, newer = table(*rows), table(*more)
    after = before.adding(newer)
    said = set(newer.rows.select("latent", "origin").rows())
    kept = [row for row in before.rows.rows(named=True) if (row["latent"], row["origin"]) not in said]
    assert sorted(map(repr, after.rows.rows(named=True))) == sorted(map(repr, [*kept, *newer.rows.rows(named=True)]))
    assert to_bytes(after.adding(newer)) == to_bytes(after)
    assert after.preferred()["latent"].is_unique().all()


# what is refused


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"latent": 6, "label": "a"}, "label for latent 6, and this SAE has 6"),
        ({"latent": -1, "label": "a"}, "latent -1, which no SAE has"),
        ({"latent": "one", "label": "a"}, "not a whole number"),
        ({"latent": 1.5, "label": "a"}, "not a whole number"),
        ({"latent": None, "label": "a"}, "without a latent"),
        ({"latent": 1, "label": " \n"}, "label of latent 1 is empty"),
        ({"latent": 1, "label": "a", "score": float("nan")}, "'score' holds a number that is not finite"),
        ({"latent": 1, "label": "a", "colour": "b"}, "no column 'colour'"),
        ({"latent": 1}, "needs the column 'label'"),
    ],
)
def test_rows_that_cannot_be_labels_are_refused(row: dict, says: str) -> None:
    with pytest.raises(InputError, match=says):
        LabelTable.of(pl.DataFrame([row]), sae_sha256=SAE, d_sae=6)


def test_a_label_is_one_line() -> None:
    assert table({"latent": 1, "label": "  two\n\tlines\u2028 \x1b[31mred "}).rows["label"][0] == "two lines [31mred"


def test_labels_of_another_sae_are_refused(store: Path) -> None:
    other = table({"latent": 1, "label": "a"}, sae="cc")
    for attach in (lambda: open_store(store).with_labels(other), lambda: add_labels(store, other)):
        with pytest.raises(InputError, match="labels of another SAE"):
            attach()
    assert read_labels(store) is None


# beside a store


def test_a_store_opens_with_the_labels_beside_it(store: Path) -> None:
    before = sd.open(store)
    add_labels(store, pl.DataFrame({"latent": [1, 4], "label": ["one", "four"], "score": [0.7, None]}), origin="mine")
    after = sd.open(store)
    assert after.concepts["label"].to_list() == ["label 0", "one", "label 2", "label 3", "four", "label 5"]
    assert after.concepts["score"].to_list() == [0.5, 0.7, 0.5, 0.5, None, 0.5]
    assert after.concepts["origin"].to_list() == ["test", "mine", "test", "test", "mine", "test"]
    both = after.labels.of_latents([1]).rows.select("label", "origin").rows()
    assert both == [("one", "mine"), ("label 1", "test")]
    assert_frame_equal(
        after.concepts.drop("label", "score", "origin"), before.concepts.drop("label", "score", "origin")
    )
    assert verify_store(store) == []


def test_the_order_that_is_preferred_is_kept_and_forgotten(store: Path) -> None:
    add_labels(store, pl.DataFrame({"latent": [1], "label": ["one"]}), origin="mine")
    prefer_labels(store, "test")
    assert sd.open(store).concepts["label"][1] == "label 1"
    add_labels(store, pl.DataFrame({"latent": [2], "label": ["two"]}), origin="mine")
    assert sd.open(store).concepts["label"][1:3].to_list() == ["label 1", "label 2"]
    prefer_labels(store)
    assert sd.open(store).concepts["label"][1:3].to_list() == ["one", "two"]


def test_removing_an_origin(store: Path) -> None:
    add_labels(store, pl.DataFrame({"latent": [1], "label": ["one"]}), origin="mine", prefer=("mine",))
    with pytest.raises(InputError, match="'test' came with the encoder and stay"):
        remove_labels(store, "test")
    with pytest.raises(InputError, match="no labels of origin 'yours'"):
        remove_labels(store, "yours")
    assert remove_labels(store, "mine").origins == ("test",)
    assert not (store / "labels.parquet").exists()
    assert sd.open(store).concepts["label"][1] == "label 1"


def test_the_same_labels_give_the_same_bytes(store: Path, tmp_path: Path) -> None:
    shutil.copytree(store, tmp_path / "b.sae")
    rows = pl.DataFrame({"latent": [4, 1], "label": ["four", "one"]})
    add_labels(store, rows, origin="mine")
    add_labels(tmp_path / "b.sae", rows.reverse(), origin="mine")
    add_labels(tmp_path / "b.sae", rows, origin="mine")
    assert (store / "labels.parquet").read_bytes() == (tmp_path / "b.sae" / "labels.parquet").read_bytes()


def test_labels_added_at_the_same_time_are_all_kept(store: Path) -> None:
    def add(latent: int) -> None:
        add_labels(store, pl.DataFrame({"latent": [latent], "label": [f"new {latent}"]}), origin=f"by {latent % 2}")

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(add, range(6)))
    assert sd.open(store).concepts["label"].to_list() == [f"new {latent}" for latent in range(6)]


def test_a_flipped_bit_is_found_and_said(store: Path) -> None:
    add_labels(store, pl.DataFrame({"latent": [1], "label": ["one"]}), origin="mine")
    data = (store / "labels.parquet").read_bytes()
    draw = random.Random(0)
    for at in [*range(0, len(data), 7), len(data) - 1]:
        flipped = bytearray(data)
        flipped[at] ^= 1 << draw.randrange(8)
        (store / "labels.parquet").write_bytes(flipped)
        with pytest.raises(StoreError, match=r"labels\.parquet (is damaged: restore it|has format)"):
            read_labels(store)
    assert ["labels.parquet" in problem for problem in verify_store(store)] == [True]
    with pytest.raises(StoreError, match=r"labels\.parquet"):
        sd.open(store)


def test_labels_of_another_sae_beside_a_store_are_refused_and_never_overwritten(store: Path) -> None:
    write_labels(store, table({"latent": 1, "label": "a"}, sae="cc"))
    with pytest.raises(StoreError, match="another SAE"):
        sd.open(store)
    assert ["another SAE" in problem for problem in verify_store(store)] == [True]
    m = random_matrix(4, 12, 6)
    with pytest.raises(StoreError, match="move that file elsewhere"), writer(store, m, digest="new", overwrite=True):
        pass
    assert read_labels(store) is not None


def test_labels_outlive_the_documents_they_stand_beside(store: Path) -> None:
    add_labels(store, pl.DataFrame({"latent": [1], "label": ["one"]}), origin="mine")
    write(store, random_matrix(4, 12, 6), digest="new", overwrite=True)
    assert sd.open(store).concepts["label"][1] == "one"


def test_a_matrix_takes_its_labels_along(store: Path, tmp_path: Path) -> None:
    add_labels(store, pl.DataFrame({"latent": [1, 4], "label": ["one", "four"]}), origin="mine")
    m = sd.open(store).filter_docs(pl.col("model") == "A").filter_concepts(pl.col("latent") < 3)
    assert m.labels.rows.filter(pl.col("origin") == "mine")["latent"].to_list() == [1]
    write_store(tmp_path / "part.sae", m)
    again = sd.open(tmp_path / "part.sae")
    assert_frame_equal(again.labels.rows, m.labels.rows)
    assert again.labels.origins == m.labels.origins
    assert verify_store(tmp_path / "part.sae") == []


def test_a_plain_table_replaces_what_is_shown_and_loses_nothing() -> None:
    m = random_matrix(3, 5, 4).with_labels(pl.DataFrame({"latent": [2], "label": ["mine"], "origin": ["me"]}))
    assert m.concepts["label"].to_list() == ["label 0", "label 1", "mine", "label 3"]
    assert set(m.labels.of_latents([2]).rows.select("label", "origin").rows()) == {("mine", "me"), ("label 2", "test")}


def test_a_selection_of_concepts_does_not_say_how_many_there_are(store: Path, tmp_path: Path) -> None:
    assert place_of(store).d_sae == 6
    write_store(tmp_path / "part.sae", sd.open(store).filter_concepts(pl.col("latent").is_in([1, 4])))
    assert place_of(tmp_path / "part.sae").d_sae is None
    add_labels(tmp_path / "part.sae", pl.DataFrame({"latent": [4, 5], "label": ["four", "five"]}), origin="mine")
    assert sd.open(tmp_path / "part.sae").concepts["label"].to_list() == ["label 1", "four"]


def test_a_folder_in_the_place_of_the_file_is_said(store: Path) -> None:
    (store / "labels.parquet").mkdir()
    with pytest.raises(StoreError, match=r"labels\.parquet"):
        add_labels(store, pl.DataFrame({"latent": [1], "label": ["one"]}))


# in the folder of an encoder


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    folder = tmp_path / "my-encoder"
    folder.mkdir()
    for name in ("encoder.json", "cfg.json", "concepts.parquet", "sae_weights.safetensors"):
        (folder / name).symlink_to(find_encoder("minilm-8k") / name)
    return folder


def test_a_store_inherits_from_the_encoder_and_its_own_labels_come_first(encoder: Path, tmp_path: Path) -> None:
    rows = pl.DataFrame({"latent": [0, 1], "label": ["zero", "one"]})
    found = add_labels(encoder, rows, origin="theirs")
    assert found.origins == ("theirs", "offline phrases")
    assert labels_of(encoder).preferred().filter(pl.col("origin") == "theirs")["label"].to_list() == ["zero", "one"]
    with pytest.raises(InputError, match="this SAE has 8,192"):
        add_labels(encoder, pl.DataFrame({"latent": [8192], "label": ["beyond"]}))
    m = random_matrix(3, 12, 6)
    write(tmp_path / "a.sae", replace(m, source=replace(m.source, sae_sha256=place_of(encoder).sae_sha256)))
    add_labels(tmp_path / "a.sae", pl.DataFrame({"latent": [1], "label": ["mine"]}), origin="mine")
    inherit_labels(tmp_path / "a.sae", encoder)
    assert sd.open(tmp_path / "a.sae").concepts["label"][:3].to_list() == ["zero", "mine", "label 2"]
    before = (tmp_path / "a.sae" / "labels.parquet").read_bytes()
    inherit_labels(tmp_path / "a.sae", encoder)
    assert (tmp_path / "a.sae" / "labels.parquet").read_bytes() == before


def test_nothing_is_inherited_from_another_sae(encoder: Path, store: Path) -> None:
    add_labels(encoder, pl.DataFrame({"latent": [0], "label": ["zero"]}), origin="theirs")
    inherit_labels(store, encoder)
    inherit_labels(store, "no such encoder")
    assert read_labels(store) is None
