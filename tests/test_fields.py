"""Fields: the text of each and the places of its turns, stores that hold several, and matrices that open them."""

from __future__ import annotations

import json
import random
import shutil
import signal
import time
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from synthetic import concepts, random_matrix, write, write_fields, writer
from test_store_faults import Crash, CrashingSystem, child, tree

import saelens_data as sd
from saelens_data.cli.main import cli
from saelens_data.corpus.chats import Turn
from saelens_data.corpus.fields import FIELDS, Turns
from saelens_data.errors import InputError, SaelensDataError, StoreError
from saelens_data.matrix import ConceptMatrix
from saelens_data.store.manifest import field_path, read_manifest

HABITS = Path(__file__).parents[1] / "datasets" / "habits" / "answers_a.jsonl"
KILLS = 3
CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi é\u2028"},
    {"role": "assistant", "content": "Hello."},
    {"role": "tool", "content": "{}"},
    {"role": "human", "content": "Bye\n\nnow"},
    {"role": "assistant", "content": ""},
    {"role": "gpt", "content": "Bye."},
]
ROWS = [{"id": "a", "messages": CHAT}, {"id": "b", "messages": CHAT[1:2]}, {"id": "c", "messages": None}]


def read(folder: Path, rows: Sequence[dict[str, Any]], **options: Any) -> sd.Corpus:
    path = folder / "chats.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return sd.read_corpus(path, **options)


def texts(corpus: sd.Corpus, name: str) -> list[str | None]:
    return corpus.field(name).docs["text"].to_list()


# Corpora


def test_each_field_is_the_words_of_its_turns_joined_by_a_blank_line(tmp_path: Path) -> None:
    corpus = read(tmp_path, ROWS)
    assert corpus.fields == ("response", "prompt", "system", "all")
    assert texts(corpus, "response") == ["Hello.\n\nBye.", "", None]
    assert texts(corpus, "prompt") == ["Hi é\u2028\n\nBye\n\nnow", "Hi é\u2028", None]
    assert texts(corpus, "system") == ["Be brief.", None, None]
    assert texts(corpus, "all") == ["Be brief.\n\nHi é\u2028\n\nHello.\n\nBye\n\nnow\n\nBye.", "Hi é\u2028", None]
    assert corpus.turns is not None
    assert corpus.turns[0] == tuple(
        Turn({"human": "user", "gpt": "assistant"}.get(turn["role"], turn["role"]), turn["content"]) for turn in CHAT
    )
    assert corpus.turns[1:] == [(Turn("user", "Hi é\u2028"),), ()]
    assert [place.turn for place in corpus.field("prompt").conversations(0, 1)[0].places] == [1, 4]


def test_a_field_has_the_same_documents_and_columns_and_says_what_it_is(tmp_path: Path) -> None:
    corpus = read(tmp_path, ROWS)
    prompt = corpus.field("prompt")
    assert_frame_equal(prompt.docs.drop("text", "response"), corpus.docs.drop("text"))
    assert prompt.docs["response"].equals(corpus.docs["text"])
    assert (corpus.field_name, prompt.field_name, repr(prompt)) == (
        "response",
        "prompt",
        "Corpus(chats: 3 documents, openai, field prompt)",
    )
    assert prompt.notes[-2:] == (
        "field prompt: the text is what the user says",
        "of 3 texts, 1 null: they are kept, and no concept is active in them",
    )
    back = prompt.field("all").field("response")
    assert back.docs["text"].equals(corpus.docs["text"])
    assert read(tmp_path, ROWS, field="prompt").docs.equals(prompt.docs)
    assert len({corpus.digest, *(corpus.field(name).digest for name in corpus.fields)}) == 4
    same = [{"prompt": "One.", "response": "One."}]
    assert read(tmp_path, same).digest != read(tmp_path, same, field="prompt").digest


