"""Groups of near-duplicate latents: by the units that hold their evidence, against a plain loop, blind to the sets."""

from __future__ import annotations

import json
from zlib import crc32

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array
from scipy.stats import false_discovery_control

from saelens_data.diff import grouping
from saelens_data.diff.comparison import Sets, compare
from saelens_data.diff.grouping import Groups, alone, group_latents
from saelens_data.diff.two import diff
from saelens_data.matrix import ConceptMatrix, Evidence, Source, Units

SOURCE = Source(encoder="tiny", reader="r", reader_sha256="0", sae="s", sae_sha256="1", hook="final")


def read(units: np.ndarray, **columns: object) -> ConceptMatrix:
    """A matrix from activations [documents, units, latents]: their maxima, and the first unit that holds each."""
    units = np.asarray(units, dtype=np.float32)
    n, u, d = units.shape
    X = csr_array(units.max(axis=1))
    first = units.argmax(axis=1)
    rows = np.repeat(np.arange(n), np.diff(X.indptr))
    start = np.arange(n * u, dtype=np.int32)
    mean = units.mean(axis=1)[rows, X.indices]
    evidence = Evidence(mean, first[rows, X.indices].astype(np.int32), Units(np.arange(n + 1) * u, start, start + 1))
    docs = pl.DataFrame({"doc_id": pl.Series([f"d{i}" for i in range(n)], dtype=pl.String), **columns})
    concepts = pl.DataFrame({"latent": np.arange(d, dtype=np.int32), "label": [f"concept {j}" for j in range(d)]})
    return ConceptMatrix(X, docs, concepts, SOURCE, evidence)


