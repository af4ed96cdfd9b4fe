"""The kernel for scores that are torch tensors: counted where they are, for example on a GPU.

A row is sorted and its positives are looked up in it. Queries with ties among or around their
positives are rare and go through the compiled kernel, so that both agree on them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from intramodal.evaluation.kernels import cpu

Ints = NDArray[np.int64]


def rank_block(  # noqa: PLR0913  as the compiled kernel
    S: Any,
    pos_ptr: Ints,
    pos_idx: Ints,
    ign_ptr: Ints,
    ign_idx: Ints,
    ks: Ints,
    out: NDArray[np.float64],
    by_id: bool,
) -> None:
    """Do what the compiled kernel's `rank_block` does, with `S` a torch tensor."""
    above, tied, is_there = _counts(S, pos_ptr, pos_idx, ign_ptr, ign_idx)
    is_plain = ((tied == 1) | ~is_there).all(dim=1) & is_there.any(dim=1)
    rows = is_plain.cpu().numpy()
    out[rows] += _figures(above[is_plain], is_there[is_plain], ks).cpu().numpy()
    tied_rows = np.flatnonzero(~rows)
    _rank_tied(S, tied_rows, (pos_ptr, pos_idx), (ign_ptr, ign_idx), ks, out, by_id=by_id)


def _counts(
    S: Any, pos_ptr: Ints, pos_idx: Ints, ign_ptr: Ints, ign_idx: Ints
) -> tuple[Any, Any, Any]:
    """Return what stands above each positive, how many are equal to it, and whether there is one.

    All of shape (b, largest number of positives), best first.
    """
    import torch

    positives, ignored = _places(S, pos_ptr, pos_idx), _places(S, ign_ptr, ign_idx)
    hidden = S[ignored]
    S[ignored] = -torch.inf
    ordered = S.sort(dim=1).values
    S[ignored] = hidden
    lengths = torch.as_tensor(np.diff(pos_ptr), device=S.device)
    values = S.new_full((len(S), int(lengths.max())), -torch.inf)
    is_there = torch.arange(values.shape[1], device=S.device) < lengths[:, None]
    values[is_there] = S[positives]
    values = values.sort(dim=1, descending=True).values
    above = S.shape[1] - torch.searchsorted(ordered, values, right=True)
    tied = S.shape[1] - torch.searchsorted(ordered, values) - above
    return above, tied, is_there


def _places(S: Any, pointers: Ints, indices: Ints) -> tuple[Any, Any]:
    import torch

    rows = np.repeat(np.arange(len(pointers) - 1), np.diff(pointers))
    columns = indices[pointers[0] : pointers[-1]]
    return torch.as_tensor(rows, device=S.device), torch.as_tensor(columns, device=S.device)


def _figures(above: Any, is_there: Any, ks: Ints) -> Any:
    """Return the sums of `cpu.add_single` and `add_top_k` over each query's positives."""
    import torch

    c = above.double()
    p = torch.arange(c.shape[1], device=c.device, dtype=c.dtype)
    m = is_there.sum(dim=1, keepdim=True)
    precision = (p + 1) / (c + 1)
    before = torch.where(c > 0, p / c.clamp(min=1), 1.0)
    among_r = above < m
    columns: list[Any] = [precision] * cpu.N_FIXED
    columns[cpu.AP_TRAPEZOID] = 0.5 * (precision + before)
    columns[cpu.AP_AT_R] = precision * among_r
    columns[cpu.R_PRECISION] = among_r.double()
    columns[cpu.MRR] = torch.where(p == 0, 1 / (c + 1), 0.0)
    columns[cpu.NDCG] = 1 / torch.log2(c + 2)
    for k in ks.tolist():
        inside = (above < k).double()
        columns += [inside, torch.where(p == 0, inside, 0.0), inside / torch.log2(c + 2)]
    return torch.stack([(column * is_there).sum(dim=1) for column in columns], dim=1)


def _rank_tied(
    S: Any,
    rows: NDArray[np.intp],
    positives: tuple[Ints, Ints],
    ignored: tuple[Ints, Ints],
    ks: Ints,
    out: NDArray[np.float64],
    *,
    by_id: bool,
) -> None:
    for row in rows.tolist():
        scores = S[row : row + 1].cpu().numpy()
        relevant, hidden = _one(*positives, row), _one(*ignored, row)
        cpu.rank_block(scores, *relevant, *hidden, ks, out[row : row + 1], by_id)


def _one(pointers: Ints, indices: Ints, row: int) -> tuple[Ints, Ints]:
    part = indices[pointers[row] : pointers[row + 1]]
    return np.array([0, len(part)], dtype=np.int64), part