def test_a_prompt_and_its_response_are_two_turns(tmp_path: Path) -> None:
    rows = [
        {"instruction": "Add.", "input": "1 + 1", "output": "2", "system_prompt": "Count."},
        {"instruction": "Sing.", "input": "", "output": None, "system_prompt": None},
    ]
    corpus = read(tmp_path, rows)
    assert corpus.turns is not None
    assert corpus.turns[:] == [
        (Turn("system", "Count."), Turn("user", "Add.\n\n1 + 1"), Turn("assistant", "2")),
        (Turn("user", "Sing."),),
    ]
    assert texts(corpus, "prompt") == corpus.docs["prompt"].to_list() == ["Add.\n\n1 + 1", "Sing."]
    assert texts(corpus, "all") == ["Count.\n\nAdd.\n\n1 + 1\n\n2", "Sing."]
    assert texts(corpus, "response") == ["2", None]
    assert corpus.docs["system_prompt"].to_list() == ["Count.", None]
    assert corpus.turns.are_columns


def test_what_the_assistant_says_in_a_prompt_is_no_response(tmp_path: Path) -> None:
    asked = [
        {"role": "user", "content": "Q1"},
        {"role": "assistant", "content": "A1"},
        {"role": "user", "content": "Q2"},
    ]
    corpus = read(tmp_path, [{"prompt": asked, "response": "A2"}])
    assert corpus.turns is not None
    assert corpus.turns[0] == (
        Turn("user", "Q1"),
        Turn("assistant", "A1", given=True),
        Turn("user", "Q2"),
        Turn("assistant", "A2"),
    )
    found = {name: texts(corpus, name) for name in corpus.fields}
    assert found == {"response": ["A2"], "prompt": ["Q1\n\nQ2"], "all": ["Q1\n\nA1\n\nQ2\n\nA2"]}
    assert not corpus.turns.are_columns


def test_a_response_that_repeats_the_prompt_tells_it_once(tmp_path: Path) -> None:
    told = [{"role": "user", "content": "Q1"}, {"role": "assistant", "content": "A1"}]
    rows = [{"prompt": "Q1", "response": told}, {"prompt": "Q2", "response": told[1:]}]
    assert texts(read(tmp_path, rows), "all") == ["Q1\n\nA1", "Q2\n\nA1"]


WORDS = st.text(st.characters(exclude_categories=()), max_size=6)
TURN = st.builds(
    lambda role, content: {"role": role, "content": content},
    st.sampled_from(["system", "user", "assistant", "tool"]),
    WORDS,
)
CONVERSATION = st.lists(TURN, max_size=6)


def last_said(turns: tuple[Turn, ...], name: str) -> list[str]:
    """The words of a field, by another way."""
    roles = {"response": "assistant", "prompt": "user", "system": "system"}
    wanted = [roles[name]] if name in roles else list(roles.values())
    return [t.content for t in turns if t.content and t.role in wanted and not (name == "response" and t.given)]


@settings(deadline=None)
@given(st.lists(st.tuples(CONVERSATION, st.none() | WORDS | CONVERSATION), min_size=1, max_size=4), st.booleans())
def test_every_turn_is_found_at_its_place(rows: list[tuple[Any, Any]], answered: bool) -> None:
    frame = {"prompt": [row[0] for row in rows], "response": [row[1] for row in rows]}
    opened = {"prompt": [{"role": "user", "content": "?"}], "response": [{"role": "assistant", "content": "!"}]}
    table = [dict(zip(frame, row, strict=True)) for row in zip(*frame.values(), strict=True)]
    rows = [opened, *table] if answered else [{"messages": opened["prompt"]}, *({"messages": r[0]} for r in rows)]
    corpora = import_module("saelens_data.corpus.text")._from_rows(rows, ())
    corpus = import_module("saelens_data.corpus.read")._corpus(corpora, "made", None, None)
    for name in corpus.fields:
        field = corpus.field(name)
        assert field.turns is corpus.turns
        for conversation in field.conversations():
            said = last_said(conversation.turns, name)
            assert [conversation.turns[place.turn].content for place in conversation.places] == said
            text = conversation.text or ""
            assert [text[place.start : place.end] for place in conversation.places] == said
            assert text == "\n\n".join(said)
            assert name == "response" or (conversation.text is None) == (not said)


