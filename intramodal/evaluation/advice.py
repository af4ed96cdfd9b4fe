"""Which map for which field: tried among labelled rows that never judge the map afterwards.

The rows are some of those for fitting. Every candidate is fitted to four fifths of them and judged
on the others, so that what chooses a map is neither what it was fitted on nor what judges it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from dataclasses import field as dataclass_field
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intramodal.errors import InputError
from intramodal.evaluation.candidates import (
    N_FOLDS,
    POSTERIOR,
    RAW,
    evidence_of,
    folds_of,
    judged,
    makers_of,
    thinned,
)
from intramodal.evaluation.intervals import DIFFERENCE, Effect, resampled_t
from intramodal.evaluation.label_evidence import LabelEvidence
from intramodal.evaluation.labelled_rows import FIT_SHARE, MOST_READ, FitTable
from intramodal.evaluation.results import Results, log_source
from intramodal.evaluation.tasks import Points
from intramodal.fit_rows import FEW_ROWS, FitRows
from intramodal.progress import tracked
from intramodal.projection.fit import LabelledRows
from intramodal.projection.projection import Projection
from intramodal.runs.frames import data_frame, html_table, json_values
from intramodal.runs.run import Run
from intramodal.store.collection import ImageCollection
from intramodal.store.default_vectors import own_vector
from intramodal.types import Encoder, Floats, VectorTable, first_lines

BUDGET = 200
"""Labelled rows that choose a map."""
MOST_BUDGET = 5_000
LEAST_ROWS = 25
"""Labelled rows: with fewer the fifth that judges is all but empty."""
_MOST_NAMED = 3


@dataclass(frozen=True)
class Candidate:
    """What one map gives on labelled rows that it was not fitted on.

    Parameters
    ----------
    name : str
    dims : int
        Numbers of a stored vector.
    map : float
        Mean average precision among the images held out.
    precision : float
        Share of these whose nearest image is of their class. It stands for the first page: ten of
        forty images are no first page, and would show a gain that a collection does not have.
    gain, first_gain : Effect or None
        Of either over the encoder's own vector; None of that itself.
    """

    name: str
    dims: int
    map: float
    precision: float
    gain: Effect | None = None
    first_gain: Effect | None = None

    @property
    def bytes(self) -> int:
        """Bytes of a stored float32 vector."""
        return 4 * self.dims

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "map": self.map,
            "gain": self.gain and self.gain.delta,
            "interval": self.gain and list(self.gain.interval),
            "precision@1": self.precision,
            "first_page_gain": self.first_gain and self.first_gain.delta,
            "first_page_interval": self.first_gain and list(self.first_gain.interval),
            "dims": self.dims,
            "bytes_per_point": self.bytes,
        }


@dataclass(frozen=True, eq=False, repr=False)
class FieldAdvice:
    """Which map to take for one field, and what each gives.

    Parameters
    ----------
    field : str
    candidates : list of Candidate
        The encoder's own vector first.
    not_offered : dict of str to str
        Maps that cannot be chosen, and why.
    n_rows : int
        Labelled rows that were used.
    counts : dict of str to int
        All labelled rows for fitting, by class.
    n_judging : int
        Images that judge a map at a time.
    label_evidence : dict of str to LabelEvidence
        What stands beside figures of candidates that see labels, the mean over five folds.
    """

    field: str
    candidates: list[Candidate]
    not_offered: Mapping[str, str]
    n_rows: int
    counts: Mapping[str, int]
    n_judging: int
    label_evidence: Mapping[str, LabelEvidence] = dataclass_field(default_factory=dict)

    @property
    def choice(self) -> Candidate:
        """The candidate of the largest mAP among those that can be chosen; the first of equals."""
        offered = [one for one in self.candidates if one.name not in self.not_offered]
        return max(offered, key=lambda one: one.map)

    @property
    def n_labelled(self) -> int:
        """Number of labelled rows for fitting."""
        return sum(self.counts.values())

    @property
    def few(self) -> list[str]:
        """Classes of fewer than ten labelled rows for fitting: posterior codes punish them."""
        return [name for name, n in self.counts.items() if n < FEW_ROWS]

    @property
    def sentence(self) -> str:
        """What to do, what it gains, and what to look out for."""
        best = self.choice
        if best.gain is None or best.first_gain is None:
            return f"Keep {RAW} for {self.field}: no other map gains among {self._judging}."
        low, _ = best.gain.interval
        gain = f"mAP {_points(best.gain)} among {self._judging}"
        if low > 0:
            said = [f"Use {best.name} for {self.field}: {gain}"]
        else:
            said = [f"Perhaps {best.name} for {self.field}: {gain}, so it may gain nothing"]
        if best.first_gain.interval[1] < 0:
            said.append(f"the first page loses: precision@1 {_points(best.first_gain)}")
        elif best.first_gain.delta < 0:
            said.append(f"the first page may lose: precision@1 {_points(best.first_gain)}")
        if best.name == POSTERIOR and self.few:
            few = ", ".join(self.few[:_MOST_NAMED]) + (", ..." if self.few[_MOST_NAMED:] else "")
            said.append(f"classes of fewer than {FEW_ROWS} labels lose ({few})")
        return f"{'; '.join(said)}."

    @property
    def _judging(self) -> str:
        return f"{self.n_judging:,} labelled images that it was not fitted on"

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "choice": self.choice.name,
            "sentence": self.sentence,
            "n_rows": self.n_rows,
            "n_labelled": self.n_labelled,
            "n_judging": self.n_judging,
            "classes": dict(self.counts),
            "few": self.few,
            "candidates": {one.name: one.to_dict() for one in self.candidates},
            "label_evidence": {n: one.to_dict() for n, one in self.label_evidence.items()},
            "not_offered": dict(self.not_offered),
        }

    def __repr__(self) -> str:
        """Return field, choice and its gain."""
        best = self.choice
        gain = "" if best.gain is None else f", mAP {_points(best.gain)}"
        beside = self.label_evidence.get(best.name)
        told = "" if beside is None else f"; {beside.sentence}"
        return f"FieldAdvice({self.field!r}: {best.name}{gain}{told})"


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Advice(Results):
    """Which map to take for each of several fields; ``advice[field]`` is one `FieldAdvice`.

    Parameters
    ----------
    fields : dict of str to FieldAdvice
    vector : str
        The encoder's own vector, which all maps take.
    rows : FitRows
        Which points are for fitting: none of the others has chosen anything.
    budget, seed : int
    """

    fields: Mapping[str, FieldAdvice]
    vector: str
    rows: FitRows
    budget: int
    seed: int

    def __getitem__(self, field: str) -> FieldAdvice:
        """Return the advice for one field."""
        return self.fields[field]

    def __iter__(self) -> Iterator[FieldAdvice]:
        """Iterate over the fields' advice."""
        return iter(self.fields.values())

    def to_dict(self) -> dict[str, Any]:
        """Return what ``--json`` prints."""
        found: dict[str, Any] = json_values(
            {
                **asdict(self.points),
                "vector": self.vector,
                "fit_rows": str(self.rows),
                "budget": self.budget,
                "seed": self.seed,
                "fields": {name: one.to_dict() for name, one in self.fields.items()},
                "run_id": self.run_id,
            }
        )
        return found

    def to_frame(self) -> Any:
        """Return a pandas data frame, one row a field and candidate; needs ``notebook``."""
        return data_frame(self._rows())

    def record(self, run: Run) -> None:
        """Record what each candidate gives, by field."""
        for one in self:
            for each in one.candidates:
                about: Any = {"vector": each.name, "field": one.field, "n": one.n_rows}
                run.log_metric("mAP", each.map, **about)
                run.log_metric("precision@1", each.precision, **about)
                if each.name in one.label_evidence:
                    one.label_evidence[each.name].log(run, field=one.field, n=one.n_rows)
                if each.gain is not None:
                    ends = each.gain.interval
                    run.log_metric("gain in mAP", each.gain.delta, interval=ends, **about)

    def _rows(self) -> list[dict[str, Any]]:
        return [
            {"field": one.field, "map_of": name, "is_choice": name == one.choice.name} | figures
            for one in self
            for name, figures in one.to_dict()["candidates"].items()
        ]

    def _repr_html_(self) -> str:
        rows = self._rows()
        told = (
            f"<p>{escape(f'{one.field}: {beside.sentence}')}</p>"
            for one in self
            for beside in one.label_evidence.values()
        )
        return "".join([html_table(list(rows[0]), [list(row.values()) for row in rows]), *told])

    def __repr__(self) -> str:
        """Return the choice for each field, one a line."""
        return first_lines(map(repr, self))


