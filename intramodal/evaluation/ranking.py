"""Exact full-ranking figures of every query, block by block, without sorting the gallery."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from intramodal.errors import InputError, MissingDependencyError
from intramodal.types import Floats, short_repr

Ties = Literal["expected", "sklearn", "best", "worst", "id"]
Ints = NDArray[np.int64]
Lists = tuple[Ints, Ints]
"""Lists of gallery rows, one a query: list q is ``indices[pointers[q] : pointers[q + 1]]``."""

DEFAULT_KS = (1, 5, 10)
BLOCK_BYTES = 64 * 2**20
"""Scores held at a time, where that is `LEAST_ROWS` queries or more."""
LEAST_ROWS = 256
"""With fewer queries at a time a product takes several times as long: it waits for the gallery."""
MOST_ROWS = 4096
"""Queries at a time at most."""
PANEL_ROWS = 1024
"""Rows of a tile on the diagonal, about: it holds every pair twice."""
TILE_ROWS = 2560
"""Rows of any other tile, at most: the shorter, the more pieces a query's scores come in."""
LEAST_DIM = 128
"""With fewer dimensions products are so cheap that half of them is not worth tiles."""


@short_repr
@dataclass(frozen=True)
class Relevance:
    """Which gallery rows are relevant to each query, which are not there for it.

    Both return the lists of queries start..stop; no row is in both.
    """

    positives: Callable[[int, int], Lists]
    ignored: Callable[[int, int], Lists]
    """The query itself, and junk."""
    n_queries: int
    classes: Ints | None = None
    """Where every row asks all others for those of its own class: the class of each row, (n,)."""

    def only(self, queries: NDArray[np.intp]) -> Relevance:
        """Return the lists of a few of the queries, by their places (n,)."""
        positives, ignored = (_among(each, queries) for each in (self.positives, self.ignored))
        return Relevance(positives, ignored, len(queries))


def _among(
    lists: Callable[[int, int], Lists], queries: NDArray[np.intp]
) -> Callable[[int, int], Lists]:
    """Return the lists of a few of the queries, by their places (n,)."""
    return lambda start, stop: as_lists([lists(q, q + 1)[1] for q in queries[start:stop]])


@short_repr
@dataclass(frozen=True, eq=False)
class Reranking:
    """The first places of every query, put in the order of their cosines by another vector."""

    Q: Floats
    G: Floats
    """(n_queries, k) and (n_gallery, k): Unit rows of the other vector."""
    n_first: int
    ignored: Callable[[int, int], Lists]
    """As in `Relevance`: what takes none of the places."""

    def only(self, queries: NDArray[np.intp]) -> Reranking:
        """Return the same of a few of the queries, by their places (n,)."""
        return Reranking(self.Q[queries], self.G, self.n_first, _among(self.ignored, queries))

    def apply(self, start: int, S: Floats) -> None:
        """Raise, in place, the scores (b, n_gallery) of the first places above all others."""
        for query, scores in enumerate(S, start):
            first = self._first(query, scores)
            # Row by row alike, so that equal vectors tie: a product may round them differently.
            cosines = np.einsum("kd,d->k", self.G[first], self.Q[query])
            _, places = np.unique(cosines, return_inverse=True)
            # Steps of 2^-16 above a power of two: exact, and equal cosines stay equal.
            level = np.exp2(np.ceil(np.log2(np.abs(scores).max(initial=2.0**-16))))
            scores[first] = level * (1 + (places + 1) * 2.0**-16)

    def _first(self, query: int, scores: Floats) -> Ints:
        """Return what stands at the first places (k,); of equal scores those that come first."""
        _, ignored = self.ignored(query, query + 1)
        n_rest = len(scores) - self.n_first
        open_to = scores.copy()
        open_to[ignored] = -np.inf
        if n_rest <= 0:
            return np.flatnonzero(open_to > -np.inf)
        least = np.partition(open_to, n_rest)[n_rest]
        above = np.flatnonzero(open_to > least)
        last = np.flatnonzero(open_to == least)[: self.n_first - len(above)]
        return np.concatenate([above, last])


@dataclass(frozen=True)
class Groups:
    """Which images are left out together: groups from 0, -1 for none."""

    gallery: Ints
    """Of each gallery row, (n_gallery,)."""
    own: Ints
    """Of each query, (n_queries,)."""
    query: Ints
    """Each query's own row of the gallery, (n_queries,)."""
    n_groups: int


