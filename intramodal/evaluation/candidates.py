"""Maps that can be taken for a field, and what each gives on labelled rows it has not seen."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intramodal.evaluation.held_out import NEAR_COPY
from intramodal.evaluation.label_evidence import LabelEvidence, label_evidence
from intramodal.evaluation.ranking import rank
from intramodal.evaluation.tasks import RetrievalTask
from intramodal.fit_rows import FEW_ROWS
from intramodal.projection.anchors import AnchorSet
from intramodal.projection.classes import mean_of
from intramodal.projection.fit import (
    Images,
    LabelledRows,
    fit_label_map,
    fit_posterior,
    fit_words,
    text_projection,
)
from intramodal.projection.projection import CENTERED, Projection
from intramodal.types import (
    Encoder,
    FittedVector,
    Floats,
    HeldOut,
    PointId,
    VectorTable,
    unit_rows,
)

RAW, PCA_CENTRED = "raw", "pca_centered"
WORDS, LABEL, POSTERIOR = "words", "label", "posterior"

N_FOLDS, N_REPEATS = 5, 4
LEAST_KNOWN = 0.9
"""Share of the rows that are of classes with `FEW_ROWS` or more, for posterior codes."""
_MOST_OTHERS = 2_000
"""Unlabelled images whose mean is taken: of more, so many at equal distances."""

Maker = Callable[[LabelledRows, Floats], Floats]
"""Fits a map to labelled rows, and returns what it makes of vectors (n, d)."""
Mask = NDArray[np.bool_]


def makers_of(
    rows: LabelledRows, text: Projection | Floats | None, encoder: Encoder | None = None
) -> tuple[dict[str, Maker], dict[str, str]]:
    """Return the candidates for a field, and why others cannot be chosen.

    `encoder` embeds the names of the field's values.
    """
    dim_in = rows.X.shape[1]
    directions = None if text is None else text_projection(text, rows.made_by, dim_in)
    found: dict[str, Maker] = {RAW: _raw, CENTERED: _centred}
    missing: dict[str, str] = {}
    if directions is None or encoder is None:
        missing[WORDS] = "needs the model, which embeds the values' names, and a projection"
    else:
        found[WORDS] = _words(rows, directions, encoder)
    if directions is None:
        missing[PCA_CENTRED] = "needs the model's texts: a projection, or text embeddings"
    else:
        found[PCA_CENTRED] = lambda some, X: _pca_centred(some, X, directions)
    found[LABEL] = lambda some, X: unit_rows(fit_label_map(some, text=directions).apply(X))
    known = _known(rows)
    if known < LEAST_KNOWN:
        missing[POSTERIOR] = (
            f"{1 - known:.0%} of the labelled rows are of classes with fewer than {FEW_ROWS}; "
            f"codes punish those"
        )
    else:
        found[POSTERIOR] = lambda some, X: fit_posterior(some, text=directions, force=True).apply(
            X
        )
    return found, missing


def _words(rows: LabelledRows, directions: Projection, encoder: Encoder) -> Maker:
    """Return the maker of axes between the names of the values: it sees names, but no label."""
    values = AnchorSet(tuple(sorted(set(rows.y))))
    images = Images(_others(rows), rows.made_by)
    how: Any = {"values": values, "field": rows.field, "base": directions, "images": images}
    made = fit_words(encoder, **how)
    return lambda _, X: unit_rows(made.apply(X))


def _known(rows: LabelledRows) -> float:
    """Return the share of the rows whose class has enough labels for its codes."""
    counts = rows.labels.counts.values()
    return sum(n for n in counts if n >= FEW_ROWS) / len(rows.X)


def _raw(rows: LabelledRows, X: Floats) -> Floats:
    return unit_rows(X)


def _centred(rows: LabelledRows, X: Floats) -> Floats:
    return unit_rows((unit_rows(X) - mean_of(_others(rows))).astype(np.float32))


def _pca_centred(rows: LabelledRows, X: Floats, directions: Projection) -> Floats:
    """Return `X` as a centred projection makes it; one that is not is centred on the gallery."""
    if directions.offset is None:
        directions = replace(directions, offset=mean_of(_others(rows)).astype(np.float32))
    return unit_rows(directions.apply(X))


def _others(rows: LabelledRows) -> Floats:
    return rows.X if rows.gallery is None else rows.gallery


def thinned(rows: LabelledRows) -> LabelledRows:
    """Return labelled rows with fewer of the others, whose mean is taken again for every fit."""
    X = rows.gallery
    if X is None or len(X) <= _MOST_OTHERS:
        return rows
    kept = np.linspace(0, len(X) - 1, num=_MOST_OTHERS).astype(np.intp)
    return replace(rows, gallery=X[kept])


def folds_of(rows: LabelledRows, rng: np.random.Generator) -> list[Mask]:
    """Return which rows (n,) judge in each fold of each repetition; near-copies in the same.

    Folds are left out that cannot judge, or whose other rows cannot be fitted to: of one class.
    """
    units = _copies(rows.X)
    n_units = int(units.max()) + 1
    codes = np.unique(np.asarray(rows.y), return_inverse=True)[1]
    found = []
    for _ in range(N_REPEATS):
        drawn = rng.permutation(n_units) % N_FOLDS
        found += [drawn[units] == fold for fold in range(N_FOLDS)]
    return [held for held in found if _can_judge(codes[held]) and _is_varied(codes[~held])]


def _can_judge(codes: NDArray[np.int64]) -> bool:
    return _is_varied(codes) and bool(np.bincount(codes).max() > 1)


def _is_varied(codes: NDArray[np.int64]) -> bool:
    return len(np.unique(codes)) > 1


def _copies(X: Floats) -> NDArray[np.int64]:
    """Return the group of near-copies (n,) of each row, from 0."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    unit = unit_rows(X)
    groups: NDArray[np.int64] = connected_components(csr_array(unit @ unit.T > NEAR_COPY))[1]
    return groups