def reading(seed: int, n: int = 120, d: int = 18, u: int = 4) -> np.ndarray:
    """Activations of latents of which some copy the units of an earlier one, more or less faithfully."""
    rng = np.random.default_rng(seed)
    units = rng.random((n, u, d)) * (rng.random((n, u, d)) < rng.uniform(0.01, 0.2, d))
    for j in range(d // 2, d):
        keep = rng.random((n, u)) < rng.uniform(0.1, 0.9)
        units[:, :, j] = np.where(keep, units[:, :, rng.integers(0, j)], units[:, :, j])
    return units


def holds(units: np.ndarray) -> np.ndarray:
    """[documents x units, latents] 1 where a unit holds the maximum of its document."""
    n, u, d = units.shape
    out = np.zeros((n, u, d))
    for i, j in np.ndindex(n, d):
        if units[i, :, j].any():
            out[i, units[i, :, j].argmax(), j] = 1
    return out.reshape(n * u, d)


def leaders_by_loop(units: np.ndarray, decoder: np.ndarray | None = None) -> list[int]:
    held = holds(units)
    support = held.sum(axis=0)
    leader = list(range(held.shape[1]))
    taken: list[int] = []
    for latent in sorted(leader, key=lambda j: (-support[j], j)):
        best = (-1.0, -1)
        for other in taken:
            if leader[other] == other and min(support[latent], support[other]) >= 6:
                phi = np.corrcoef(held[:, latent], held[:, other])[0, 1]
                like = decoder is not None and float(decoder[latent] @ decoder[other]) >= grouping.LIKE_DIRECTION
                if phi >= (grouping.ALIKE if like else grouping.SAME) and (phi, -other) > best:
                    best = (phi, -other)
        if best[0] > 0:
            leader[latent] = -best[1]
        taken.append(latent)
    return leader


def partition(groups: Groups) -> set[frozenset[int]]:
    return {frozenset(members.tolist()) for members in groups.members()}


def expected_partition(leader: list[int]) -> set[frozenset[int]]:
    return {frozenset(j for j, at in enumerate(leader) if at == one) for one in leader}


@pytest.mark.parametrize("seed", range(6))
def test_groups_equal_those_of_a_loop(seed):
    units = reading(seed)
    found = partition(group_latents([read(units[:50]), read(units[50:])]))
    assert found == expected_partition(leaders_by_loop(units))
    assert max(len(group) for group in found) > 1
    rng = np.random.default_rng(seed)
    decoder = rng.normal(size=(18, 4)).astype(np.float32)
    decoder /= np.linalg.norm(decoder, axis=1, keepdims=True)
    found = partition(group_latents([read(units)], decoder))
    assert found == expected_partition(leaders_by_loop(units, decoder))


def test_the_same_words_make_a_group_and_the_same_documents_do_not():
    rng = np.random.default_rng(0)
    units = np.zeros((60, 4, 4))
    rows = np.flatnonzero(rng.random(60) < 0.4)
    units[rows, 0, 0] = units[rows, 0, 1] = rng.random(len(rows)) + 0.1  # 0 and 1 read one word
    units[rows, 2, 2] = 1.0  # 2 is in the same documents, elsewhere
    units[np.arange(0, 60, 3), 1, 3] = 1.0
    assert partition(group_latents([read(units)])) == {frozenset([0, 1]), frozenset([2]), frozenset([3])}


def test_a_latent_joins_a_leader_and_no_member():
    # 0 leads; 1 shares half of 0's units; 2 shares its units with 1 but hardly any with 0.
    units = np.zeros((400, 1, 3))
    units[:40, 0, 0] = 1
    units[20:56, 0, 1] = 1
    units[34:60, 0, 2] = 1
    held = units[:, 0]
    phi = np.corrcoef(held.T)
    assert phi[0, 1] > grouping.SAME
    assert phi[1, 2] > grouping.SAME
    assert phi[0, 2] < grouping.ALIKE
    assert partition(group_latents([read(units)])) == {frozenset([0, 1]), frozenset([2])}


def test_of_two_leaders_the_more_similar_is_joined():
    units = np.zeros((600, 1, 4))
    units[:60, 0, 0] = units[100:160, 0, 2] = 1  # two leaders, as frequent
    units[35:60, 0, 3] = units[100:135, 0, 3] = 1  # 25 units of the one, 35 of the other
    units[30:60, 0, 1] = units[100:124, 0, 1] = 1  # 30 and 24
    assert np.corrcoef(units[:, 0].T)[3, 0] > grouping.SAME
    assert partition(group_latents([read(units)])) == {frozenset([2, 3]), frozenset([0, 1])}


def test_thresholds_belong_to_the_group(monkeypatch):
    units = np.zeros((100, 1, 2))
    units[:30, 0, 0] = units[15:33, 0, 1] = 1
    first, second, similarity = grouping._similar(csr_array(units[:, 0].astype(np.int32)), np.array([30, 18]))
    assert (first.tolist(), second.tolist()) == ([0], [1])
    assert similarity[0] == pytest.approx(np.corrcoef(units[:, 0].T)[0, 1], rel=1e-12)
    decoder = np.array([[1, 0], [0.6, 0.8]], dtype=np.float32)
    at, cosine = similarity[0], decoder[0] @ decoder[1]
    for same, alike, direction, together in [
        (at, 0.0, 2.0, True),
        (np.nextafter(at, 1), 0.0, 2.0, False),
        (1.0, at, cosine, True),
        (1.0, np.nextafter(at, 1), cosine, False),
        (1.0, at, np.nextafter(cosine, np.float32(1)), False),
    ]:
        for name, value in (("SAME", same), ("ALIKE", alike), ("LIKE_DIRECTION", direction)):
            monkeypatch.setattr(grouping, name, value)
        assert (group_latents([read(units)], decoder).n == 1) == together


def test_of_a_latent_in_few_documents_nothing_is_said():
    units = np.zeros((50, 2, 4))
    units[:5, 0, :2] = 1
    units[10:16, 1, 2:] = 1
    assert partition(group_latents([read(units)])) == {frozenset([0]), frozenset([1]), frozenset([2, 3])}


def test_like_directions_lower_the_bar():
    units = np.zeros((300, 1, 2))
    units[:40, 0, 0] = units[27:57, 0, 1] = 1
    phi = np.corrcoef(units[:, 0].T)[0, 1]
    assert grouping.ALIKE < phi < grouping.SAME
    like, unlike = np.array([[1, 0], [1, 0]], np.float32), np.array([[1, 0], [0, 1]], np.float32)
    assert group_latents([read(units)], like).n == 1
    assert group_latents([read(units)], unlike).n == group_latents([read(units)]).n == 2


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 119))
def test_which_set_a_document_is_in_does_not_matter(seed, n_a):
    m = read(reading(seed % 7))
    order = np.random.default_rng(seed).permutation(120)
    parts = [m.take_docs(order[:n_a]), m.take_docs(order[n_a:])]
    assert group_latents(parts).of.tolist() == group_latents([m]).of.tolist()


