"""What stands beside every figure of a vector whose map has seen labels.

The same map fitted to shuffled labels, judged by the shuffled labels: it must score chance, and
scores far more wherever rows that it was fitted on judge it. How many queries the map classifies
as their label says: ranking by the predicted class alone comes close to its mAP. And the classes
that the map has never seen, which lose.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intramodal.errors import InputError
from intramodal.evaluation.labels import encode_labels, labels_of
from intramodal.evaluation.ranking import rank
from intramodal.evaluation.tasks import RetrievalTask
from intramodal.runs.run import Run
from intramodal.types import FittedVector, Floats, HeldOut, VectorTable, unit_rows

log = logging.getLogger(__name__)

MOST_UNSEEN = 0.5
"""Share of a field's classes that a map may not know, to be judged by that field."""
_CONTROL_QUERIES = 2_000
_MOST_NAMED = 3


@dataclass(frozen=True)
class LabelEvidence:
    """What stands beside a figure of a vector whose map has seen labels.

    Parameters
    ----------
    vector, field : str
        The vector, and what its map has seen labels of.
    control, chance : float or None
        mAP of the label axes fitted to shuffled labels, judged by these, and what a random order
        gives; None where the rows for fitting do not carry the labels, as those of a file.
    accuracy : float or None
        Share of the queries of known classes that are nearest to the mean of the labelled images
        of their class; None for another field.
    unseen : tuple of str
        Classes that the map does not know; none for another field.
    n_unseen : int
        Queries of these.
    map_seen, map_unseen : float or None
        mAP of the queries of the other classes, and of these.
    """

    vector: str
    field: str
    control: float | None
    chance: float | None
    accuracy: float | None
    unseen: tuple[str, ...] = ()
    n_unseen: int = 0
    map_seen: float | None = None
    map_unseen: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {**asdict(self), "unseen": list(self.unseen), "sentence": self.sentence}

    def log(self, run: Run, *, field: str, n: int | None = None, figure: str = "mAP") -> None:
        """Record it beside the figure of a field."""
        about: Any = {"vector": self.vector, "field": field, "n": n}
        run.log_metric(f"{figure} of shuffled labels", self.control, **about)
        run.log_metric("classification accuracy", self.accuracy, **about)

    @property
    def sentence(self) -> str:
        """What a person needs to know beside the figure."""
        said = [f"{self.vector!r} has seen labels of {self.field!r}"]
        if self.control is not None and self.chance is not None:
            chance = f"chance is {self.chance:.3f}"
            said.append(f"fitted to shuffled ones it has mAP {self.control:.3f}, {chance}")
        if self.accuracy is not None:
            said.append(f"it classifies {self.accuracy:.1%} of the queries")
        if self.map_unseen is not None:
            seen = "" if self.map_seen is None else f", {self.map_seen:.3f} of the others"
            n = len(self.unseen)
            said.append(f"mAP is {self.map_unseen:.3f} of {n} classes it has not seen{seen}")
        return "; ".join(said)


def label_evidence(
    table: VectorTable,
    task: RetrievalTask,
    vector: str,
    ap: NDArray[np.float64] | None = None,
    *,
    seed: int = 0,
) -> LabelEvidence | None:
    """Return what stands beside the figure of a vector; None if its map has seen no labels.

    Shapes: `ap` (n_queries,), where the figure is of a ranking. Raises `InputError` where most
    classes are unknown to the map.
    """
    gone = table.held_out
    if gone is None or vector not in gone.fitted:
        return None
    fitted = gone.fitted[vector]
    control, chance = table.remember(
        ("control", task.field, fitted.labels.field, fitted.source, task.protocol, seed),
        lambda: _control(table, gone, task, fitted, seed),
    )
    if task.field != fitted.labels.field or task.codes.is_multi:
        return LabelEvidence(vector, fitted.labels.field, control, chance, None)
    asked = np.array(task.query_labels(), dtype=str)
    unseen = _unseen(np.unique(asked).tolist(), vector, fitted)
    is_unseen = np.isin(asked, unseen)
    return LabelEvidence(
        vector,
        fitted.labels.field,
        control,
        chance,
        _accuracy(table, gone, task, fitted.made or vector),
        tuple(unseen),
        int(is_unseen.sum()),
        None if ap is None or not unseen else _mean(ap[~is_unseen]),
        None if ap is None else _mean(ap[is_unseen]),
    )


def beside_tasks(
    table: VectorTable, tasks: Iterable[RetrievalTask], vectors: Sequence[str], *, seed: int = 0
) -> dict[str, dict[str, LabelEvidence]]:
    """Return what stands beside figures that are not of these rankings, by field and vector."""
    found: dict[str, dict[str, LabelEvidence]] = {}
    for task in tasks:
        beside = {vector: label_evidence(table, task, vector, seed=seed) for vector in vectors}
        found[task.field] = {vector: one for vector, one in beside.items() if one is not None}
    return {field: beside for field, beside in found.items() if beside}


def beside_fields(
    table: VectorTable,
    split: Sequence[str] | None,
    fields: Sequence[str],
    vectors: Sequence[str],
    *,
    min_class_size: int = 2,
    seed: int = 0,
) -> dict[str, dict[str, LabelEvidence]]:
    """Return what stands beside figures that are of no ranking, by field and vector.

    `split` is "test" or "train" for each row; without it all are on both sides.
    """
    seen = [v for v in vectors if table.held_out is not None and v in table.held_out.fitted]
    side = None if split is None else np.array(split)
    masks = None if side is None else (side == "test", side == "train")
    how: Any = {"split": masks, "min_class_size": min_class_size, "seed": seed}
    tasks = (RetrievalTask.from_table(table, field, **how) for field in fields if seen)
    return beside_tasks(table, tasks, seen, seed=seed)