def test_turns_that_columns_do_not_tell(tmp_path: Path) -> None:
    def turns(*roles: str) -> Turns:
        found = read(tmp_path, [{"messages": [{"role": role, "content": role} for role in roles]}] * 2).turns
        assert found is not None
        return found

    assert turns("system", "user", "assistant").are_columns
    assert turns("user", "assistant").are_columns
    assert not turns("user", "assistant", "user").are_columns
    assert not turns("assistant", "user").are_columns
    assert not turns("user", "tool", "assistant").are_columns
    assert len({turns(*roles).digest for roles in (("user", "assistant"), ("assistant", "user"), ("user",))}) == 3
    assert turns("user", "assistant").lengths.tolist() == [13, 13]


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        (
            [{"messages": CHAT[1:3]}],
            {"field": "sytem"},
            "'chats' has no field 'sytem': available: response, prompt, all",
        ),
        (
            [{"text": "One."}],
            {"field": "prompt"},
            "'chats' has no field 'prompt' (its documents are plain texts, of 'text' layout): available: response",
        ),
        (
            [{"text": "One.", "prompt": "Two."}],
            {"field": "prompt"},
            (
                "'chats' has no field 'prompt' (its documents are plain texts, of 'text' layout): available: response; "
                "a column of that name is read with --text prompt (text=)"
            ),
        ),
        (
            [{"messages": CHAT[1:3]}],
            {"text": "prompt"},
            (
                "there is no column 'prompt' in 'chats' (text), but what the user says is a field: "
                "--field prompt (field=) reads it; available: messages"
            ),
        ),
        (
            [{"messages": CHAT[1:3]}],
            {"text": "system"},
            "there is no column 'system' in 'chats' (text); available: messages",
        ),
    ],
)
def test_a_field_that_is_not_there(
    tmp_path: Path, rows: list[dict[str, Any]], options: dict[str, str], message: str
) -> None:
    with pytest.raises(InputError) as caught:
        read(tmp_path, rows, **options)
    assert str(caught.value) == message


def test_a_prompt_of_conversations_named_as_the_text_points_to_the_field(tmp_path: Path) -> None:
    corpus = read(tmp_path, [{"prompt": CHAT[1:2], "response": "Hello."}], text="prompt")
    assert "the assistant says nothing in 'prompt': --field prompt (field=) reads the user" in corpus.notes
    assert texts(corpus, "prompt") == ["Hi é\u2028"]


def test_without_documents_every_field_is_there(tmp_path: Path) -> None:
    corpus = read(tmp_path, [])
    assert corpus.fields == tuple(FIELDS)
    assert corpus.field("prompt").docs.is_empty()


# Matrices


def three(seed: int = 0, n: int = 12, ids: Sequence[str] | None = None) -> dict[str, ConceptMatrix]:
    names = ("response", "prompt", "all")
    return {name: random_matrix(seed + number, n, 9, ids=ids) for number, name in enumerate(names)}


def same(found: ConceptMatrix, expected: ConceptMatrix) -> None:
    """Activations, evidence and texts are those of another matrix, row for row."""
    np.testing.assert_array_equal(found.X.toarray(), expected.X.toarray())
    assert found.evidence is not None
    assert expected.evidence is not None
    for name in ("mean", "unit"):
        np.testing.assert_array_equal(getattr(found.evidence, name), getattr(expected.evidence, name))
    np.testing.assert_array_equal(found.evidence.units.start, expected.evidence.units.start)
    np.testing.assert_array_equal(found.vectors, expected.vectors)
    columns = ["doc_id", "text", "n_units", "n_tokens", "error"]
    assert_frame_equal(found.docs.select(columns), expected.docs.select(columns))


