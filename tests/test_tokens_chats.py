"""Conversations: what the model reads is what its template writes, and each turn is where it is said to be."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import tiny_models as tiny
from hypothesis import example, given, settings
from hypothesis import strategies as st

from saelens_data.readers.chats import ChatTemplate, Piece
from saelens_data.readers.hooks import Hook
from saelens_data.readers.tokens import TokenReader

CHATML = (
    "{% for m in messages %}{{ '<|head|>' + m['role'] + '\n' + m['content'] + '<|tail|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|head|>assistant\n' }}{% endif %}"
)
#: No turn of the system, roles take turns, the assistant has another name, words are stripped: as Gemma has it.
STRICT = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}"
    "{{ '<|head|>' + ('model' if m['role'] == 'assistant' else 'user') + '\n' + m['content'] | trim + '<|tail|>\n' }}"
    "{% endfor %}"
)
#: The day's date, as many print it.
DATED = "  {% if true %}\n\n{{ strftime_now('%-d %B %Y') }}{% endif %}{% for m in messages %}{{ m['role'] + ':' + m['content'] }}{% endfor %}"
#: Spaces of its own around what is said, at one end of which it strips.
INSTRUCT = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'].lstrip() + ' [/INST]' }}"
    "{% else %}{{ ' ' + m['content'].rstrip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)


@dataclass(frozen=True)
class Turn:
    role: str
    content: str


def render(template: str | None, turns: list[Turn], chosen: set[int]):
    places, at = {}, 0
    for i in sorted(chosen):
        places[i] = at
        at += len(turns[i].content) + 2
    return ChatTemplate(tiny.tokenizer(template=template)).render(turns, places), places


#: Words that would mislead a search: of the template, of other turns, of the marks.
saying = st.one_of(
    st.sampled_from(
        ["user", "assistant", "<|head|>user\n\n", " [/INST] ", "@0.0@", "@0.1@", "a", "\ta\t", "  a\n", "{{ x }}"]
    ),
    st.text(min_size=1, max_size=12).filter(lambda s: s.strip()),
)


@settings(deadline=None, max_examples=60)
@given(
    template=st.sampled_from([tiny.TEMPLATE, CHATML, STRICT, INSTRUCT, None]),
    said=st.lists(saying, min_size=1, max_size=5),
    chosen=st.sets(st.integers(0, 4)),
)
@example(template=tiny.TEMPLATE, said=["user", "user", "user"], chosen={1})
def test_the_text_is_the_templates_and_turns_are_where_they_are_said_to_be(template, said, chosen):
    turns = [Turn("assistant" if i % 2 else "user", words) for i, words in enumerate(said)]
    chosen = {i for i in chosen if i < len(turns)}
    found, places = render(template, turns, chosen)
    if template is None:
        assert found.text == "\n\n".join(f"{t.role.capitalize()}: {t.content}" for t in turns)
    else:
        messages = [{"role": t.role, "content": t.content} for t in turns]
        assert found.text == tiny.tokenizer(template=template).apply_chat_template(messages, tokenize=False)
    document = "\n\n".join(turns[i].content for i in sorted(chosen))
    assert len(found.pieces) == len(chosen)
    for (start, end, at), i in zip(found.pieces, sorted(chosen), strict=True):
        assert found.text[start:end] == document[at : at + end - start]
        assert found.text[start:end].strip() == turns[i].content.strip()
        assert places[i] <= at < at + end - start <= places[i] + len(turns[i].content)


def test_a_turn_of_the_system_goes_to_the_user_where_there_is_none():
    turns = [
        Turn("system", "Be brief."),
        Turn("user", "Hello?"),
        Turn("assistant", "Hi!"),
        Turn("user", "a"),
        Turn("user", "b"),
    ]
    found, _ = render(STRICT, turns, {0, 1, 2})
    assert found.text.startswith("<|begin|><|head|>user\nBe brief.\n\nHello?<|tail|>\n<|head|>model\nHi!<|tail|>\n")
    assert found.text.endswith("<|head|>user\na\n\nb<|tail|>\n")
    assert [found.text[start:end] for start, end, _ in found.pieces] == ["Be brief.", "Hello?", "Hi!"]
    assert found.pieces[1].at == 11


def test_roles_that_the_template_refuses_are_named():
    with pytest.raises(ValueError, match="refuses assistant, user: roles must alternate"):
        render(STRICT, [Turn("assistant", "a"), Turn("user", "b")], {0})
    dropping = "{% for m in messages %}{% if loop.last %}{{ m['content'] }}{% endif %}{% endfor %}"
    with pytest.raises(ValueError, match="leaves out or repeats the user's turn"):
        render(dropping, [Turn("user", "a"), Turn("assistant", "b")], {0})


def test_templates_that_print_the_date_print_one_that_stays():
    dated = "{{ date_string }}|{% for m in messages %}{{ m['content'] }}{% endfor %}"
    assert render(dated, [Turn("user", "a")], {0})[0].text == "26 Jul 2024|a"


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    folder = tiny.save(tmp_path_factory.mktemp("chats"), "llama")
    return TokenReader.load(str(folder), Hook(2), dtype="float32", device="cpu")


def test_an_answer_is_read_after_its_question_and_gives_the_units(reader):
    """The vectors are those of the whole conversation read at once, at the answer's tokens and nowhere else."""
    turns = [
        Turn("user", "What is the quick brown fox?"),
        Turn("assistant", " It jumps over the lazy dog. "),
        Turn("user", "dog?"),
        Turn("assistant", "Sorry."),
    ]
    document = "\n\n".join([turns[1].content, turns[3].content])
    rendered = reader.chats.render(turns, {1: 0, 3: len(turns[1].content) + 2})
    reading = reader.split_rendered([rendered])
    spans = list(zip(reading.units.start.tolist(), reading.units.end.tolist(), strict=True))
    covered = "".join(document[a:b] for a, b in spans)
    assert covered.replace(" ", "") == "Itjumpsoverthelazydog.Sorry."
    ((_, x),) = reader.read(reading)
    ids = reader._tokenizer(rendered.text, add_special_tokens=False)
    assert reading.windows[0].ids.tolist() == ids["input_ids"]  # the template's own first token, once
    own = [
        i
        for i, (a, b) in enumerate(
            reader._tokenizer(rendered.text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        )
        if any(p.start <= a + (rendered.text[a] == " ") and b <= p.end for p in rendered.pieces)
    ]
    whole, _ = reader.states(reading.windows)
    np.testing.assert_array_equal(x.numpy(), whole.numpy()[own])
    alone = reader.split([document])
    ((_, apart),) = reader.read(alone)
    assert len(apart) != len(x) or np.abs(apart.numpy() - x.numpy()).mean() > 0.05  # context matters


def test_without_words_of_its_own_a_document_has_no_units(reader):
    rendered = reader.chats.render([Turn("user", "Hello?"), Turn("assistant", "  ")], {1: 0})
    assert rendered.pieces == (Piece(len(rendered.text) - 8, len(rendered.text) - 8, 2),)
    reading = reader.split_rendered([rendered])
    assert (len(reading.units.start), reading.windows) == (0, [])


@pytest.mark.parametrize("template", [DATED, DATED.replace("strftime_now('%-d %B %Y')", "date_string")])
def test_the_date_of_the_day_is_a_fixed_one(template):
    rendered, _ = render(template, [Turn("user", "hi")], {0})
    assert rendered.text in ("\n26 July 2024user:hi", "\n26 Jul 2024user:hi")
    assert rendered.text[rendered.pieces[0].start : rendered.pieces[0].end] == "hi"
