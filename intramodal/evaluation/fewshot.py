"""Few-shot accuracy of a named vector without text: nearest prototype and shrunken LDA.

With text, see `intramodal.evaluation.fewshot_text`; both share their episodes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intramodal.errors import InputError
from intramodal.evaluation.classifiers import FITS, Fit, fit_prototypes
from intramodal.evaluation.episodes import SHOTS as SHOTS
from intramodal.evaluation.episodes import FewshotTask as FewshotTask
from intramodal.evaluation.results import FewshotResult
from intramodal.types import Floats, VectorTable

_N_COLUMNS = 4096
"""Class scores held at once: classifiers take 4096 (d + 1) floats, or one episode's if larger."""
_N_LOGITS = 2**21
"""Logits held at once, 8 MB of float32; or those of one image if larger."""


def evaluate_fewshot(  # noqa: PLR0913 - one option a choice of the protocol
    table: VectorTable,
    *,
    vector: str,
    field: str,
    classifiers: Sequence[str] = ("prototype", "lda"),
    shots: Sequence[int] = SHOTS,
    n_episodes: int = 50,
    seed: int = 0,
    min_class_size: int = 2,
    split: Sequence[Any] | None = None,
) -> dict[str, FewshotResult]:
    """Return the few-shot accuracy of one vector, one result a classifier (paper, section 5).

    At s shots the classes with more than s images take part, the first s of each permutation
    are the shots, and all other images of these classes are tested. Equal scores go to the class
    whose name comes first.

    Parameters
    ----------
    table : VectorTable
        Of `ImageCollection.table`.
    vector : str
        The named vector; rows are scaled to unit length here.
    field : str
        Payload field with one class an image.
    classifiers : sequence of {"prototype", "lda"}
        Nearest prototype: cosine to the mean of the unit shots. LDA: common covariance with the
        shrinkage of Kubokawa and Srivastava, equal priors; without scatter within classes, as at
        one shot, its covariance is the identity and it is the prototype classifier.
    shots : sequence of int
        Labelled images a class. What fewer than two classes can serve becomes NaN.
    n_episodes : int
    seed : int
        Same points, labels and seed: same episodes, whatever the vector.
    min_class_size : int
        Classes with fewer images are left out.
    split : sequence of length n, optional
        "train", "test" or something else for each row of the table: shots come from the
        first, the second is tested, the rest takes no part. Here classes with s training images
        and a test image take part.

    Raises
    ------
    InputError
        If the field cannot serve as a label, or an option is outside its range.

    Notes
    -----
    Statistics in float64, scores in float32. Memory beyond a unit copy of the vectors: blocks of
    4096 classifiers' weights and 8 MB of logits (one episode's, one image's, if these are
    larger), 2048 residuals in float64, and a byte for each image and episode of a block.
    """
    task = FewshotTask.from_table(
        table,
        field,
        shots=shots,
        n_episodes=n_episodes,
        seed=seed,
        min_class_size=min_class_size,
        split=split,
    )
    return run_fewshot(task, table, vector, classifiers)


def run_fewshot(
    task: FewshotTask, table: VectorTable, vector: str, classifiers: Sequence[str]
) -> dict[str, FewshotResult]:
    """Return the accuracy of one vector for a task that several vectors share."""
    unknown = sorted(set(classifiers) - set(FITS))
    if unknown:
        raise InputError(f"no classifier {unknown[0]!r}; choose from {', '.join(sorted(FITS))}")
    X = task.images(table, vector)
    # At one shot nothing scatters within a class: every classifier is the prototype one.
    wanted = {
        c: [(s, fit_prototypes if s == 1 else FITS[c]) for s in task.shots] for c in classifiers
    }
    distinct = dict.fromkeys(pair for pairs in wanted.values() for pair in pairs)
    counts = {pair: _counts(task, X, *pair) for pair in distinct}
    return {
        name: fewshot_result(task, table, vector, name, [counts[pair] for pair in pairs])
        for name, pairs in wanted.items()
    }