def advise(  # noqa: PLR0913  a job has as many knobs as it has
    source: ImageCollection | VectorTable,
    *,
    fields: Sequence[str],
    rows: FitRows = FitRows(share=FIT_SHARE),
    budget: int = BUDGET,
    text: Projection | Floats | None = None,
    encoder: Encoder | None = None,
    vector: str | None = None,
    sample: int | None = MOST_READ,
    seed: int = 0,
    run: Run | None = None,
) -> Advice:
    """Return which map to take for which field, by a few labelled rows.

    Each candidate is fitted to four fifths of these rows and judged by leave-one-out among the
    others, 20 times; near-copies stay on one side. The largest mAP is chosen.

    Parameters
    ----------
    source : ImageCollection or VectorTable
    fields : sequence of str
        Payload fields with one label an image.
    rows : FitRows
        Which points are for fitting, as for `labelled_rows`. No other point takes part, but for
        the mean of the images: what judges the map afterwards has not chosen it.
    budget : int
        Labelled rows that are used, drawn from those for fitting.
    text : Projection or ndarray of shape (n_texts, d), optional
        Whose directions, or which texts: those of centred PCA←, and the text axes of the others.
        Without it centred PCA← is not offered, and the images' own axes take their place.
    encoder : Encoder, optional
        The model of the vectors: with `text`, axes between the names of the fields' values are
        offered, too.
    vector : str, optional
        The encoder's own vector.
    sample : int, optional
        Of a collection with more points, so many are drawn and read.
    seed : int
        Of the rows that are used, and of the folds.
    run : Run, optional
        Records the results.

    Raises
    ------
    InputError
        If the vector is projected, a field holds several labels an image or fewer than 25 of the
        rows for fitting have a label, or the budget is below that.
    ManifestMismatchError
        If nobody has declared which model made the vector, or projection or encoder
        are another model's.
    """
    _check_budget(budget)
    run = run or Run()
    vector = own_vector(source, vector)
    read = FitTable.read(source, fields, rows=rows, vector=vector, sample=sample, seed=seed)
    if isinstance(text, Projection) and isinstance(source, VectorTable):
        read = replace(read, made_by=(text.encoder, text.encoder_fingerprint))
    found = Advice(
        points=Points.of(source, read.table, seed),
        run_id=run.id,
        fields={
            field: _advised(read.labelled(field), (text, encoder), budget, seed)
            for field in tracked(list(dict.fromkeys(fields)), "advise", unit="field", name=str)
        },
        vector=vector,
        rows=rows,
        budget=budget,
        seed=seed,
    )
    log_source(run, source, found.points)
    run.keep(found)
    return found


