"""Exact full-ranking figures of every query, block by block, without sorting the gallery."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from intramodal.errors import InputError
from intramodal.types import Floats

Ties = Literal["expected", "sklearn", "best", "worst", "id"]
Ints = NDArray[np.int64]
Lists = tuple[Ints, Ints]
"""Lists of gallery rows, one a query: list q is ``indices[pointers[q] : pointers[q + 1]]``."""

DEFAULT_KS = (1, 5, 10)
BLOCK_BYTES = 64 * 2**20
"""Scores held at a time, where that is `LEAST_ROWS` queries or more."""
LEAST_ROWS = 256
"""With fewer queries at a time a product takes several times as long: it waits for the gallery."""


@dataclass(frozen=True)
class Relevance:
    """Which gallery rows are relevant to each query, which are not there for it.

    Parameters
    ----------
    positives : callable
        ``positives(start, stop)`` returns the lists of queries start..stop, none of them ignored.
    ignored : callable
        The same for the query itself and junk.
    n_queries : int
    """

    positives: Callable[[int, int], Lists]
    ignored: Callable[[int, int], Lists]
    n_queries: int


@dataclass(frozen=True)
class Groups:
    """Which images are left out together.

    Parameters
    ----------
    gallery : ndarray of shape (n_gallery,)
        Group of each gallery row, 0 .. n_groups - 1.
    own, query : ndarray of shape (n_queries,)
        Group of each query, and its own row of the gallery; -1 for none.
    n_groups : int
    """

    gallery: Ints
    own: Ints
    query: Ints
    n_groups: int


@dataclass(frozen=True)
class Ranking:
    """Figures of every query; NaN where nothing is relevant.

    Parameters
    ----------
    ap : ndarray of shape (n_queries,)
        Average precision under the chosen rule for ties.
    tie_width : ndarray of shape (n_queries,)
        Average precision with the best order of ties minus with the worst.
    trapezoid_ap : ndarray of shape (n_queries,)
        The revisited Oxford and Paris benchmark's; ties in expectation.
    figures : dict of str to ndarray of shape (n_queries,)
        "ap@r", "r_precision", "mrr", "ndcg", and for each k "recall@k", "precision@k", "hit@k";
        ties in expectation.
    n_relevant : ndarray of shape (n_queries,)
    """

    ap: NDArray[np.float64]
    tie_width: NDArray[np.float64]
    trapezoid_ap: NDArray[np.float64]
    figures: dict[str, NDArray[np.float64]]
    n_relevant: Ints


def rank(
    Q: Floats,
    G: Floats,
    relevance: Relevance,
    *,
    ks: Sequence[int] = DEFAULT_KS,
    ties: Ties = "expected",
    block_bytes: int | None = None,
) -> Ranking:
    """Rank the whole gallery for every query and return exact figures.

    Parameters
    ----------
    Q : ndarray of shape (n_queries, d)
        Scores are dot products: give unit rows for cosines. With torch tensors, `Q` and `G` on one
        device, all is computed there.
    G : ndarray of shape (n_gallery, d)
    relevance : Relevance
    ks : sequence of int
        Places for "recall@k", "precision@k" and "hit@k".
    ties : {"expected", "sklearn", "best", "worst", "id"}
        Order of equal scores: the mean over all orders; one threshold a group, as
        `sklearn.metrics.average_precision_score`; relevant first; relevant last; the gallery's.
    block_bytes : int, optional
        Memory for scores. By default `BLOCK_BYTES`, and with more than 65,536 gallery items, what
        `LEAST_ROWS` queries take: at d = 512, half of what the gallery takes.

    Raises
    ------
    InputError
        For shapes that do not fit, values that are not finite, unknown ties.

    Examples
    --------
    >>> G = np.array([[1, 0], [0.8, 0.6], [0, 1]], dtype=np.float32)
    >>> positives = lambda start, stop: as_lists([[1], [0]][start:stop])
    >>> itself = lambda start, stop: as_lists([[0], [1]][start:stop])
    >>> rank(G[:2], G, Relevance(positives, itself, 2)).ap
    array([1., 1.])
    """
    from intramodal.evaluation.kernels import cpu, gpu  # numba: when it is needed

    _check(Q, G, relevance, ks, ties)
    order = np.asarray(sorted(set(ks)), dtype=np.int64)
    sums = np.zeros((len(Q), cpu.N_FIXED + 2 * len(order)))
    n_relevant = np.zeros(len(Q), dtype=np.int64)
    kernel = cpu if isinstance(Q, np.ndarray) else gpu
    for start, stop, S in score_blocks(Q, G, block_bytes):
        pos_ptr, pos_idx = relevance.positives(start, stop)
        ign_ptr, ign_idx = relevance.ignored(start, stop)
        kernel.rank_block(S, pos_ptr, pos_idx, ign_ptr, ign_idx, order, sums[start:stop])
        n_relevant[start:stop] = np.diff(pos_ptr)
    return _ranking(sums, n_relevant, order, ties)


def leave_group_out(
    Q: Floats, G: Floats, relevance: Relevance, groups: Groups
) -> Iterator[NDArray[np.float64]]:
    """Yield, block by block, each query's average precision (b, n_groups) without each group.

    What a group jackknife needs, from one pass over the scores: leaving group g out takes its
    images from the gallery, and the queries in it away. Entries are NaN there, and where nothing
    relevant is left. Ties count in expectation; only the query itself is ignored.

    Parameters
    ----------
    Q, G, relevance : as in `rank`
    groups : Groups
    """
    from intramodal.evaluation.kernels.cpu import leave_out_block

    n_rows = max(1, BLOCK_BYTES // (8 * groups.n_groups))
    for first, last, scores in score_blocks(Q, G):
        for start in range(first, last, n_rows):
            stop = min(start + n_rows, last)
            ap = np.full((stop - start, groups.n_groups), np.nan)
            pos_ptr, pos_idx = relevance.positives(start, stop)
            own, query = groups.own[start:stop], groups.query[start:stop]
            S = scores[start - first : stop - first]
            leave_out_block(S, pos_ptr, pos_idx, groups.gallery, own, query, ap)
            yield ap


def score_blocks(
    Q: Floats, G: Floats, block_bytes: int | None = None
) -> Iterator[tuple[int, int, Floats]]:
    """Yield (start, stop, Q[start:stop] @ G.T) in blocks of about `block_bytes`, see `rank`."""
    if block_bytes is None:
        block_bytes = max(BLOCK_BYTES, LEAST_ROWS * 4 * len(G))
    n_rows = int(np.clip(block_bytes // (4 * max(1, len(G))), 1, 4096))
    for start in range(0, len(Q), n_rows):
        stop = min(start + n_rows, len(Q))
        yield start, stop, Q[start:stop] @ G.T


def as_lists(rows: Sequence[Any]) -> Lists:
    """Return lists of rows as pointers and indices.

    Examples
    --------
    >>> as_lists([[1, 2], [], [0]])
    (array([0, 2, 2, 3]), array([1, 2, 0]))
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
        found = cpu.N_FIXED + 2 * i
        named[f"recall@{k}"] = means[:, found]
        named[f"precision@{k}"] = sums[:, found] / k
        named[f"hit@{k}"] = sums[:, found + 1]
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
