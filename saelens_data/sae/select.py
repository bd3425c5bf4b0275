"""The largest few of many columns that come block by block, and the greedy pursuit of a vector by few atoms."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch


def top_k(
    blocks: Iterable[tuple[int, torch.Tensor]], k: int, *, signed: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """The k largest of each row over all blocks, equal to one `topk` over all columns at once; `signed`: by size.

    `blocks` yields (first column, h [n, width]) in ascending order. Returns values [n, <= k] and columns, ascending
    in each row. Of equal values the lower column is taken, whatever the blocks. Holds one block and n x 2k numbers.
    """
    values = columns = torch.empty(0)
    for start, h in blocks:
        first = values.dim() == 1
        new, at = _first_k(h, k, signed=signed) if first else _candidates(h, values, k, signed=signed)
        del h  # before the next block is made
        if first:
            values, columns = new, at + start
            continue
        # What was kept lies to the left of what is new, so the rule for equal values holds in the joined rows too.
        values, kept = _first_k(torch.cat([values, new], dim=1), k, signed=signed)
        columns = torch.cat([columns, at + start], dim=1).gather(1, kept)
    return values, columns


def _candidates(h: torch.Tensor, kept: torch.Tensor, k: int, *, signed: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Values and columns [n, few] of a further block that may be among the k largest, beside those `kept` so far."""
    if kept.shape[1] < k:
        return _first_k(h, k, signed=signed)
    # Most of the block is smaller than all that is kept, and to compare is much cheaper than to sort.
    floor = (kept.abs() if signed else kept).amin(dim=1, keepdim=True)
    row, column = ((h.abs() if signed else h) > floor).nonzero(as_tuple=True)
    counts = torch.bincount(row, minlength=len(h))
    most = int(counts.max())
    if most > 4 * k:
        return _first_k(h, k, signed=signed)
    place = torch.arange(len(row), device=h.device) - (counts.cumsum(0) - counts)[row]
    # What fills the rows up is never larger than what is kept, and lies to the right of it.
    values = torch.full((len(h), most), 0.0 if signed else -torch.inf, dtype=h.dtype, device=h.device)
    columns = torch.zeros((len(h), most), dtype=torch.int64, device=h.device)
    values[row, place], columns[row, place] = h[row, column], column
    return values, columns


def _first_k(h: torch.Tensor, k: int, *, signed: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Values and columns of the k largest of each row of h, in the order of the columns; the leftmost of equals."""
    if h.shape[1] <= k:
        return h, torch.arange(h.shape[1], device=h.device).expand_as(h)
    size = h.abs() if signed else h
    values, at = size.topk(k + 1, dim=1)
    at = at[:, :k]
    # torch leaves open which of equal values it takes; that matters only where the next one equals the last.
    crowded = (values[:, k] == values[:, k - 1]).nonzero()[:, 0]
    for some in torch.split(crowded, _CROWDED):
        rows, bar = size[some], values[some, k - 1 : k]
        above, equal = rows > bar, rows == bar
        room = k - above.sum(dim=1, keepdim=True)
        at[some] = (above | (equal & (equal.cumsum(dim=1) <= room))).nonzero()[:, 1].view(-1, k)
    at = at.sort(dim=1).values
    return h.gather(1, at), at


#: Rows with equal values at the cut that are settled at once; each takes some ten bytes for a number.
_CROWDED = 128


def pursue(
    x: torch.Tensor,
    nearest: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]],
    atoms: torch.Tensor,
    *,
    steps: int,
    stop_on_repeat: bool = False,
    tolerance: float = 0.0,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Matching pursuit (Mallat and Zhang 1993): take the atom nearest to what is left, subtract it, repeat.

    x [n, d]; `nearest(left)` gives each row's (coefficient [n], atom [n]); atoms [n_atoms, d]. A row ends when its
    coefficient is 0, after a step that took an atom of its own again if `stop_on_repeat`, or when what is left is
    shorter than `tolerance`. Returns (row, atom, coefficient), each atom of a row once, in the order of both.
    """
    n = len(x)
    left, going = x.clone(), torch.arange(n, device=x.device)
    taken = torch.full((n, steps), -1, dtype=torch.int64, device=x.device)
    coefficients = torch.zeros((n, steps), device=x.device)
    for step in range(steps):
        coefficient, atom = nearest(left[going])
        moved = coefficient != 0
        going, coefficient, atom = going[moved], coefficient[moved], atom[moved]
        if not len(going):
            break
        repeats = (taken[going] == atom.unsqueeze(1)).any(dim=1)
        left[going] -= coefficient.unsqueeze(1) * atoms[atom].to(left.dtype)
        taken[going, step], coefficients[going, step] = atom, coefficient
        if stop_on_repeat:
            going = going[~repeats]
        if tolerance > 0:
            going = going[left[going].norm(dim=1) >= tolerance]
    row, at = (taken >= 0).nonzero(as_tuple=True)
    cell, place = torch.unique(row * len(atoms) + taken[row, at], return_inverse=True)
    sums = torch.zeros(len(cell), device=x.device).index_add_(0, place, coefficients[row, at])
    return cell // len(atoms), cell % len(atoms), sums