def test_of_many_activations_a_part_of_the_documents_is_read_whichever_set_they_are_in(monkeypatch):
    order, others = np.random.default_rng(0).permutation(240), 0
    for seed in range(6):
        m = read(reading(seed, n=240))
        chosen = [i for i, name in enumerate(m.docs["doc_id"]) if crc32(name.encode()) < 2**32 / 4]
        whole, part = (group_latents([x]).of.tolist() for x in (m, m.take_docs(chosen)))
        with monkeypatch.context() as patch:
            patch.setattr(grouping, "_MOST_ACTIVATIONS", m.X.nnz / 4)
            assert group_latents([m]).of.tolist() == part
            assert group_latents([m.take_docs(order[:90]), m.take_docs(order[90:])]).of.tolist() == part
        others += part != whole
    assert others >= 2


def test_without_evidence_every_latent_is_alone():
    m = read(reading(2))
    bare = ConceptMatrix(m.X, m.docs, m.concepts, m.source)
    for sets in ([bare], [m, bare]):
        groups = group_latents(sets)
        assert (groups.of.tolist(), groups.n, groups.n_several) == (alone(18).of.tolist(), 18, 0)
    assert [members.tolist() for members in alone(3).members()] == [[0], [1], [2]]


@pytest.mark.parametrize("scale", [np.ones(6), np.array([1, 2, 0.5, 3, 0.1, 7])])
def test_the_columns_of_groups_equal_dense_sums(scale):
    rng = np.random.default_rng(3)
    dense = (rng.random((30, 6)) * (rng.random((30, 6)) < 0.4)).astype(np.float32)
    groups = Groups(np.array([1, 0, 1, 2, 0, 1, 0, 1]), 3, 6)
    found = groups.extended(csr_array(dense), scale)
    expected = [(dense[:, members] / scale[members]).sum(axis=1) for members in ([1, 4], [0, 2, 5])]
    np.testing.assert_allclose(found.toarray(), np.column_stack([dense, *expected]), rtol=1e-6)
    assert found.has_sorted_indices
    assert found.dtype == np.float32
    assert (found.toarray()[:, 6] > 0).tolist() == dense[:, [1, 4]].any(axis=1).tolist()
    X = csr_array(dense)
    assert alone(6).extended(X, scale) is X


# --- groups in diff


def planted(seed: int = 0, n: int = 150) -> tuple[np.ndarray, np.ndarray]:
    """Two sets [n, 3, 24]; latents 0, 5 and 9 read one habit of A, 1 and 6 one of B, from partly other documents."""
    rng = np.random.default_rng(seed)
    sets = []
    for of_a, of_b in ((0.5, 0.15), (0.1, 0.4)):
        units = rng.gamma(3, 0.2, (n, 3, 24)) * (rng.random((n, 3, 24)) < 0.08)
        for latents, share in (((0, 5, 9), of_a), ((1, 6), of_b)):
            shown, at = rng.random(n) < share, rng.integers(0, 3, n)
            for latent in latents:
                units[:, :, latent] = 0
                rows = np.flatnonzero(shown & (rng.random(n) < 0.85))
                units[rows, at[rows], latent] = 0.1 + rng.gamma(3, 0.2, len(rows))
        sets.append(units.astype(np.float32))
    return tuple(sets)


