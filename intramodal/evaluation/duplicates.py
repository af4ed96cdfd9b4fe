"""Near-copies of images, found in the scores of a ranking: one unit, whatever is resampled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intramodal.errors import InputError
from intramodal.evaluation.ranking import FIRST_PAGE, score_blocks
from intramodal.evaluation.tasks import RetrievalTask
from intramodal.types import Floats, VectorTable, short_repr

THRESHOLD = 0.9
"""Cosine after subtracting the mean image from which two images are copies. A threshold of the
plain cosine means another thing on every model."""
LEAST_IMAGES = 30
"""With fewer images their mean says too little."""
MOST_SHARE = 0.05
"""A group of more than this share of the images is no burst of copies."""


@short_repr
@dataclass(frozen=True, eq=False)
class Duplicates:
    """Which images are near-copies of each other, directly or through others.

    Parameters
    ----------
    threshold : float or None
        Centred cosine from which two images are copies; None if none were looked for.
    groups : ndarray of shape (n_table,), int64
        Group of each row of the table, from 0; -1 for rows that take no part. An image without a
        copy is a group of its own.
    page_share : float
        Share of the first pages' answers that are copies of their query, by vector A.
    """

    threshold: float | None
    groups: NDArray[np.int64]
    page_share: float = 0.0

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Number of images in each group of two or more."""
        sizes = np.bincount(self.groups[self.groups >= 0])
        return sizes[sizes > 1].astype(np.int64)

    @property
    def is_suspect(self) -> bool:
        """Whether one group holds so many images that they are hardly copies."""
        n_images = int((self.groups >= 0).sum())
        return bool(self.sizes.max(initial=0) > MOST_SHARE * n_images)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        sizes = self.sizes
        return {
            "threshold": self.threshold,
            "n_images": int(sizes.sum()),
            "n_groups": len(sizes),
            "largest": int(sizes.max(initial=0)),
            "page_share": self.page_share,
        }


def parse_threshold(text: str) -> float | None:
    """Read a threshold, or ``off``.

    Examples
    --------
    >>> parse_threshold("0.95"), parse_threshold("off")
    (0.95, None)
    """
    if text == "off":
        return None
    try:
        return check_threshold(float(text))
    except ValueError:
        raise InputError(
            f"near-copies need a cosine between 0 and 1, or off, got {text!r}; for example "
            f"{THRESHOLD}"
        ) from None


def check_threshold(threshold: float | None) -> float | None:
    """Return the threshold; raises `InputError` unless it lies between 0 and 1, or is None."""
    if threshold is not None and not 0 < threshold < 1:
        raise InputError(
            f"near-copies need a cosine between 0 and 1, got {threshold:g}; for example "
            f"{THRESHOLD}"
        )
    return threshold


MOST_AMONG = 20_000
"""Images that do not ask are compared among themselves up to this number; of more only those that
are copies of a query are found."""
_ROUNDING = np.float32(1e-6)


class DuplicateFinder:
    """Joins near-copies among the images of a task, from the scores of vector A as they come.

    c = (s - a_i - a_j + m) / (n_i n_j) is the cosine of two unit images after the mean mu is
    subtracted: s their score, a the products with mu, m its squared length, n the lengths after.
    """

    def __init__(
        self, table: VectorTable, task: RetrievalTask, vector: str, threshold: float | None
    ) -> None:
        self._task, self._unit = task, table.unit(vector)
        self._sides = task.vectors(table, vector)
        self._rows = np.union1d(task.query_rows, task.gallery_rows)
        self._threshold = threshold if len(self._rows) >= LEAST_IMAGES else None
        self._parents = np.arange(len(table))
        self._n_on_page = 0
        U = self._unit if len(self._rows) == len(table) else self._unit[self._rows]
        mean = U.mean(axis=0, dtype=np.float64).astype(np.float32)
        m = mean @ mean
        along, length = np.zeros((2, len(table)), dtype=np.float32)
        along[self._rows] = U @ mean
        length[self._rows] = np.sqrt(np.maximum(1 - 2 * along[self._rows] + m, 0))
        self._along, self._length, self._m = along, length, m

    def see(self, start: int, scores: Floats) -> None:
        """Join the copies in the scores (b, n_gallery) of the queries from `start` on."""
        if self._threshold is not None:
            block = slice(start, start + len(scores))
            asking, itself = self._task.query_rows[block], self._task.query_at[block]
            self._n_on_page += self._join(scores, asking, self._task.gallery_rows, itself)

    def look(self) -> None:
        """Join the copies of all queries, by scores of its own: where no ranking shows any."""
        if self._threshold is not None:
            for start, _, scores in score_blocks(*self._sides):
                self.see(start, scores)

    def _join(
        self,
        scores: Floats,
        rows: NDArray[np.intp],
        columns: NDArray[np.intp],
        itself: NDArray[np.int64],
    ) -> int:
        """Join what the scores of some images say; return copies on their first pages."""
        from intramodal.evaluation.kernels.first_page import join_copies

        # Images that are all but the mean have no direction of their own: they are copies.
        base = self._along[rows] - self._m - _ROUNDING
        by_row = base, np.float32(self._threshold) * self._length[rows]
        by_column = self._along[columns], self._length[columns]
        nodes, k = (rows, columns), FIRST_PAGE
        return int(join_copies(scores, by_row, by_column, itself, nodes, k, self._parents))

    def found(self) -> Duplicates:
        """Return the groups, once all scores have been seen."""
        asking, answering = self._task.query_rows, self._task.gallery_rows
        for rows in (np.setdiff1d(asking, answering), np.setdiff1d(answering, asking)):
            self._compare_among(rows)
        roots = self._parents
        while not np.array_equal(roots, roots[roots]):
            roots = roots[roots]
        groups = np.full(len(roots), -1, dtype=np.int64)
        _, groups[self._rows] = np.unique(roots[self._rows], return_inverse=True)
        n_answers = len(asking) * min(FIRST_PAGE, max(1, len(answering) - 1))
        return Duplicates(self._threshold, groups, self._n_on_page / n_answers)

    def _compare_among(self, rows: NDArray[np.intp]) -> None:
        """Join copies among images that are all on one side: the ranking does not compare them."""
        if self._threshold is None or len(rows) > MOST_AMONG:
            return
        U = self._unit[rows]
        for start, stop, scores in score_blocks(U, U):
            self._join(scores, rows[start:stop], rows, np.arange(start, stop))