def fewshot_result(
    task: FewshotTask, table: VectorTable, vector: str, classifier: str, counts: list[Counts]
) -> FewshotResult:
    """Return the result of one classifier from its counts at every number of shots."""
    right, tested, accuracy = (np.stack(parts) for parts in zip(*counts, strict=True))
    at = [task.classes_at(s) for s in task.shots]
    seen = np.flatnonzero(task.is_test)
    by_class = [_class_accuracy(task, r, t) for r, t in zip(right, tested, strict=True)]
    return FewshotResult(
        vector=vector,
        field=task.field,
        classifier=classifier,
        shots=task.shots,
        accuracy=accuracy,
        class_names=task.names,
        class_accuracy=np.stack(by_class),
        n_test=tested.sum(axis=1) / accuracy.shape[1],
        seed=task.seed,
        ids=[table.ids[row] for row in task.rows[seen]],
        labels=[task.names[code] for code in task.codes[seen]],
        n_correct=right[:, seen],
        n_tested=tested[:, seen],
        n_pool=np.array([task.pool_sizes[c].mean() if len(c) else np.nan for c in at]),
        extra={**task.facts, "n_classes": [len(c) for c in at]},
    )


Counts = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]
"""Times right and times tested of every image (n,), and accuracy of every episode."""


def _counts(task: FewshotTask, X: Floats, n_shots: int, fit: Fit) -> Counts:
    n_episodes = len(task.draws)
    right, tested = (np.zeros(len(X), dtype=np.int64) for _ in range(2))
    classes = task.classes_at(n_shots)
    if len(classes) < 2:
        return right, tested, np.full(n_episodes, np.nan)
    truth = np.searchsorted(classes, task.codes)
    images = np.flatnonzero(task.is_test & np.isin(task.codes, classes))
    accuracy = np.empty(n_episodes)
    width = max(1, _N_COLUMNS // len(classes))
    for start in range(0, n_episodes, width):
        block = task.draws[start : start + width, classes, :n_shots]
        W = np.concatenate([fit(X, shots) for shots in block])
        tuned = task.validation[start : start + width, classes]
        is_tested = _outside(np.concatenate([block, tuned], axis=2), len(X))
        n_right, n_seen = (np.zeros(len(block), dtype=np.int64) for _ in range(2))
        for rows, best in _predicted(X, images, W, len(block)):
            seen = is_tested[rows]
            hit = (best == truth[rows, None]) & seen
            right[rows] += hit.sum(axis=1)
            tested[rows] += seen.sum(axis=1)
            n_right += hit.sum(axis=0)
            n_seen += seen.sum(axis=0)
        accuracy[start : start + width] = n_right / n_seen
    return right, tested, accuracy


def _outside(block: NDArray[np.int64], n: int) -> NDArray[np.bool_]:
    """Return (n, n_episodes): which images are not among the `block` of each episode."""
    is_tested = np.ones((n, len(block)), dtype=bool)
    for e, shots in enumerate(block):
        is_tested[shots.ravel(), e] = False
    return is_tested


def _predicted(
    X: Floats, images: NDArray[np.intp], W: Floats, n_episodes: int
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Yield rows and their class in every episode, (c,) and (c, n_episodes)."""
    size = max(1, _N_LOGITS // len(W))
    for start in range(0, len(images), size):
        rows = images[start : start + size]
        logits = X[rows] @ W[:, :-1].T
        logits += W[:, -1]
        # The first of equal scores: classes are in the order of their names.
        yield rows, logits.reshape(len(rows), n_episodes, -1).argmax(axis=2)


def _class_accuracy(
    task: FewshotTask, right: NDArray[np.int64], tested: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return (K,); a class has equally many tests in each episode, so pooling is the mean."""
    n_right, n_tested = (np.zeros(len(task.names)) for _ in range(2))
    np.add.at(n_right, task.codes, right)
    np.add.at(n_tested, task.codes, tested)
    return np.asarray(n_right / np.where(n_tested > 0, n_tested, np.nan))