def _check_budget(budget: int) -> None:
    if not LEAST_ROWS <= budget <= MOST_BUDGET:
        raise InputError(
            f"the budget is a number of labelled rows from {LEAST_ROWS} to {MOST_BUDGET:,}, got "
            f"{budget:,}"
        )


def _advised(
    labelled: LabelledRows,
    texts: tuple[Projection | Floats | None, Encoder | None],
    budget: int,
    seed: int,
) -> FieldAdvice:
    """Return the advice for one field."""
    rng = np.random.default_rng(seed)
    n_labelled = len(labelled.X)
    if n_labelled < LEAST_ROWS:
        raise InputError(
            f"{n_labelled} rows for fitting ({labelled.rows}) have a label in {labelled.field!r}, "
            f"and {LEAST_ROWS} are needed to choose a map; label more, or give others for fitting"
        )
    drawn = np.sort(rng.permutation(n_labelled)[:budget])
    used = thinned(labelled.take(drawn))
    makers, not_offered = makers_of(used, *texts)
    folds = folds_of(used, rng)
    if len(folds) < N_FOLDS:
        raise InputError(
            f"{len(used.X)} labelled rows of {labelled.field!r} are too much alike, or of too few "
            f"classes, to judge a map by some of them; label others"
        )
    figures: dict[str, NDArray[np.float64]] = {}
    candidates = []
    for name, make in makers.items():
        try:
            figures[name] = np.array([judged(used, held, make) for held in folds])
            dims = make(used, used.X[:1]).shape[1]
        except InputError as error:  # a fold's classes show no spread, for example
            not_offered[name] = str(error)
            continue
        candidates.append(_candidate(name, dims, figures[name], figures[RAW]))
    return FieldAdvice(
        labelled.field,
        candidates,
        not_offered,
        len(used.X),
        labelled.labels.counts,
        len(used.X) // N_FOLDS,
        evidence_of(used, folds, {name: makers[name] for name in figures}, seed),
    )


def _candidate(
    name: str, dims: int, figures: NDArray[np.float64], base: NDArray[np.float64]
) -> Candidate:
    """Return a candidate by its figures (n_folds, 2) and those of the encoder's own vector."""
    mean_ap, precision = figures.mean(axis=0).tolist()
    if name == RAW:
        return Candidate(name, dims, mean_ap, precision)
    share = 1 / (N_FOLDS - 1)
    gains = [resampled_t(column, share).within(DIFFERENCE) for column in (figures - base).T]
    return Candidate(name, dims, mean_ap, precision, *gains)


def _points(effect: Effect) -> str:
    """Return a difference in points with its interval."""
    low, high = effect.interval
    return f"{100 * effect.delta:+.1f} points ({100 * low:+.1f} to {100 * high:+.1f})"
