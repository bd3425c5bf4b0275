"""holdout: what the split keeps together, and that a finding is confirmed by diff's own rule on the part held out."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_diff import matrix, strong

from saelens_data.diff.comparison import Sets, compare
from saelens_data.diff.holdout import split
from saelens_data.diff.two import diff
from saelens_data.errors import InputError
from saelens_data.matrix import ConceptMatrix
from saelens_data.stats import benjamini_hochberg

#: What a finding says of the part held out.
CONFIRM = ["confirmed", "confirm_difference", "confirm_low", "confirm_high", "confirm_q"]


@settings(max_examples=60, deadline=None)
@given(
    st.integers(30, 90), st.integers(30, 90), st.sampled_from([0.2, 0.5, 0.7]), st.integers(0, 99), st.integers(1, 3)
)
def test_every_document_is_in_one_part_and_shares_are_kept(n_a, n_b, share, seed, kind):
    paired, n_b = kind == 1, n_a if kind == 1 else n_b
    cluster = np.tile(np.arange(-(-(n_a + n_b) // 2)), 2)[: n_a + n_b] if kind == 2 else None
    kept, held = split(n_a, n_b, cluster, paired=paired, share=share, seed=seed)
    for one, other, n in ((kept.rows_a, held.rows_a, n_a), (kept.rows_b, held.rows_b, n_b)):
        assert sorted([*one, *other]) == list(range(n))
        assert one.tolist() == sorted(one)
        if cluster is None:
            assert len(other) == round(n * share)
    if paired:
        assert held.rows_a.tolist() == held.rows_b.tolist()
    if cluster is not None:
        inside = {*cluster[held.rows_a], *cluster[n_a + held.rows_b]}
        assert inside.isdisjoint({*cluster[kept.rows_a], *cluster[n_a + kept.rows_b]})
        assert len(inside) == round((cluster.max() + 1) * share)
    again, _ = split(n_a, n_b, cluster, paired=paired, share=share, seed=seed)
    assert again.rows_a.tolist() == kept.rows_a.tolist()
    other_seed = [split(60, 60, None, paired=False, share=0.5, seed=s)[0].rows_a.tolist() for s in (seed, seed + 1)]
    assert other_seed[0] != other_seed[1]


def test_parts_that_would_be_empty_are_refused():
    for n_a, n_b, share in ((1, 50, 0.5), (50, 1, 0.4), (20, 20, 0.01)):
        with pytest.raises(InputError, match=f"a holdout of {share:g} leaves a part without documents of one set"):
            split(n_a, n_b, None, paired=False, share=share, seed=0)
    one_each = np.repeat([0, 1], 10)  # two clusters, each within a set
    with pytest.raises(InputError, match="there are 10 and 10; hold out another share"):
        split(10, 10, one_each, paired=False, share=0.5, seed=0)


def test_shares_that_are_none_are_refused():
    m = matrix(np.eye(4))
    for share in (-0.1, 1.0, 2.0):
        with pytest.raises(InputError, match=f"holdout is {share:g}: give the share of documents to confirm with"):
            diff(m, m, holdout=share)


def some_sets(seed: int, n: int = 160) -> tuple[ConceptMatrix, ConceptMatrix]:
    """Strong, middling and no differences."""
    rng = np.random.default_rng(seed)
    density = np.r_[0.6, 0.5, 0.45, 0.2, np.full(16, 0.3)]
    a, b = (strong(rng.random((n, 20)) < d, rng) for d in (density, np.r_[0.1, 0.25, 0.25, 0.5, density[4:]]))
    columns = {"prompt": range(n), "text_id": np.repeat(np.arange(n // 2), 2)}
    return matrix(a, "a", **columns), matrix(b, "b", **columns)


@pytest.mark.parametrize("how", [{}, {"pair_on": "prompt"}, {"cluster_on": "text_id"}])
def test_findings_are_those_of_one_part_and_are_confirmed_by_the_other(how):
    a, b = some_sets(1)
    result = diff(a, b, holdout=0.4, seed=5, **how)
    cluster = np.tile(a.docs["text_id"].to_numpy(), 2) if "cluster_on" in how else None
    kept, held = split(160, 160, cluster, paired="pair_on" in how, share=0.4, seed=5)
    first = diff(a.take_docs(kept.rows_a), b.take_docs(kept.rows_b), **how)
    assert result.frame.drop(CONFIRM).equals(first.frame.drop(CONFIRM))
    assert (result.a.n_docs, result.b.n_docs) == (len(kept.rows_a), len(kept.rows_b))

    again = diff(a.take_docs(held.rows_a), b.take_docs(held.rows_b), **how)
    inside = None if cluster is None else cluster[np.r_[held.rows_a, 160 + held.rows_b]]
    c = compare(Sets(again.a.X, again.b.X, "pair_on" in how, inside), result.groups, 0.05)
    found = result.findings
    assert found.height >= 3
    p = [1.0 if np.isnan(c.group_p[latent]) else c.group_p[latent] for latent in found["latent"]]  # all are alone
    q = benjamini_hochberg(np.array(p))
    for row, value in zip(found.iter_rows(named=True), q, strict=True):
        other = again.frame.row(by_predicate=pl.col("latent") == row["latent"], named=True)
        assert row["confirm_difference"] == pytest.approx(other["difference"], abs=1e-12)
        assert (row["confirm_low"], row["confirm_high"]) == pytest.approx(
            (other["ci_low"], other["ci_high"]), abs=1e-12
        )
        assert row["confirm_q"] == pytest.approx(value, rel=1e-9)
        assert row["confirmed"] == (value < 0.05 and other["favours"] == row["favours"])
    assert found.filter(pl.col("latent") == 0)["confirmed"].to_list() == [True]
    rest = result.frame.filter(~pl.col("finding")).select(CONFIRM)
    assert rest.null_count().row(0) == (rest.height,) * 5
    assert result.parameters["holdout"] == 0.4
    assert result.parameters["held_out"] == [len(held.rows_a), len(held.rows_b)]
    confirmed = int(found["confirmed"].sum())
    sizes = f"{len(held.rows_a)} documents of A and {len(held.rows_b)} of B held out"
    finding = "finding" if found.height == 1 else "findings"
    assert result.notes[-1] == f"Confirmed in {sizes}: {confirmed} of {found.height} {finding} (column confirmed)."


def test_a_difference_the_other_way_round_confirms_nothing():
    active = np.zeros((200, 1), dtype=bool)
    kept, held = split(200, 200, None, paired=False, share=0.5, seed=3)
    one, other = active.copy(), active.copy()
    one[kept.rows_a[:80]] = True
    other[kept.rows_b[:10]] = True
    one[held.rows_a[:10]] = True
    other[held.rows_b[:80]] = True
    (row,) = diff(matrix(one, "a"), matrix(other, "b"), holdout=0.5, seed=3).findings.iter_rows(named=True)
    assert row["confirm_q"] < 1e-10
    assert row["confirm_difference"] == pytest.approx(-0.7)
    assert not row["confirmed"]


def test_without_a_holdout_nothing_is_said_of_confirmation():
    frame = diff(*some_sets(2)).frame
    assert frame.select(CONFIRM).null_count().row(0) == (frame.height,) * 5
    assert frame.schema["confirmed"] == pl.Boolean


def test_of_sets_that_do_not_differ_hardly_anything_is_found_and_nothing_confirmed():
    rng = np.random.default_rng(8)
    values = strong(rng.random((200, 60)) < rng.uniform(0.02, 0.8, 60), rng)
    found = confirmed = 0
    for seed in range(60):
        whole = matrix(values[rng.permutation(200)])
        result = diff(whole.take_docs(range(100)), whole.take_docs(range(100, 200)), holdout=0.5, seed=seed)
        found += result.findings.height > 0
        confirmed += bool(result.frame["confirmed"].any())
    assert found <= 8  # binomial(60, 5%): more than that once in 500
    assert confirmed <= 1