def judged(rows: LabelledRows, held: Mask, make: Maker) -> tuple[float, float]:
    """Return mAP and precision@1 among the rows that are held out, of a map fitted to the others.

    Queries without a row of their class among them are left out.
    """
    judging, fitted_to = rows.take(np.flatnonzero(held)), rows.take(np.flatnonzero(~held))
    Z = make(fitted_to, judging.X)
    table = VectorTable(list(range(len(Z))), {}, {rows.field: list(judging.y)})
    table = table.with_unit_vectors({"made": Z})
    task = RetrievalTask.from_table(table, rows.field, min_class_size=1)
    found: Any = rank(*task.vectors(table, "made"), task.relevance, ks=(1,))
    return float(found.ap.mean()), float(found.figures["precision@1"].mean())


def evidence_of(
    rows: LabelledRows, folds: Sequence[Mask], makers: Mapping[str, Maker], seed: int
) -> dict[str, LabelEvidence]:
    """Return what stands beside figures of candidates that see labels: over the first folds."""
    found: dict[str, list[LabelEvidence]] = {n: [] for n in (LABEL, POSTERIOR) if n in makers}
    for held in folds[:N_FOLDS] if found else ():
        table = _folded(rows, held, {name: makers[name] for name in found})
        task = RetrievalTask.from_table(table, rows.field, min_class_size=1)
        for name, parts in found.items():
            one = label_evidence(table, task, name, seed=seed)
            parts += [] if one is None else [one]
    return {name: _averaged(parts) for name, parts in found.items() if parts}


def _folded(rows: LabelledRows, held: Mask, makers: Mapping[str, Maker]) -> VectorTable:
    """Return the rows that are held out, as if the others had left a collection."""
    others = rows.take(np.flatnonzero(~held))
    made = {name: make(others, rows.X) for name, make in makers.items()}
    # All classes count as known: a fold lacks some that the map itself will have seen.
    fitted = {name: FittedVector(rows.labels, RAW) for name in makers}

    def part(mask: Mask, gone: HeldOut | None = None) -> VectorTable:
        y = {rows.field: [label for label, kept in zip(rows.y, mask, strict=True) if kept]}
        ids: list[PointId] = [*np.flatnonzero(mask).tolist()]
        table = VectorTable(ids, {RAW: np.asarray(rows.X[mask])}, y, held_out=gone)
        return table.with_unit_vectors({name: Z[mask] for name, Z in made.items()})

    n_fit = int((~held).sum())
    return part(held, HeldOut(fitted, part(~held), frozenset(), n_fit, 0, held))


def _averaged(parts: Sequence[LabelEvidence]) -> LabelEvidence:
    """Return the mean over folds."""

    def mean(values: Iterable[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return float(np.mean(known)) if known else None

    return replace(
        parts[0],
        control=mean(one.control for one in parts),
        chance=mean(one.chance for one in parts),
        accuracy=mean(one.accuracy for one in parts),
    )