def test_a_field_of_a_store_is_what_was_written(tmp_path: Path) -> None:
    made = three()
    write_fields(tmp_path / "s.sae", made)
    m = sd.open(tmp_path / "s.sae")
    assert m.fields == ("response", "all", "prompt")
    assert m.field("response") is m
    for name in ("prompt", "all"):
        field = m.field(name)
        same(field, made[name])
        assert field.source.field == name
        assert field.fields == (name, *(other for other in m.fields if other != name))
        assert field.docs["model"].equals(m.docs["model"])
        assert field.docs["response"].equals(m.docs["text"])
        same(field.field("response"), made["response"])
        same(field.field("prompt").field("all"), made["all"])
    assert sd.verify(tmp_path / "s.sae") == []
    prompts = m.field("prompt")
    assert np.shares_memory(prompts.by_latent.rows, m.field("prompt").by_latent.rows) is False
    assert (field_path(tmp_path / "s.sae", "prompt") / "derived" / "by_latent").is_dir()  # kept as for any store
    assert sd.verify(tmp_path / "s.sae") == []


def test_fields_stay_aligned_whatever_is_done_to_the_documents(tmp_path: Path) -> None:
    made = three()
    write_fields(tmp_path / "s.sae", made)
    m = sd.open(tmp_path / "s.sae")
    rows = np.array([7, 2, 11])
    changes = {
        "taken": (m.take_docs(rows), rows),
        "twice": (m.take_docs(np.arange(11, -1, -1)).take_docs([0, 3, 1]), [11, 8, 10]),
        "filtered": (m.filter_docs(pl.col("model") == "B"), [1, 4, 7, 10]),
        "none": (m.filter_docs("model = 'C'"), []),
        "concepts": (m.filter_concepts(pl.col("latent") < 3).take_docs(rows), rows),
        "columns": (m.with_docs(pl.DataFrame({"doc_id": ["doc 2"], "score": [1.0]})).take_docs(rows), rows),
        "stacked": (ConceptMatrix.concat([m.take_docs([5, 1]), m.take_docs([3]), m.take_docs([])]), [5, 1, 3]),
        "stacked, then taken": (
            ConceptMatrix.concat([m.take_docs([5, 1]), m.take_docs([3, 9])]).take_docs([3, 0, 2]),
            [9, 5, 3],
        ),
    }
    for what, (changed, expected) in changes.items():
        for name in ("prompt", "all"):
            same(changed.field(name), made[name].take_docs(np.array(expected, dtype=np.int64)))
        assert changed.field("prompt").docs.columns[: changed.docs.width] == changed.docs.columns, what
    assert changes["columns"][0].field("prompt").docs["score"].to_list() == [None, 1.0, None]
    mean = m.take_docs(rows).pooled("mean").field("prompt")
    np.testing.assert_array_equal(mean.X.toarray(), made["prompt"].take_docs(rows).pooled("mean").X.toarray())


def test_stores_with_the_same_ids_stack_if_the_documents_taken_differ(tmp_path: Path) -> None:
    first, second = three(), three(seed=50)
    for name, made in (("one", first), ("two", second)):
        write_fields(tmp_path / f"{name}.sae", made)
    one, two = sd.open(tmp_path / "one.sae"), sd.open(tmp_path / "two.sae")
    m = ConceptMatrix.concat([one.take_docs([3, 0]), two.take_docs([8, 5, 1])])
    expected = ConceptMatrix.concat([first["prompt"].take_docs([3, 0]), second["prompt"].take_docs([8, 5, 1])])
    same(m.field("prompt"), expected)
    same(m.take_docs([4, 1, 2]).field("prompt"), expected.take_docs([4, 1, 2]))
    whole = three(seed=70, ids=[f"other {i}" for i in range(12)])
    write_fields(tmp_path / "three.sae", {name: whole[name] for name in ("response", "prompt")})
    both = ConceptMatrix.concat([one, sd.open(tmp_path / "three.sae")])
    assert both.fields == ("response", "prompt")  # what all parts have
    same(both.field("prompt"), ConceptMatrix.concat([first["prompt"], whole["prompt"]]))
    alone = random_matrix(9, 3, 9, ids=["x", "y", "z"])
    assert ConceptMatrix.concat([one, alone]).fields == ("response",)