@short_repr
@dataclass(frozen=True)
class Ranking:
    """Figures (n_queries,) of every query; NaN where nothing is relevant."""

    ap: NDArray[np.float64]
    """Average precision under the chosen rule for ties."""
    tie_width: NDArray[np.float64]
    """Average precision with the best order of ties minus with the worst."""
    trapezoid_ap: NDArray[np.float64]
    """The revisited Oxford and Paris benchmark's; ties in expectation."""
    figures: dict[str, NDArray[np.float64]]
    """By name: ap@r, r_precision, mrr, ndcg, recall@k, precision@k, hit@k, ndcg@k. Ties in
    expectation."""
    n_relevant: Ints


def rank(  # noqa: PLR0913  what the callers of one kernel ask for
    Q: Floats,
    G: Floats,
    relevance: Relevance,
    *,
    ks: Sequence[int] = DEFAULT_KS,
    ties: Ties = "expected",
    block_bytes: int | None = None,
    seen: Callable[[int, Floats], None] | None = None,
    reranking: Reranking | None = None,
) -> Ranking:
    """Rank the gallery `G` (n_gallery, d) for every query of `Q` (n_queries, d): exact figures.

    Scores are dot products: give unit rows for cosines. With torch tensors, `Q` and `G` on one
    device, all is computed there. Equal scores count as the mean over all orders ("expected"), as
    one threshold ("sklearn"), relevant first or last ("best", "worst"), or in the gallery's order
    ("id"). `block_bytes` of scores are held: by default `BLOCK_BYTES`, and with more than 65,536
    gallery items what `LEAST_ROWS` queries take; at d = 512, half of what the gallery takes.
    `seen` is shown every block of scores (b, n_gallery) with the number of its first query.
    With a `reranking` the first places are put in another order; not on a device.

    Where `Q` is `G` and `relevance` says the classes, a product serves both of its rows: about
    half of them are computed, in tiles (see `tiling_of`). `block_bytes`, `seen`, the order "id"
    and a `reranking` need whole rows of scores.
    """
    _check(Q, G, relevance, ks, ties)
    order = np.asarray(sorted(set(ks)), dtype=np.int64)
    is_whole = any(given is not None for given in (block_bytes, seen, reranking)) or ties == "id"
    tiling = None if is_whole or Q is not G else tiling_of(Q, relevance.classes)
    if tiling is not None:
        sums, n_relevant = _sums_by_tiles(Q, tiling, order)
    else:
        blocks = score_blocks(Q, G, block_bytes, reranking)
        sums, n_relevant = _sums_by_blocks(Q, blocks, relevance, order, seen, by_id=ties == "id")
    return _ranking(sums, n_relevant, order, ties)


def _sums_by_blocks(
    Q: Floats,
    blocks: Iterator[tuple[int, int, Floats]],
    relevance: Relevance,
    ks: Ints,
    seen: Callable[[int, Floats], None] | None,
    *,
    by_id: bool,
) -> tuple[NDArray[np.float64], Ints]:
    """Return the figures' sums (n_queries, n_figures) and the number of relevant items."""
    from intramodal.evaluation.kernels import cpu, gpu  # numba: when it is needed

    sums = np.zeros((len(Q), cpu.N_FIXED + cpu.N_AT_K * len(ks)))
    n_relevant = np.zeros(len(Q), dtype=np.int64)
    kernel = cpu if isinstance(Q, np.ndarray) else gpu
    for start, stop, S in blocks:
        pos_ptr, pos_idx = relevance.positives(start, stop)
        ign_ptr, ign_idx = relevance.ignored(start, stop)
        kernel.rank_block(S, pos_ptr, pos_idx, ign_ptr, ign_idx, ks, sums[start:stop], by_id)
        if seen is not None:
            seen(start, S)
        n_relevant[start:stop] = np.diff(pos_ptr)
    return sums, n_relevant


@dataclass(frozen=True)
class Tiling:
    """Rows in the order of their classes, and panels of them that cut no class."""

    order: Ints
    """(n,): The row that stands at each place."""
    sizes: Ints
    """(n_classes,): Number of rows of each class."""
    bounds: Ints
    """(n_panels + 1,): Where each panel begins, and n."""
    most_rows: int
    """Rows and columns of a tile, at most."""
    buckets: int
    """Buckets per relevant item in which scores are counted."""


