"""What goes together in ordinary text: counted by value, kept in a file, and taken from what is found."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from scipy.sparse import csr_array
from test_correlate import matrix, pair, together

from saelens_data.correlate import correlate
from saelens_data.correlate.groups import ranked_groups
from saelens_data.encoders import find_encoder, load_encoder
from saelens_data.encoders.usual import USUAL_FILE, Usual, _read, usual
from saelens_data.errors import InputError
from saelens_data.matrix import ConceptMatrix
from saelens_data.stats.strata import strata_of


def steps_by_hand(held: np.ndarray, length: np.ndarray) -> np.ndarray:
    """log2 of (k + 1) / (E + 1) in halves, E by strata, by plain loops; below a factor of two 0."""
    stratum, d = strata_of(length), held.shape[1]
    found = np.zeros((d, d), dtype=np.int8)
    for a in range(d):
        for b in range(d):
            within = [held[stratum == s] for s in np.unique(stratum)]
            expected = sum(part[:, a].sum() * part[:, b].sum() / len(part) for part in within)
            step = round(2 * np.log2(((held[:, a] & held[:, b]).sum() + 1) / (expected + 1)))
            found[a, b] = step if a != b and abs(step) >= 2 else 0
    return found


def a_reference(seed: int = 0, n: int = 300) -> ConceptMatrix:
    """Where 2 and 3 always go together, and 4 and 5 never."""
    rng = np.random.default_rng(seed)
    held = rng.random((n, 8)) < 0.12
    held[:, 3] = held[:, 2]
    held[:, 4], held[:, 5] = np.arange(n) % 2 == 0, np.arange(n) % 2 == 1
    return matrix(held, units=rng.integers(1, 9, n))


def counted(m: ConceptMatrix, name: str = "a reference", memory: int = 1 << 29) -> Usual:
    return Usual.of(m.X, m.concepts["latent"].to_numpy(), m.docs["n_units"].to_numpy(), name, memory)


@pytest.mark.parametrize("memory", [1 << 29, 1])
def test_lifts_are_those_of_the_tables_at_equal_length(memory):
    m = a_reference()
    found = counted(m, memory=memory).steps.toarray()
    np.testing.assert_array_equal(found, steps_by_hand(m.X.toarray() > 0, m.docs["n_units"].to_numpy()))
    assert found[2, 3] >= 5
    assert found[4, 5] <= -8


def test_the_file_holds_the_same_and_pairs_come_in_any_order(tmp_path):
    one = counted(a_reference())
    one.save(tmp_path / USUAL_FILE)
    other = Usual.load(tmp_path / USUAL_FILE)
    assert (other.name, other.n_docs) == ("a reference", 300)
    assert (other.steps != one.steps).nnz == 0
    a, b = np.array([5, 3, 0]), np.array([2, 4])
    np.testing.assert_array_equal(other.between(a, b).toarray(), one.steps.toarray()[np.ix_(a, b)])
    with pytest.raises(InputError, match="8 latents"):
        other.between(np.array([8]), b)


def test_a_pair_that_the_reference_has_as_well_is_left_out():
    held = together(both=40)
    held[50:90, 2] = held[50:90, 3] = True
    m, reference = matrix(held), a_reference()
    without = correlate(m, without=["usual"], alpha=0.001)
    result = correlate(m, reference=reference, alpha=0.001)
    assert {frozenset(p) for p in without.frame.select("latent_a", "latent_b").rows()} == {
        frozenset((0, 1)),
        frozenset((2, 3)),
    }
    assert {frozenset(p) for p in result.frame.select("latent_a", "latent_b").rows()} == {frozenset((0, 1))}
    assert result.removed["usual"] == 1
    assert result.parameters["reference_documents"] == 300
    row, plain = pair(result, 0, 1), pair(without, 0, 1)
    assert row["usual"] == pytest.approx(row["expected"])
    assert plain["usual"] is None
    for column in ("p_value", "q_value", "p_length", "q_length", "npmi", "lift"):
        assert row[column] == plain[column]


def test_what_ordinary_text_keeps_apart_counts_for_more():
    held = together(both=0, seed=4)
    held[:40, 4] = held[:40, 5] = True
    m = matrix(held)
    row, plain = (pair(correlate(m, **given), 4, 5) for given in ({"reference": a_reference()}, {"without": ["usual"]}))
    assert row["usual"] < 0.2 * row["expected"]
    assert row["npmi_low"] > plain["npmi_low"] > 0


def test_a_phrase_that_ordinary_text_does_not_have_is_no_trivial_pair():
    held = together(both=40)
    m = matrix(held, unit=np.zeros(held.shape, dtype=int))
    assert correlate(m, without=["usual"]).removed["spans"] == 1
    result = correlate(m, reference=a_reference())
    assert result.removed["spans"] == 0
    assert pair(result, 0, 1)["near"] == pytest.approx(1)


def test_of_fields_the_reference_tells_too():
    held, other = together(both=40), together(both=40, seed=1)
    held[50:90, 2] = other[50:90, 3] = True
    m, answers = matrix(held), matrix(other)
    from saelens_data.correlate.between import between_matrices
    from saelens_data.correlate.pairs import Options

    found = between_matrices(m, answers, ("prompt", "response"), Options(reference=a_reference()))
    plain = between_matrices(m, answers, ("prompt", "response"), Options(without=["usual"]))
    asked = (pl.col("latent_a") == 2) & (pl.col("latent_b") == 3)
    assert plain.frame.filter(asked).height == 1
    assert found.frame.filter(asked).height == 0


def test_a_reference_that_cannot_serve_is_refused():
    m = matrix(together())
    other = a_reference()
    with pytest.raises(InputError, match="encoded differently"):
        correlate(m, reference=replace(other, source=replace(other.source, encoder="another")))
    with pytest.raises(InputError, match="at least 100"):
        correlate(m, reference=other.take_docs(np.arange(50)))


def test_where_nothing_is_known_that_is_said():
    result = correlate(matrix(together()))
    assert "usual" not in result.removed
    assert any("--reference" in note for note in result.notes)


def test_groups_are_ranked_by_their_three_best_pairs():
    group = np.array([0, 1, 1, 1, 2, 1])
    score = np.array([0.9, 0.5, 0.4, 0.3, 0.6, 0.3])
    np.testing.assert_array_equal(ranked_groups(group, score), [1, 0, 0, 0, 2, 0])
    assert len(ranked_groups(group[:0], score[:0])) == 0


def test_the_bundled_encoder_knows_what_goes_with_what():
    found = usual(load_encoder("minilm-8k").source())
    assert found is not None
    assert found.n_docs == 10_000
    labels = pl.read_parquet(find_encoder("minilm-8k") / "concepts.parquet")["label"].to_list()
    garden, plants, script = (
        labels.index(x) for x in ("planted · tomato · her garden", "plants", "std cout · endl return")
    )
    lift = found.between(np.array([garden]), np.array([plants, script])).toarray().ravel() / 2
    assert lift[0] >= 3  # eight times as often
    assert lift[1] <= 0


def test_a_file_that_cannot_be_read_says_nothing(tmp_path, monkeypatch):
    shutil.copytree(find_encoder("minilm-8k"), tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    source = replace(load_encoder("minilm-8k").source(), encoder="mine")
    path = tmp_path / "mine" / USUAL_FILE
    assert usual(source).n_docs == 10_000
    for content in (b"", b"PAR1 and no more"):
        path.write_bytes(content)
        _read.cache_clear()
        assert usual(source) is None
    pl.DataFrame({"a": [1]}).write_parquet(path)
    _read.cache_clear()
    assert usual(source) is None
    assert Usual.of(csr_array((100, 0), dtype=np.float32), np.empty(0, np.int32), None).steps.nnz == 0
