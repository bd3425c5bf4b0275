"""Token activations to documents, batch by batch, on the device that reads: what is kept follows the active cells.

`peak_bytes` says what a batch takes beside the weights; the reader's own forward pass takes its memory before that, and
gives it back. On the host 24 bytes are held for each activation of a document of the shard, which the store writes.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch

from saelens_data.sae.model import SAE

#: Accumulators of documents x latents that are held at once where latents compare (topk), and so come all together.
CELLS = 4_000_000
#: Latents in a group: where the group's maximum is below all its bounds, its latents are not looked at.
_GROUP = 64


def peak_bytes(sae: SAE, *, tokens: int, docs: int, active: float, state_bytes: int) -> int:
    """What pooling a batch of T tokens of D documents holds at most, beside the weights and its states in the reader.

    With d_in numbers a token in a dtype of b bytes, a active latents a token, u = min(T, `block_units`) and l the
    widest of `latent_blocks`, for SAEs whose latents do not compare:

        T d_in (b + 10)            the states, and in two dtypes what the SAE makes of them
        + u l (4 + 12 / 64)        a block of pre-activations, the maxima of its groups and where they are high
        + 64 T a l / d_sae         the block's active cells and their places
        + 26 D l                   maximum, sum, first unit and mask of its documents
        + 24 T a                   pooled cells of all blocks, at most one a cell

    For the others the active cells are those of all latents (64 T a), and CELLS stands for D l. Nothing of it grows
    with the number of texts.
    """
    width = max(block.stop - block.start for block in sae.latent_blocks())
    rows = min(tokens, sae.block_units)
    share = width / sae.d_sae if sae.elementwise else 1.0
    cells = tokens * active * (64 * share + 24)
    accumulators = 26 * (docs * width if sae.elementwise else max(CELLS, sae.d_sae))
    return int(tokens * sae.d_in * (state_bytes + 10) + rows * width * (4 + 12 / _GROUP) + cells + accumulators)


class Part(NamedTuple):
    """Pooled cells of some documents, in order of the documents and then of the latents."""

    #: Documents [n], ascending, and how many cells each has.
    docs: np.ndarray
    counts: np.ndarray
    #: Of each cell.
    latent: np.ndarray
    maximum: np.ndarray
    total: np.ndarray
    unit: np.ndarray


class _Cells(NamedTuple):
    """Pooled cells on the device: number of the document in the batch, latent, maximum, its unit, and sum."""

    doc: torch.Tensor
    latent: torch.Tensor
    maximum: torch.Tensor
    unit: torch.Tensor
    total: torch.Tensor


class Pooler:
    """Takes vectors of units in any order and gives the maxima of each document, their units, and the means.

    `ptr` [n_docs + 1] delimits the units of each document. Results do not depend on how units come, up to the
    rounding of a sum in float64.
    """

    def __init__(self, sae: SAE, ptr: np.ndarray) -> None:
        self._sae, self._ptr = sae, ptr
        self._parts: list[Part] = []

    @torch.inference_mode()
    def add(self, units: np.ndarray, x: torch.Tensor) -> None:
        """Take in the vectors x [n, d_in] of the units of these numbers [n]. Raises ValueError if one is not finite."""
        doc = np.searchsorted(self._ptr, units, side="right") - 1
        docs, local = np.unique(doc, return_inverse=True)
        own = units - self._ptr[doc]
        place, unit = (torch.from_numpy(a.astype(np.int64)).to(x.device, non_blocking=True) for a in (local, own))
        if not bool(torch.isfinite(x).all()):
            raise ValueError("activations are not finite")
        if self._sae.elementwise:
            found = list(self._by_latents(x, place, unit, len(docs)))
        else:
            found = list(self._by_documents(x, place, unit, len(docs)))
        self._parts.append(_part(docs, _Cells(*(torch.cat(part) for part in zip(*found, strict=True)))))

    def _by_latents(self, x: torch.Tensor, place: torch.Tensor, unit: torch.Tensor, n: int) -> Iterator[_Cells]:
        """One block of latents after the other; all documents of the batch at once."""
        sae = self._sae
        z = sae.inputs(x)
        for block in sae.latent_blocks():
            width = block.stop - block.start
            cells = [
                (rows + at, latent, value)
                for at in range(0, len(z), sae.block_units)
                for rows, latent, value in [_above(sae.product(z[at : at + sae.block_units], block), sae.bound[block])]
            ]
            rows, latent, value = (torch.cat(part) for part in zip(*cells, strict=True))
            value = value.float()
            if sae.out_scale is not None:
                value = value * sae.out_scale[block][latent]
            pooled = _scatter(place[rows] * width + latent, value, unit[rows], n * width)
            yield _cells(pooled, width, 0, block.start)

    def _by_documents(self, x: torch.Tensor, place: torch.Tensor, unit: torch.Tensor, n: int) -> Iterator[_Cells]:
        """All latents at once, for some documents of the batch after the other."""
        row, latents, values = _active(self._sae, x)
        d_sae = self._sae.d_sae
        doc, order = place[row].sort(stable=True)
        latent, value, of_unit = latents[order], values[order], unit[row][order]
        step = max(1, CELLS // d_sae)
        bounds = torch.searchsorted(doc, torch.arange(0, n + step, step, device=doc.device)).tolist()
        for number, (start, end) in enumerate(pairwise(bounds)):
            first = number * step
            index = (doc[start:end] - first) * d_sae + latent[start:end]
            size = min(step, n - first) * d_sae
            yield _cells(_scatter(index, value[start:end], of_unit[start:end], size), d_sae, first, 0)

    def finish(self) -> dict[str, np.ndarray]:
        """indptr [n_docs + 1], latents, maxima, means and unit, each [pooled nnz], as a Shard has them."""
        n_docs = len(self._ptr) - 1
        runs = np.zeros(n_docs, np.int64)
        for part in self._parts:
            np.add.at(runs, part.docs, 1)
        whole = _in_order(self._parts)
        repeated = runs > 1
        if repeated.any():
            of_cell = np.repeat(repeated[whole.docs], whole.counts)
            kept = ~repeated[whole.docs]
            single = Part(whole.docs[kept], whole.counts[kept], *(a[~of_cell] for a in whole[2:]))
            doc = np.repeat(whole.docs, whole.counts)[of_cell]
            whole = _in_order([single, _merge(doc, *(a[of_cell] for a in whole[2:]))])
        indptr = np.zeros(n_docs + 1, np.int64)
        indptr[whole.docs + 1] = whole.counts
        np.cumsum(indptr, out=indptr)
        units = np.diff(self._ptr)[np.repeat(whole.docs, whole.counts)]
        return {
            "indptr": indptr,
            "latents": whole.latent.astype(np.int32),
            "maxima": whole.maximum.astype(np.float32),
            "means": (whole.total / np.maximum(units, 1)).astype(np.float32),
            "unit": whole.unit.astype(np.int32),
        }


def _above(h: torch.Tensor, bound: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Row, column and value of the cells of h [n, width] above `bound` [width].

    Few are, so the maxima of groups of columns come first, which is one pass; cells are looked for where one is high.
    """
    n, width = h.shape
    if width % _GROUP:
        row, column = (h > bound).nonzero(as_tuple=True)
        return row, column, h[row, column]
    groups = h.view(n, -1, _GROUP)
    lowest = bound.view(-1, _GROUP).amin(dim=1)
    row, group = (groups.amax(dim=2) > lowest).nonzero(as_tuple=True)
    near = groups[row, group]
    at, column = (near > bound.view(-1, _GROUP)[group]).nonzero(as_tuple=True)
    return row[at], group[at] * _GROUP + column, near[at, column]