def seen_labels(table: VectorTable, vector: str) -> LabelEvidence | None:
    """Return that a vector's map has seen labels, where no label says what is relevant."""
    gone = table.held_out
    if gone is None or vector not in gone.fitted:
        return None
    return LabelEvidence(vector, gone.fitted[vector].labels.field, None, None, None)


def json_evidence(
    found: Mapping[str, Mapping[str, LabelEvidence]],
) -> dict[str, dict[str, dict[str, Any]]]:
    """Return JSON values of what stands beside figures, by field and vector."""
    return {
        field: {vector: one.to_dict() for vector, one in beside.items()}
        for field, beside in found.items()
    }


def _unseen(names: Sequence[str], vector: str, fitted: FittedVector) -> list[str]:
    """Return which classes a map does not know; warns of some, and refuses to judge by most."""
    found = [name for name in names if name not in fitted.labels.counts]
    if not found:
        return found
    shown = ", ".join(map(repr, found[:_MOST_NAMED])) + (", ..." if found[_MOST_NAMED:] else "")
    known = f"{len(found):,} of {len(names):,} classes of {fitted.labels.field!r} ({shown})"
    if len(found) > MOST_UNSEEN * len(names):
        raise InputError(
            f"{vector!r} has never seen {known}, and ranks such classes worse than the encoder's "
            f"own vector; fit a map to labels of all classes, or compare {fitted.source!r}"
        )
    log.warning("%r has never seen %s: such classes lose, and are reported apart", vector, known)
    return found


def _mean(ap: NDArray[np.float64]) -> float | None:
    return float(ap.mean()) if len(ap) else None


def _control(
    table: VectorTable, gone: HeldOut, task: RetrievalTask, fitted: FittedVector, seed: int
) -> tuple[float | None, float | None]:
    """Return mAP and chance of label axes that were fitted to, and are judged by, shuffled labels.

    One permutation of all rows, those for fitting and those that judge, takes both columns along.
    """
    columns = [
        [*gone.rows.payload.get(name, ()), *table.payload.get(name, ())]
        for name in (fitted.labels.field, task.field)
    ]
    n_fit = len(gone.rows)
    if fitted.source not in table.vectors or any(
        len(column) != n_fit + len(table) for column in columns
    ):
        return None, None
    order = np.random.default_rng(seed).permutation(n_fit + len(table))
    of_fit, judged = ([column[row] for row in order] for column in columns)
    try:
        axes = _label_axes(gone.rows, fitted.source, of_fit[:n_fit], table.unit(fitted.source))
        return _scored(table, task, axes, judged[n_fit:], seed)
    except InputError:  # too few labelled rows for a map of their own
        return None, None


def _label_axes(rows: VectorTable, source: str, labels: Sequence[Any], X: Floats) -> Floats:
    """Return `X` (n, d) along the label axes that are fitted to rows with these labels."""
    from intramodal.projection.label_map import LabelMap

    codes = encode_labels(labels)
    fitted = LabelMap(label_weight=1.0).fit(rows.vectors[source][codes.rows], codes.codes)
    return unit_rows(fitted.transform(X))


def _scored(
    table: VectorTable, task: RetrievalTask, Z: Floats, labels: Sequence[Any], seed: int
) -> tuple[float, float]:
    """Return mAP and chance of vectors `Z` (n, k) of a table whose rows have other labels."""
    shuffled = VectorTable(table.ids, {"control": Z}, {task.field: list(labels)})
    split = None
    if task.protocol != "leave-one-out":
        every = np.arange(len(table))
        split = np.isin(every, task.query_rows), np.isin(every, task.gallery_rows)
    how: Any = {"max_queries": _CONTROL_QUERIES, "seed": seed}
    other = RetrievalTask.from_table(shuffled, task.field, split=split, **how)
    found = rank(*other.vectors(shuffled, "control"), other.relevance, ks=())
    n_others = len(other.gallery_rows) - (other.query_at >= 0)
    return float(found.ap.mean()), float(expected_ap(found.n_relevant, n_others).mean())


def expected_ap(n_relevant: NDArray[Any], n_gallery: NDArray[Any]) -> NDArray[np.float64]:
    """Return the average precision that a random order of the gallery gives in the mean.

    Examples
    --------
    >>> expected_ap(np.array([1]), np.array([2]))  # first or second place
    array([0.75])
    """
    harmonic = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, np.max(n_gallery) + 1))])
    n, first = n_gallery, harmonic[n_gallery]
    rest = np.where(n > 1, (n_relevant - 1) / np.maximum(n - 1, 1), 0.0)
    return np.asarray((first + rest * (n - first)) / n)


def _accuracy(table: VectorTable, gone: HeldOut, task: RetrievalTask, vector: str) -> float | None:
    """Return the share of queries that are nearest to the mean of their class's labelled images.

    Queries of classes that no row for fitting has are left out.
    """
    if vector not in gone.rows.vectors or task.field not in gone.rows.payload:
        return None
    codes = labels_of(gone.rows, task.field)
    X = gone.rows.unit(vector, codes.rows)
    names = np.array(codes.names)
    means = unit_rows(np.stack([X[codes.codes == c].mean(axis=0) for c in range(len(names))]))
    truth = np.array(task.query_labels(), dtype=str)
    is_known = np.isin(truth, names)
    if not is_known.any():
        return None
    scores = table.unit(vector, task.query_rows[is_known]) @ means.T
    return float(np.mean(names[scores.argmax(axis=1)] == truth[is_known]))