def tiling_of(X: Any, classes: Ints | None) -> Tiling | None:
    """Return how to rank the rows of `X` (n, d) by tiles; None where blocks do as well.

    So for tensors and unknown classes; where there are few dimensions; where one block holds all
    scores, since NumPy makes use of the symmetry then; and where classes are so large, or so
    different, that tiles would take more memory than blocks or have few rows.
    """
    if classes is None or not isinstance(X, np.ndarray) or X.shape[1] < LEAST_DIM:
        return None
    if _block_rows(len(X), None) >= len(X):
        return None
    from intramodal.evaluation.kernels import cpu

    _, sizes = np.unique(classes, return_counts=True)
    bounds = _panels(sizes)
    lengths = np.diff(bounds)
    for buckets in (cpu.FINE, cpu.COARSE):
        left = _held_bytes(len(X)) - cpu.tally_bytes(sizes, X.dtype, buckets)
        most_rows = min(TILE_ROWS, math.isqrt(max(0, left) // X.itemsize))
        if lengths.min() >= LEAST_ROWS and lengths.max() <= most_rows:
            order = np.argsort(classes, kind="stable")
            return Tiling(order, sizes, bounds, most_rows, buckets)
    return None


def _panels(sizes: Ints) -> Ints:
    """Return bounds of about `PANEL_ROWS` rows each, at ends of classes."""
    ends = np.cumsum(sizes)
    n_panels = max(1, round(ends[-1] / PANEL_ROWS))
    wanted = np.arange(1, n_panels + 1) * ends[-1] // n_panels
    return np.unique([0, *ends[np.searchsorted(ends, wanted)]])


def tiles(X: Floats, tiling: Tiling) -> Iterator[tuple[slice, slice, Floats]]:
    """Yield the places of some rows and columns, and their scores, until each pair has come once.

    Places are those of ``tiling.order``. The tiles on the diagonal, where rows and columns are the
    same, come first. All tiles share one buffer.
    """
    buffer = np.empty(tiling.most_rows**2, dtype=X.dtype)
    diagonal = ((panel, panel) for panel in _slices(tiling.bounds))
    others = _off_diagonal(tiling.bounds, tiling.most_rows)
    for rows, columns in itertools.chain(diagonal, others):
        # Two copies on the diagonal, too: for an array by itself NumPy calls another routine of
        # the BLAS, whose last bits can differ, and equal rows would no longer tie.
        R, C = X[tiling.order[rows]], X[tiling.order[columns]]
        S = buffer[: len(R) * len(C)].reshape(len(R), len(C))
        yield rows, columns, np.matmul(R, C.T, out=S)


def _off_diagonal(bounds: Ints, most_rows: int) -> Iterator[tuple[slice, slice]]:
    """Yield rows and columns of every pair of panels once, in tiles as large as can be."""
    if len(bounds) > 2:
        middle = len(bounds) // 2
        halves = (bounds[0], bounds[middle]), (bounds[middle], bounds[-1])
        yield from itertools.product(*(_slices(_even(*half, most_rows)) for half in halves))
        yield from _off_diagonal(bounds[: middle + 1], most_rows)
        yield from _off_diagonal(bounds[middle:], most_rows)


def _even(start: int, stop: int, most: int) -> Ints:
    """Return bounds of equal parts of `most` or a little less."""
    return np.linspace(start, stop, 1 + -(-(stop - start) // most)).astype(np.int64)


def _slices(bounds: Ints) -> list[slice]:
    """Return the parts between bounds."""
    return list(itertools.starmap(slice, itertools.pairwise(bounds.tolist())))


def _sums_by_tiles(X: Floats, tiling: Tiling, ks: Ints) -> tuple[NDArray[np.float64], Ints]:
    """Return what `_sums_by_blocks` does, where every row asks all others."""
    from intramodal.evaluation.kernels import cpu

    tallies = cpu.start_tallies(tiling.sizes, X.dtype, tiling.buckets)
    for rows, columns, S in tiles(X, tiling):
        if rows == columns:
            cpu.tally_diagonal(S, rows.start, tallies)
        else:
            cpu.tally_tile(S, rows.start, columns.start, tallies)
    found = np.zeros((len(X), cpu.N_FIXED + cpu.N_AT_K * len(ks)))
    cpu.rank_tallied(tallies, ks, found)
    sums, n_relevant = np.empty_like(found), np.empty(len(X), dtype=np.int64)
    sums[tiling.order] = found
    n_relevant[tiling.order] = np.repeat(tiling.sizes - 1, tiling.sizes)
    return sums, n_relevant


def on_device(X: Floats, device: str | None) -> Any:
    """Return the array, or the tensor of it on a device."""
    if device is None:
        return X
    try:
        import torch
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"ranking on {device!r} needs the package 'torch'; pip install 'intramodal[encoders]'"
        ) from error
    try:
        return torch.from_numpy(X).to(device)
    except (RuntimeError, AssertionError) as error:  # the latter: torch without CUDA
        raise InputError(
            f"cannot rank on {device!r}: {str(error).splitlines()[0]}; leave the device out to "
            f"rank on the CPU"
        ) from error


def leave_group_out(
    Q: Floats,
    G: Floats,
    relevance: Relevance,
    groups: Groups,
    reranking: Reranking | None = None,
) -> Iterator[NDArray[np.float64]]:
    """Yield, block by block, each query's average precision (b, n_groups) without each group.

    What a group jackknife needs, from one pass over the scores: leaving group g out takes its
    images from the gallery, and the queries in it away. Entries are NaN there, and where nothing
    relevant is left. Ties count in expectation; only the query itself is ignored. Of a
    `reranking` nothing comes up to the first places.
    """
    for first, _, scores in score_blocks(Q, G, None, reranking):
        yield from _without_each(scores, first, relevance, groups)


def _without_each(
    scores: Floats, first: int, relevance: Relevance, groups: Groups
) -> Iterator[NDArray[np.float64]]:
    """Yield average precisions (b, n_groups) of the queries from `first` on, by their scores."""
    from intramodal.evaluation.kernels.cpu import leave_out_block

    n_rows, last = max(1, BLOCK_BYTES // (8 * groups.n_groups)), first + len(scores)
    for start in range(first, last, n_rows):
        stop = min(start + n_rows, last)
        ap = np.full((stop - start, groups.n_groups), np.nan)
        pos_ptr, pos_idx = relevance.positives(start, stop)
        own, query = groups.own[start:stop], groups.query[start:stop]
        S = scores[start - first : stop - first]
        leave_out_block(S, pos_ptr, pos_idx, groups.gallery, own, query, ap)
        yield ap


FIRST_PAGE = 10
"""Answers on the first page."""
PAGE_FIGURES = (f"ndcg@{FIRST_PAGE}", f"precision@{FIRST_PAGE}", "precision@1")
"""What a first page is measured by."""


def rank_without_groups(
    Q: Floats,
    G: Floats,
    relevance: Relevance,
    groups: Groups,
    *,
    ks: Sequence[int] = DEFAULT_KS,
    reranking: Reranking | None = None,
) -> tuple[Ranking, NDArray[np.float64], Ints]:
    """Rank as `rank` does, ties in expectation, and leave out each group in the same pass.

    Returns the ranking, and the queries' summed figures (n_groups, 4) without each group (average
    precision and `PAGE_FIGURES`) and their number (n_groups,); see `leave_group_out`. The same
    scores serve all of it, so that equal scores tie alike.
    """
    from intramodal.evaluation.kernels import cpu

    _check(Q, G, relevance, ks, "expected")
    order = np.asarray(sorted(set(ks)), dtype=np.int64)
    figures = np.zeros((len(Q), cpu.N_FIXED + cpu.N_AT_K * len(order)))
    n_relevant = np.zeros(len(Q), dtype=np.int64)
    sums, counts = np.zeros((groups.n_groups, 1 + len(PAGE_FIGURES))), np.int64(0)
    for start, stop, S in score_blocks(Q, G, None, reranking):
        lists = relevance.positives(start, stop), relevance.ignored(start, stop)
        units = groups.gallery, groups.own[start:stop], groups.n_groups
        out = figures[start:stop]
        ap, numbers = cpu.rank_without_block(S, *lists, units, order, out)
        sums[:, 0] += ap
        sums[:, 1:] += _pages_without(S, lists[0], units, groups.query[start:stop])
        counts = counts + numbers
        n_relevant[start:stop] = np.diff(lists[0][0])
    return _ranking(figures, n_relevant, order, "expected"), sums, np.asarray(counts)


def _pages_without(
    S: Floats, positives: Lists, units: tuple[Ints, Ints, int], query: Ints
) -> NDArray[np.float64]:
    """Return the queries' summed `PAGE_FIGURES` (n_groups, 3) without each group."""
    from intramodal.evaluation.kernels.first_page import first_page_block

    page = np.zeros((len(S), len(PAGE_FIGURES)))
    changes = first_page_block(S, *positives, units, query, FIRST_PAGE, page)
    return np.asarray(page.sum(axis=0) + changes)


def score_blocks(
    Q: Floats,
    G: Floats,
    block_bytes: int | None = None,
    reranking: Reranking | None = None,
) -> Iterator[tuple[int, int, Floats]]:
    """Yield (start, stop, Q[start:stop] @ G.T) in blocks of about `block_bytes`, see `rank`."""
    n_rows = _block_rows(len(G), block_bytes)
    for start in range(0, len(Q), n_rows):
        stop = min(start + n_rows, len(Q))
        S = Q[start:stop] @ G.T
        if reranking is not None:
            reranking.apply(start, S)
        yield start, stop, S


def _held_bytes(n_gallery: int) -> int:
    """Return how many bytes of scores are held by default."""
    return max(BLOCK_BYTES, LEAST_ROWS * 4 * n_gallery)


def _block_rows(n_gallery: int, block_bytes: int | None) -> int:
    """Return the number of queries at a time."""
    held = _held_bytes(n_gallery) if block_bytes is None else block_bytes
    return int(np.clip(held // (4 * max(1, n_gallery)), 1, MOST_ROWS))


def as_lists(rows: Sequence[Any]) -> Lists:
    """Return lists of rows as pointers and indices.

    So [[1, 2], [], [0]] is [0, 2, 2, 3] and [1, 2, 0].
    """
    pointers = np.zeros(len(rows) + 1, dtype=np.int64)
    np.cumsum([len(row) for row in rows], out=pointers[1:])
    parts = [np.asarray(row, dtype=np.int64) for row in rows if len(row)]
    return pointers, np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)


def _check(Q: Floats, G: Floats, relevance: Relevance, ks: Sequence[int], ties: str) -> None:
    if Q.ndim != 2 or G.ndim != 2 or Q.shape[1] != G.shape[1] or not len(G):
        raise InputError(
            f"queries (n, d) and gallery (m, d) need the same d and m > 0, got {Q.shape} and "
            f"{G.shape}"
        )
    if len(Q) != relevance.n_queries:
        raise InputError(f"{len(Q)} queries but relevance for {relevance.n_queries}")
    if not (_is_finite(Q) and _is_finite(G)):
        raise InputError("vectors to rank hold NaN or infinity; leave those points out")
    if ties not in get_args(Ties):
        raise InputError(f"ties must be one of {', '.join(get_args(Ties))}, got {ties!r}")
    if any(k < 1 for k in ks):
        raise InputError(f"places to look at are counted from 1, got {sorted(ks)}")


def _is_finite(X: Any) -> bool:
    return bool((np.isfinite(X) if isinstance(X, np.ndarray) else X.isfinite()).all())


def _ranking(sums: NDArray[np.float64], n_relevant: Ints, ks: Ints, ties: Ties) -> Ranking:
    from intramodal.evaluation.kernels import cpu

    counted = np.where(n_relevant > 0, n_relevant, 1)[:, None]
    means = sums / counted
    ideal = np.concatenate(
        [[1.0], np.cumsum(1 / np.log2(np.arange(2, n_relevant.max(initial=0) + 2)))]
    )
    named = {
        "ap@r": means[:, cpu.AP_AT_R],
        "r_precision": means[:, cpu.R_PRECISION],
        "mrr": sums[:, cpu.MRR],
        "ndcg": sums[:, cpu.NDCG] / ideal[n_relevant],
    }
    for i, k in enumerate(ks.tolist()):
        found = cpu.N_FIXED + cpu.N_AT_K * i
        named[f"recall@{k}"] = means[:, found]
        named[f"precision@{k}"] = sums[:, found] / k
        named[f"hit@{k}"] = sums[:, found + 1]
        named[f"ndcg@{k}"] = sums[:, found + 2] / ideal[np.minimum(n_relevant, k)]
    by_ties = {
        "expected": cpu.AP,
        "sklearn": cpu.AP_SKLEARN,
        "best": cpu.AP_BEST,
        "worst": cpu.AP_WORST,
        "id": cpu.AP_ID,
    }
    means[n_relevant == 0] = np.nan
    return Ranking(
        ap=means[:, by_ties[ties]],
        tie_width=means[:, cpu.AP_BEST] - means[:, cpu.AP_WORST],
        trapezoid_ap=means[:, cpu.AP_TRAPEZOID],
        figures={name: np.where(n_relevant > 0, values, np.nan) for name, values in named.items()},
        n_relevant=n_relevant,
    )