def test_labels_given_to_one_field_hold_in_all(tmp_path: Path) -> None:
    write_fields(tmp_path / "s.sae", three())
    labels = pl.DataFrame({"latent": [4], "label": ["of mine"]})
    m = sd.open(tmp_path / "s.sae").with_labels(labels)
    assert m.field("prompt").concepts["label"].to_list() == [
        *(f"label {i}" for i in range(4)),
        "of mine",
        *(f"label {i}" for i in range(5, 9)),
    ]
    few = m.filter_concepts(pl.col("latent").is_in([4, 5])).field("prompt")
    assert few.n_concepts == 9
    assert few.concepts["label"][4] == "of mine"
    assert few.concepts.drop("label").equals(
        concepts(range(9))
        .drop("label")
        .with_columns(
            pl.when(pl.col("latent") == 4).then(None).otherwise(pl.col(name)).alias(name)
            for name in ("score", "origin")
        )
    )


def test_two_fields_are_not_compared_or_stacked_by_mistake(tmp_path: Path) -> None:
    write_fields(tmp_path / "s.sae", three())
    m = sd.open(tmp_path / "s.sae")
    with pytest.raises(InputError) as caught:
        ConceptMatrix.concat([m, m.field("prompt")])
    assert str(caught.value) == (
        "the two sets are of different fields ('response' and 'prompt'): take one field of both"
    )
    plain = random_matrix(1, 3, 9, ids=["x", "y", "z"])  # as stores from before there were fields
    assert ConceptMatrix.concat([m, plain]).n_docs == 15


def test_a_field_that_a_matrix_has_not(tmp_path: Path) -> None:
    write_fields(tmp_path / "s.sae", three())
    with pytest.raises(InputError) as caught:
        sd.open(tmp_path / "s.sae").field("promt")
    assert str(caught.value) == (
        "these documents have no field 'promt': did you mean 'prompt'? available: response, all, prompt; "
        "encode the conversations with --field response --field promt (fields=)"
    )
    with pytest.raises(InputError, match=r"no field 'prompt': available: response; encode"):
        random_matrix(0, 3, 4).field("prompt")


def test_a_matrix_is_saved_with_its_fields(tmp_path: Path) -> None:
    made = three()
    write_fields(tmp_path / "s.sae", made)
    rows = np.array([4, 9, 0])
    sd.write_store(tmp_path / "part.sae", sd.open(tmp_path / "s.sae").take_docs(rows))
    part = sd.open(tmp_path / "part.sae")
    assert sd.verify(tmp_path / "part.sae") == []
    assert part.fields == ("response", "all", "prompt")
    for name, m in made.items():
        same(part.field(name), m.take_docs(rows))


# Stores


def test_one_field_is_written_as_ever_and_further_ones_lie_beside_it(tmp_path: Path) -> None:
    made = three()
    write(tmp_path / "one.sae", made["response"])
    write_fields(tmp_path / "all.sae", made)
    one, several = (json.loads((tmp_path / f"{name}.sae" / "manifest.json").read_text()) for name in ("one", "all"))
    assert list(one) == [name for name in several if name != "fields"]
    assert "field" not in one["source"]
    assert several["fields"] == {name: {"digest": f"digest of {name}"} for name in ("all", "prompt")}
    assert {**several, "checksum": one["checksum"]} == {**one, "fields": several["fields"]}
    parts = tree(tmp_path / "one.sae").items() - tree(tmp_path / "all.sae").items()
    assert {name for name, _ in parts} == {"manifest.json", "derived/derived.json"}  # which name the manifest
    further = read_manifest(tmp_path / "all.sae" / "fields" / "prompt")
    assert further.source.field == "prompt"
    assert pl.read_parquet(tmp_path / "all.sae" / "fields" / "prompt" / "docs.parquet").columns == ["doc_id", "text"]