def _active(sae: SAE, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Row, latent and value of what is active in x [n, d_in], of an SAE whose latents compare."""
    if sae.activation != "topk" or not (group := _group_for(sae)):
        active = sae.encode(x)
        return active.row, active.latent, active.value
    z, step = sae.inputs(x), sae.block_units
    parts = [_largest_cells(sae, z[at : at + step], group) for at in range(0, len(z), step)]
    row = torch.cat([part[0] + i * step for i, part in enumerate(parts)])
    latent, value = (torch.cat([part[i] for part in parts]) for i in (1, 2))
    return row, latent, value if sae.out_scale is None else value * sae.out_scale[latent]


def _group_for(sae: SAE) -> int:
    """Size of groups of which the first block has k at least; 0 if there is none."""
    blocks = sae.latent_blocks()
    return next(
        (
            g
            for g in (_GROUP, 16)
            if all((b.stop - b.start) // g >= int(sae.k or 0) and not (b.stop - b.start) % g for b in blocks)
        ),
        0,
    )


def _largest_cells(sae: SAE, z: torch.Tensor, group: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Row, latent and value of the k largest positive h of each row of z; of equals the lower latent, as in `SAE`.

    The k-th largest maximum of groups of latents is never above the k-th largest h, since k groups reach it. So only
    cells at or above it are looked at: about one and a half times k, found without sorting a row.
    """
    k = int(sae.k or 0)
    highest = torch.zeros((len(z), k), device=z.device)
    found = []
    for block in sae.latent_blocks():
        groups = sae.product(z, block).view(len(z), -1, group)
        maxima = groups.amax(dim=2)
        highest = torch.cat([highest, maxima.float()], dim=1).topk(k, dim=1).values
        bound = highest[:, -1]
        row, at = ((maxima >= bound.to(maxima.dtype)[:, None]) & (maxima > 0)).nonzero(as_tuple=True)
        near = groups[row, at].float()
        cell, column = ((near >= bound[row, None]) & (near > 0)).nonzero(as_tuple=True)
        found.append((row[cell], at[cell] * group + column + block.start, near[cell, column]))
    row, latent, value = (torch.cat(part) for part in zip(*found, strict=True))
    kept = value >= highest[row, -1]
    row, latent, value = row[kept], latent[kept], value[kept]
    # By row, from the largest down (the bits of positive numbers are in their order), and as they came: by latent.
    key = (row << 32) - value.view(torch.int32)
    order = key.sort(stable=True).indices
    row, latent, value = row[order], latent[order], value[order]
    first = torch.searchsorted(row, torch.arange(len(z), device=z.device))
    kept = torch.arange(len(row), device=z.device) - first[row] < k
    return row[kept], latent[kept], value[kept]


def _scatter(index: torch.Tensor, value: torch.Tensor, unit: torch.Tensor, size: int) -> tuple[torch.Tensor, ...]:
    """Cells of `size` that values > 0 fall into: their numbers, ascending, maxima, first unit of each, and sums."""
    device = value.device
    maximum = torch.zeros(size, device=device).scatter_reduce_(0, index, value, "amax")
    cell = maximum.nonzero()[:, 0]
    total = torch.zeros(size, dtype=torch.float64, device=device).index_add_(0, index, value.double())[cell]
    at = value == maximum[index]
    first = torch.full((size,), torch.iinfo(torch.int32).max, dtype=torch.int32, device=device)
    first.scatter_reduce_(0, index[at], unit[at].int(), "amin")
    return cell, maximum[cell], first[cell], total


def _cells(pooled: tuple[torch.Tensor, ...], width: int, first_doc: int, first_latent: int) -> _Cells:
    cell, maximum, unit, total = pooled
    doc, latent = cell // width + first_doc, cell % width + first_latent
    return _Cells(doc.int(), latent.int(), maximum, unit, total)


def _part(docs: np.ndarray, cells: _Cells) -> Part:
    """The cells of a batch in the order of its documents; they come block by block of latents."""
    if cells.doc.is_cuda:
        order = cells.doc.sort(stable=True).indices
    else:
        # NumPy's stable sort of 16-bit numbers is a radix sort.
        key = cells.doc.numpy().astype(np.uint16 if len(docs) <= 1 << 16 else np.int64)
        order = torch.from_numpy(np.argsort(key, kind="stable"))
    counts = torch.bincount(cells.doc, minlength=len(docs)).cpu().numpy()
    latent, maximum, unit, total = (column[order].cpu().numpy() for column in cells[1:])
    return Part(docs, counts, latent, maximum, total, unit)


def _in_order(parts: list[Part]) -> Part:
    """The parts' documents in ascending order; one that is in several parts comes several times."""
    docs = np.concatenate([part.docs for part in parts] or [np.empty(0, np.int64)])
    counts = np.concatenate([part.counts for part in parts] or [np.empty(0, np.int64)])
    order = np.argsort(docs, kind="stable")
    ends = [np.cumsum(part.counts) for part in parts]
    # Documents are copied as wholes, which is several times faster than to gather their cells.
    cuts = [
        (i, int(end - n), int(end)) for i, part in enumerate(parts) for end, n in zip(ends[i], part.counts, strict=True)
    ]
    moved = [cuts[at] for at in order]
    columns = (
        np.concatenate([getattr(parts[i], name)[start:end] for i, start, end in moved] or [np.empty(0, dtype)])
        for name, dtype in (("latent", np.int32), ("maximum", np.float32), ("total", np.float64), ("unit", np.int32))
    )
    return Part(docs[order], counts[order], *columns)


def _merge(doc: np.ndarray, latent: np.ndarray, maximum: np.ndarray, total: np.ndarray, unit: np.ndarray) -> Part:
    """One run of cells for each document of several."""
    order = np.lexsort((unit, latent, doc))
    doc, latent, maximum, total, unit = (a[order] for a in (doc, latent, maximum, total, unit))
    if not len(doc):
        return Part(doc, doc.copy(), latent, maximum, total, unit)
    first = np.flatnonzero((np.diff(doc, prepend=-1) != 0) | (np.diff(latent, prepend=-1) != 0))
    highest = np.maximum.reduceat(maximum, first)
    lengths = np.diff(np.append(first, len(doc)))
    at_highest = np.where(maximum == np.repeat(highest, lengths), unit, np.iinfo(np.int32).max)
    docs, counts = np.unique(doc[first], return_counts=True)
    return Part(
        docs, counts, latent[first], highest, np.add.reduceat(total, first), np.minimum.reduceat(at_highest, first)
    )