@pytest.mark.parametrize("paired", [False, True])
def test_near_duplicates_that_differ_are_one_finding(paired):
    dense = planted()
    a, b = (read(units, prompt=range(150)) for units in dense)
    result = diff(a, b, pair_on="prompt" if paired else None)
    split = diff(a, b, pair_on="prompt" if paired else None, group=False)
    assert {frozenset(members) for members in result.findings["members"]} == {frozenset([0, 5, 9]), frozenset([1, 6])}
    assert set(split.findings["latent"]) == {0, 1, 5, 6, 9}
    assert split.frame["members"].to_list() == [[latent] for latent in split.frame["latent"]]
    assert result.n_tested == split.n_tested - 3

    X, Y = (units.max(axis=1) for units in dense)
    c = compare(Sets(a.X, b.X, paired), result.groups, 0.05)
    alone_p = dict(zip(split.frame["latent"], split.frame["p_value"], strict=True))
    for row in result.frame.iter_rows(named=True):
        members = row["members"]
        assert row["latent"] == members[0]
        assert members == sorted(members, key=lambda j: (alone_p[j], j))
        assert row["any_a"] == pytest.approx((X[:, members] > 0).any(axis=1).mean())
        assert row["any_b"] == pytest.approx((Y[:, members] > 0).any(axis=1).mean())
        own = split.frame.row(by_predicate=pl.col("latent") == row["latent"], named=True)
        for name in ("density_a", "difference", "ci_low", "auc", "delta", "p_presence", "p_rank", "n_a", "favours"):
            assert row[name] == own[name]
        columns = np.flatnonzero(result.groups.of == result.groups.of[members[0]])
        p = [c.p[j] for j in columns if c.looks.tested[j]]
        assert row["p_value"] == pytest.approx(false_discovery_control(p).min(), rel=1e-12)
    q = false_discovery_control(result.frame["p_value"])
    np.testing.assert_allclose(result.frame["q_value"], q, rtol=1e-12)
    assert result.latents.height == sum(map(len, result.frame["members"]))
    latents = dict(zip(result.latents["latent"], result.latents["group"], strict=True))
    assert len({latents[j] for j in (0, 5, 9)}) == 1


def test_a_group_is_found_where_no_member_is_by_itself():
    # 12 latents, each active in a quarter of the documents that hold the habit: together they are its whole density.
    rng = np.random.default_rng(3)
    dense = []
    for n_shown in (48, 16):
        units = np.zeros((90, 1, 12))
        shown = np.arange(n_shown)
        units[shown, 0] = (shown[:, None] % 4 == np.arange(12) % 4) * (0.1 + rng.gamma(3, 0.2, (n_shown, 12)))
        dense.append(units)
    groups = Groups(np.zeros(13, dtype=np.int64), 1, 12)
    c = compare(Sets(*(csr_array(units[:, 0].astype(np.float32)) for units in dense)), groups, 0.05)
    assert c.p[:12].min() > 0.05
    assert c.p[12] < 1e-4
    assert c.group_p[0] == pytest.approx(false_discovery_control(c.p).min(), rel=1e-12)


def test_members_are_saved_in_every_format(tmp_path):
    a, b = (read(units) for units in planted())
    result = diff(a, b, holdout=0.4)
    members = result.frame["members"].to_list()
    assert max(map(len, members)) == 3
    as_text = pl.read_csv(result.save(tmp_path / "r.csv"), schema_overrides={"members": pl.String})["members"]
    assert [[int(j) for j in text.split()] for text in as_text] == members
    assert json.loads(result.save(tmp_path / "r.json").read_text())["rows"][0]["members"] == members[0]
    lines = result.save(tmp_path / "r.jsonl").read_text().splitlines()
    assert [json.loads(line)["members"] for line in lines] == members
    assert pl.read_parquet(result.save(tmp_path / "r.parquet")).equals(result.frame)