def test_sigkill_at_any_moment_changes_nothing(tmp_path: Path) -> None:
    def start(name: str) -> Any:
        return child(tmp_path / name, "fields")

    with start("whole.sae") as process:
        assert process.wait() == 0
    expected = tree(tmp_path / "whole.sae")
    assert sum(name.startswith("fields/") for name in expected) == 2 * (2 + 3 + 11)
    dice, kills, inside = random.Random(2), 0, 0
    while True:
        with start("killed.sae") as process:
            assert process.stdout is not None
            for _ in range(dice.randrange(8, 22) if kills < KILLS else 1000):
                process.stdout.readline()
            time.sleep(dice.uniform(0, 0.01) if kills < KILLS else 0)
            process.kill()
            if process.wait() == 0:
                break
            assert process.returncode == -signal.SIGKILL
        kills += 1
        inside += (tmp_path / "killed.sae" / "fields").exists()
    assert kills == KILLS
    assert inside
    assert tree(tmp_path / "killed.sae") == expected
    assert sd.verify(tmp_path / "killed.sae") == []


def test_a_crash_before_any_single_change_of_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = {"response": random_matrix(0, 2, 4), "prompt": random_matrix(1, 2, 4)}
    old = {"response": random_matrix(2, 2, 4), "system": random_matrix(3, 2, 4), "prompt": random_matrix(4, 2, 4)}
    write_fields(tmp_path / "whole.sae", made)
    expected = tree(tmp_path / "whole.sae")
    system, ended = CrashingSystem(monkeypatch), False
    for step in range(0, 1000, 5):  # even ones from nothing, odd ones over a store of other input
        path, system.left = tmp_path / f"{step}.sae", -1
        if step % 2:
            write_fields(path, old, digest="old")
        system.left = step
        try:
            write_fields(path, made, overwrite=True)
            ended = True
        except Crash:
            system.left = -1
            # Nothing is opened that is not whole.
            try:
                left = sd.open(path)
                assert all(left.field(name).n_docs == left.n_docs for name in left.fields)
            except StoreError:
                pass
            write_fields(path, made, overwrite=True)
        system.left = -1
        assert tree(path) == expected
        shutil.rmtree(path)
        if ended:
            break
    assert step > 60


def test_a_complete_store_gets_further_fields_and_keeps_those_it_has(tmp_path: Path) -> None:
    made = three()
    write_fields(tmp_path / "whole.sae", made)
    write(tmp_path / "s.sae", made["response"])
    write_fields(tmp_path / "s.sae", {name: made[name] for name in ("response", "all")})
    assert sd.open(tmp_path / "s.sae").fields == ("response", "all")
    write_fields(tmp_path / "s.sae", {name: made[name] for name in ("response", "prompt")})
    assert tree(tmp_path / "s.sae") == tree(tmp_path / "whole.sae")
    write(tmp_path / "s.sae", made["response"])
    assert tree(tmp_path / "s.sae") == tree(tmp_path / "whole.sae")


def test_an_unfinished_store_of_other_fields_is_refused_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = three()
    with monkeypatch.context() as broken:
        broken.setattr("saelens_data.store.StoreWriter.finish", lambda _: (_ for _ in ()).throw(Crash))
        with pytest.raises(Crash):
            write_fields(tmp_path / "s.sae", made)
    before = tree(tmp_path / "s.sae")
    with pytest.raises(StoreError) as caught:
        write(tmp_path / "s.sae", made["response"])
    assert str(caught.value) == (
        f"{tmp_path / 's.sae'} is an unfinished (4 of 4 shards) store of other input "
        "(fields beside it: all, prompt there, not asked for now): "
        "choose another name, or replace it with --overwrite (overwrite=True)"
    )
    assert tree(tmp_path / "s.sae") == before
    with pytest.raises(StoreError, match="is unfinished"):
        sd.open(tmp_path / "s.sae")
    write(tmp_path / "s.sae", made["response"], overwrite=True)
    write(tmp_path / "one.sae", made["response"])
    assert tree(tmp_path / "s.sae") == tree(tmp_path / "one.sae")


def test_a_field_that_is_not_whole_or_not_its_own_says_so(tmp_path: Path) -> None:
    made = three()
    path = tmp_path / "s.sae"
    prompt = field_path(path, "prompt")

    def problems(change: Any) -> list[str]:
        shutil.rmtree(path, ignore_errors=True)
        write_fields(path, made)
        m = sd.open(path)
        change()
        found = [problem.replace(str(path), "s.sae") for problem in sd.verify(path)]
        same(m.field("all"), made["all"])
        return found

    def flipped() -> None:
        data = bytearray((prompt / "shards" / "00001.parquet").read_bytes())
        data[40] ^= 1
        (prompt / "shards" / "00001.parquet").write_bytes(data)

    def copied() -> None:
        shutil.rmtree(prompt)
        shutil.copytree(field_path(path, "all"), prompt)

    def shuffled() -> None:
        shutil.rmtree(prompt)
        m = made["prompt"].take_docs(np.arange(12)[::-1])
        source = replace(m.source, field="prompt")
        docs = m.docs.select("doc_id", "text")
        write(prompt, m, docs=docs, source=source, digest="digest of prompt")

    not_its_own = (
        "s.sae/fields/prompt is not the field that s.sae was written with: delete it and run the encode command again"
    )
    assert problems(lambda: shutil.rmtree(prompt)) == [
        "s.sae/fields/prompt is missing: run the encode command again to restore it"
    ]
    assert problems(flipped) == [
        (
            "s.sae/fields/prompt/shards/00001.parquet is damaged (size or SHA-256 differ from the manifest's): "
            "delete that file and run the encode command again"
        )
    ]
    for change, reason in ((lambda: shutil.rmtree(prompt), "is missing: run"), (copied, "is not the field that")):
        problems(change)
        with pytest.raises(StoreError, match=reason):
            sd.open(path).field("prompt")
    assert problems(copied) == [not_its_own]
    assert problems(shuffled) == [
        "s.sae/fields/prompt does not follow the format: its documents are not those of s.sae"
    ]
    with pytest.raises(StoreError, match="the fields 'response' and 'prompt' do not hold the same documents"):
        sd.open(path).field("prompt")
    assert problems((path / "fields" / "more").mkdir) == ["s.sae/fields/more is not part of the store: delete it"]
    assert problems((prompt / "x").touch) == ["s.sae/fields/prompt/x is not part of the store: delete it"]
    shutil.rmtree(prompt)
    write_fields(path, made)  # the same command restores it
    same(sd.open(path).field("prompt"), made["prompt"])
    assert sd.verify(path) == []


@pytest.mark.parametrize("name", ["../prompt", "Prompt", "", "a/b", ".tmp-x"])
def test_names_of_fields_are_names_of_folders(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="cannot be the name of a field"):
        write_fields(tmp_path / "s.sae", {"response": random_matrix(0, 3, 4), name: random_matrix(1, 3, 4)})
    with pytest.raises(ValueError, match="'response' is the store's own field"):
        writer(tmp_path / "s.sae", random_matrix(0, 3, 4), fields={"response": "digest"})
    assert not (tmp_path / "s.sae").exists()


def test_a_manifest_that_names_a_folder_elsewhere_is_damaged(tmp_path: Path) -> None:
    from hashlib import sha256

    write_fields(tmp_path / "s.sae", three())
    file = tmp_path / "s.sae" / "manifest.json"
    content = json.loads(file.read_text())
    content["fields"]["../../elsewhere"] = {"digest": "x"}
    zeros = json.dumps({**content, "checksum": "0" * 64}).encode()
    file.write_bytes(zeros.replace(b"0" * 64, sha256(zeros).hexdigest().encode(), 1))
    with pytest.raises(StoreError, match="is damaged"):
        sd.open(tmp_path / "s.sae")


# With the real encoder


@pytest.fixture(scope="module")
def chats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [json.loads(line) for line in HABITS.read_text().splitlines()[:3]]
    folder = tmp_path_factory.mktemp("chats")
    path = folder / "chats.jsonl"
    with path.open("w") as file:
        for row in rows:
            said = [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row["response"]}]
            file.write(json.dumps({"id": row["id"], "kind": row["kind"], "messages": [*said, *CHAT[4:]]}) + "\n")
    return path


def run(*arguments: object, status: int = 0) -> str:
    found = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    if isinstance(found.exception, SaelensDataError):
        assert status == 2
        return str(found.exception)
    assert found.exit_code == status, found.output
    return found.output


def test_from_chats_to_both_fields(chats: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAELENS_DATA_CACHE", str(tmp_path / "cache"))
    store = tmp_path / "chats.sae"
    told = run("encode", chats, "-o", store, "--field", "prompt", "--field", "response", "--dtype", "float32")
    assert "  field prompt: the text is what the user says\n" in told
    assert f"{store}, field prompt: 3 documents, " in told
    assert f"{store}, field response: 3 documents, " in told
    assert run("verify", store) == f"{store}: sound\n"
    m = sd.open(store)
    assert m.fields == ("prompt", "response")
    encoder = sd.load_encoder(dtype="float32")
    for name in m.fields:
        corpus = sd.read_corpus(chats, field=name)
        shard = encoder.encode_texts(corpus.docs["text"].to_list())
        field = m.field(name)
        assert field.docs["text"].to_list() == corpus.docs["text"].to_list()
        np.testing.assert_array_equal(field.X.data, shard.maxima)
        np.testing.assert_array_equal(field.X.indptr, shard.indptr)
        # A span is cut out of what one turn says.
        assert field.evidence is not None
        for row, conversation in enumerate(corpus.conversations()):
            units = slice(*field.evidence.units.ptr[row : row + 2])
            for start, end in zip(field.evidence.units.start[units], field.evidence.units.end[units], strict=True):
                assert any(place.start <= start and end <= place.end for place in conversation.places)
    info = run("info", store)
    active = {name: m.field(name).X.nnz for name in m.fields}
    tokens = {name: int(m.field(name).docs["n_tokens"].sum()) for name in m.fields}
    for name in m.fields:
        assert f"{'field ' + name:18} 3 documents, {tokens[name]:,} tokens, {active[name]:,} activations\n" in info
    # A field of a store, and of a file.
    printed = run("concepts", store, "a question", "--field", "response", "-f", "jsonl")
    rows = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    density = m.field("response").density()
    assert [row["density"] for row in rows] == pytest.approx([density[row["latent"]] for row in rows])
    assert "no field 'system'" in run("concepts", store, "a question", "--field", "system", status=2)
    assert "no field 'system': available: response, prompt, all" in run("encode", chats, "--field", "system", status=2)
    both = sd.encode(chats, fields=("response", "prompt"), encoder=encoder)
    same(both.field("prompt"), m)
    assert sd.encode(chats, field="prompt", encoder=encoder).source.field == "prompt"
    assert len(list((tmp_path / "cache").glob("*.sae"))) == 2
    with pytest.raises(InputError, match="are both given"):
        sd.encode(chats, field="prompt", fields=("prompt", "response"))
