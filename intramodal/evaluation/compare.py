"""Should vector B replace vector A? Paired evidence per label field, and a verdict."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from operator import itemgetter
from typing import Any

import numpy as np

from intramodal.errors import InputError
from intramodal.evaluation.cost import index_recall, vector_costs
from intramodal.evaluation.decision import Decision
from intramodal.evaluation.distances import other_distances
from intramodal.evaluation.duplicates import THRESHOLD, check_threshold
from intramodal.evaluation.held_out import fitted_by, gone_from
from intramodal.evaluation.intervals import holm
from intramodal.evaluation.labels import labels_of, share_label
from intramodal.evaluation.mapped_queries import (
    check_query_side,
    distances_by_side,
    fitted_sides,
    log_query_side,
    with_mapped_queries,
)
from intramodal.evaluation.misalignment import MisalignmentResult, misalignment_of
from intramodal.evaluation.next_maps import NEEDS, Made, next_maps
from intramodal.evaluation.pieces import (
    NO_FEWSHOT,
    PIECES_OF,
    TASKS,
    FieldEvidence,
    Knobs,
    caveats,
    gathered,
    speaks_of,
)
from intramodal.evaluation.precision_recall import PrecisionRecall, precision_recall
from intramodal.evaluation.ranking import PAGE_FIGURES
from intramodal.evaluation.resampling import NO_INTERVAL, Resampling
from intramodal.evaluation.results import Results, log_source
from intramodal.evaluation.retrieval import maps_by_distance, note_of
from intramodal.evaluation.sweep import DimensionSweep, sweeps
from intramodal.evaluation.tasks import Mask, Points, RetrievalTask, Sides, read_labelled
from intramodal.evaluation.texts import ReadyTexts
from intramodal.evaluation.verdict import (
    GUARD,
    MARGIN,
    NAMES,
    PIECES,
    Judgement,
    Outcome,
    Piece,
    Wording,
    brief,
    headline,
    judge,
)
from intramodal.plots import COLORS, PAINTS, Plot, delta_plot
from intramodal.progress import tracked
from intramodal.projection.controls import apply_controls
from intramodal.projection.projection import Projection
from intramodal.projection.stored_map import StoredMap
from intramodal.runs.frames import data_frame, html_table
from intramodal.runs.run import Run
from intramodal.runs.scores import MEDIA_TYPE, SCORES, pack_scores
from intramodal.store.base import Filter, Hits
from intramodal.store.collection import ImageCollection
from intramodal.store.default_vectors import own_vector, vector_pair
from intramodal.store.manifest import VectorOrigin
from intramodal.store.model_check import ModelCheck, warn_of_wrong_model
from intramodal.store.origins import check_is, check_may_take
from intramodal.store.query_side import QuerySide
from intramodal.types import FittedVector, Floats, PointId, VectorTable, first_lines, unit_rows


@dataclass(frozen=True)
class Neighbour:
    """One answer: its id, its score, and whether it shares the query's label."""

    id: PointId
    score: float
    is_relevant: bool


@dataclass(frozen=True, eq=False)
class Context:
    """What a comparison rests on, and what its report is computed from.

    `table` holds both vectors and the label fields of the points that take part, and remembers
    classes, tasks and unit rows; `knobs` say how each field was compared, with the two sides that
    `sides` chose. `projection` is what B was made with, `texts` (n, d) are in the space of A;
    `where` is the filter that all of the points match.
    """

    source: ImageCollection | VectorTable
    table: VectorTable
    projection: StoredMap | None
    knobs: Knobs
    where: Filter | None = None
    sides: Sides | None = None
    texts: Floats | None = None

    @property
    def side(self) -> QuerySide | None:
        """B, where it is no stored vector."""
        return self.knobs.side

    @property
    def fitted(self) -> StoredMap | None:
        """What B goes through, stored or not."""
        return self.side.projection if self.side else self.projection


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Comparison(Results):
    """Two vectors compared by several label fields.

    Parameters
    ----------
    vectors : (str, str)
        A, in use, and B, which may replace it.
    margin : float
        Largest harmless loss, a fraction.
    fields : dict of str to FieldEvidence
    context : Context
    """

    vectors: tuple[str, str]
    margin: float
    fields: Mapping[str, FieldEvidence]
    context: Context

    @property
    def dims(self) -> tuple[int, int]:
        """Lengths of both vectors."""
        a, b = (self.context.table.vectors[name].shape[1] for name in self.vectors)
        return a, b

    @property
    def max_queries(self) -> int | None:
        """How many queries were drawn, at most; None if all asked."""
        return self.context.knobs.max_queries

    @cached_property
    def p_adjusted(self) -> dict[str, float]:
        """p-values of the differences in mAP, adjusted for the number of fields."""
        asked = {name: row.effect for name, row in self.fields.items() if row.effect}
        return dict(zip(asked, holm([effect.p_value for effect in asked.values()]), strict=True))

    @cached_property
    def judgements(self) -> dict[str, Judgement]:
        """What the pieces of each field come to, all fields named together."""
        return self._judged(PIECES)

    @cached_property
    def by_task(self) -> dict[str, dict[str, Judgement]]:
        """The same by the evidence of one task alone, by task and field."""
        return {task: self._judged(pieces) for task, pieces in PIECES_OF.items()}

    def _judged(self, names: Sequence[str]) -> dict[str, Judgement]:
        pieces = {
            name: [piece for piece in row.pieces if piece.name in names]
            for name, row in self.fields.items()
        }
        missing = {
            name: [piece for piece in row.missing if piece in names]
            for name, row in self.fields.items()
        }
        return judge(pieces, margin=self.margin, missing=missing)

    @cached_property
    def decision(self) -> Decision:
        """Which vector for which searches, over all fields."""
        needs = {name: self._needs(name) for name in self.fields}
        return Decision(
            vectors=self.vectors,
            outcomes={name: found.outcome for name, found in self.judgements.items()},
            needs={name: words for name, words in needs.items() if words},
            dims=self.dims,
            collection=self.points.collection,
            side=self.context.side,
            next_maps={name: self.next_maps(name) for name in self.fields},
        )

    def _needs(self, field: str) -> str | None:
        """Return what would settle all pieces of a field, in words; None if nothing would."""
        row, judgement = self.fields[field], self.judgements[field]
        unsettled = judgement.lost[:1] or judgement.open or judgement.judged
        needed = [self._units_needed(row, piece) for piece in unsettled]
        if not needed or None in needed:
            return None
        return f"about {max(filter(None, needed)):,} {row.population.unit} would tell"

    def next_maps(self, field: str) -> list[str]:
        """Return the maps to try next for a field that B does not serve, none tried already."""
        made: dict[str, Made] = {v: self.origins[v] for v in self.vectors if v in self.origins}
        if self.context.fitted is not None:
            made[self.vectors[1]] = self.context.fitted
        return next_maps(field, self.judgements[field].outcome, list(made.items()))

    def verdicts(self, field: str) -> tuple[Outcome, Outcome, Outcome]:
        """Return the outcomes of retrieval alone, of few-shot alone, and of all pieces."""
        retrieval, fewshot = (self.by_task[task][field].outcome for task in TASKS)
        return retrieval, fewshot, self.judgements[field].outcome

    def sentence(self, field: str) -> str:
        """Return what to do, the piece that decides, and whom it speaks of."""
        row, judgement = self.fields[field], self.judgements[field]
        share = self.dims[1] / self.dims[0]
        wording = Wording(self.vectors[1], share, lambda piece: self._needed(row, piece))
        said = [headline(judgement, wording), *self._caveats(row, judgement), speaks_of(row)]
        if self.points.where:
            said.append(f"Only points with {self.points.where} take part.")
        drawn = self.points.sample
        if drawn:
            about = "about " if drawn.get("is_estimate") else ""
            among = f"{drawn['n_points']:,} of {about}{drawn['of']:,} points"
            said.append(f"Measured among {among}, drawn at random.")
        return " ".join(said)

    def _caveats(self, row: FieldEvidence, judgement: Judgement) -> list[str]:
        """Return what a reader has to know beside the deciding piece."""
        found = []
        if judgement.missing:
            found.append(f"{NO_FEWSHOT}; the task retrieval judges without it.")
        if judgement.alone:
            alone, n = judgement.alone.outcome.replace("_", " "), len(self.fields)
            found.append(f"Named alone it would be {alone}; among {n} fields that is not certain.")
        beside = [r.label_evidence for r in row.results if r.label_evidence]
        return [*found, *(f"{one.sentence}." for one in beside), *caveats(row)]

    def _needed(self, row: FieldEvidence, piece: Piece) -> str:
        """Return how much evidence would settle a piece, in words."""
        needed = self._units_needed(row, piece)
        if needed is None:
            return f", and no number of {row.population.unit} would tell"
        return f", about {needed:,} {row.population.unit} would tell"

    def _units_needed(self, row: FieldEvidence, piece: Piece) -> int | None:
        needed = piece.units_needed(n_tests=len(row.pieces) * len(self.fields))
        if needed is None or row.population.name != "images":
            return needed
        # Of pictures some only answer, and copies are one unit: what can be asked for is queries.
        return int(np.ceil(len(row.differences) * needed / piece.effect.n_units))

    def details(self) -> dict[str, dict[str, Any]]:
        """Return, per field, all classes and the queries that gain and lose most."""
        return {
            name: {
                "classes": row.classes(),
                "queries_gain": row.changed(+1),
                "queries_lose": row.changed(-1),
            }
            for name, row in self.fields.items()
        }

    def most_changed(self, sign: int) -> dict[str, Any] | None:
        """Return the query of all fields that gains (+1) or loses (-1) most, with its field."""
        first = [
            {"field": name, **query}
            for name, row in self.fields.items()
            for query in row.changed(sign)[:1]
        ]
        return max(first, key=lambda query: sign * query["delta"], default=None)

    def to_dict(self) -> dict[str, Any]:
        """Return what ``intramodal compare --json`` prints."""
        check = self.model_check
        return {
            "collection": self.points.collection,
            "vectors": list(self.vectors),
            "decision": self.decision.to_dict(),
            "asked": self._asked(),
            "max_queries": self.max_queries,
            "fields": {name: self._field(name) for name in self.fields},
            "distance_note": note_of(r for row in self.fields.values() for r in row.results),
            "cost": self.cost,
            "index": self.index_recall,
            "model_check": check and check.to_dict(),
            "sample": self.points.sample,
            "where": self.points.where,
            "labels_from": self.points.labels_from,
            "held_out": self.points.held_out,
            "run_id": self.run_id,
        }

    def record(self, run: Run) -> None:
        """Write the query side, the figures and the scores of every query to a run."""
        log_query_side(run, self.context.side)
        for name, row in self.fields.items():
            _log_field(run, name, row)
        results = [result for row in self.fields.values() for result in row.results]
        run.save_artefact(SCORES, pack_scores([each.scores() for each in results]), MEDIA_TYPE)

    @cached_property
    def cost(self) -> dict[str, Any] | None:
        """What the vectors cost in the store; None for a table."""
        source = self.context.source
        if isinstance(source, VectorTable):
            return None
        about = self.context
        tasks = {field: self._stored_task(field) for field in self.fields}
        return vector_costs(
            source,
            about.table,
            (self.vectors[0], about.side or self.vectors[1]),
            tasks,
            sides=about.sides,
            split=about.knobs.split,
            where=about.where,
        )

    @cached_property
    def index_recall(self) -> dict[str, Any] | None:
        """What the index loses of projected queries; None for stored vectors, and for a table."""
        source, about = self.context.source, self.context
        if about.side is None or isinstance(source, VectorTable):
            return None
        # The index knows all points: recall among a sample of them would say nothing.
        if self.points.sample:
            return None
        how: Any = {"sides": about.sides, "split": about.knobs.split, "where": about.where}
        return index_recall(source, about.table, about.side, **how)

    def _stored_task(self, field: str) -> RetrievalTask | None:
        """Return the task of all queries of a field; None if the store searches other points."""
        about, knobs = self.context, self.context.knobs
        # Of a sample, and of a gallery given as a mask, the store knows nothing.
        if self.points.sample or (about.sides and isinstance(about.sides.gallery, np.ndarray)):
            return None
        at_least = knobs.min_class_size
        return RetrievalTask.of_all(about.table, field, split=knobs.split, min_class_size=at_least)

    @cached_property
    def model_check(self) -> ModelCheck | None:
        """Whether A is of the projection's model, as far as two means tell; warns if not."""
        source, projection = self.context.source, self.context.fitted
        if projection is None or isinstance(source, VectorTable):
            return None
        return warn_of_wrong_model(source, projection, self.vectors[0])

    @property
    def origins(self) -> Mapping[str, VectorOrigin]:
        """Who made the vectors, as far as the collection says."""
        source = self.context.source
        return {} if isinstance(source, VectorTable) else source.manifest.vectors

    def nearest(self, field: str, query: PointId, *, k: int) -> dict[str, list[Neighbour]]:
        """Return the k nearest images of a query in the store, by vector; none for a table.

        Rows that a map was fitted on are not among them: they are no evidence.
        They are as many and as exact as the store allows.
        """
        source, table = self.context.source, self.context.table
        if isinstance(source, VectorTable):
            return {}
        label = dict(zip(table.ids, table.payload[field], strict=True))
        found = {}
        for vector in self.vectors:
            hits = self._shown(source, query, vector, k)
            found[vector] = [
                Neighbour(hit, float(score), share_label(label.get(query), label.get(hit)))
                for hit, score in zip(hits.ids[0], hits.scores[0], strict=True)
            ]
        return found

    def _shown(self, source: ImageCollection, query: PointId, vector: str, k: int) -> Hits:
        """Return the neighbours of a point by a vector, stored or not."""
        side, where = self.context.side, self.context.where
        without = gone_from(self.context.table)
        if side is None or vector != side.name:
            how: Any = {"where": where, "without": without}
            return source.shown_neighbours(query, using=vector, k=k, **how)
        return source.shown(
            lambda k, exact: side.neighbours(source, [query], k=k, exact=exact, where=where),
            k,
            without=without,
        )

    def histograms(self) -> list[MisalignmentResult]:
        """Return same- and other-class cosines of both vectors for every field.

        Of a query side there are none: its scores are no cosines between images. Images against
        texts come with the first field only: they do not depend on the labels. Where queries are
        drawn, pairs are, too.
        """
        fields = list(self.fields)
        max_pairs = self.max_queries and PAIRS_PER_QUERY * self.max_queries
        vectors = self.vectors[:1] if self.context.side else self.vectors
        pairs = [(field, vector) for field in fields for vector in vectors]
        return [
            misalignment_of(
                self.context.table,
                vector=vector,
                field=field,
                texts=self._texts(vector) if field == fields[0] else None,
                max_pairs=max_pairs,
                population=self.fields[field].population,
            )
            for field, vector in tracked(
                pairs, "histograms", unit="field", name=itemgetter(0), part=itemgetter(1)
            )
        ]

    def curves(self) -> list[PrecisionRecall]:
        """Return the precision-recall curves of both vectors for every field."""
        rows = list(self.fields.items())
        return [
            precision_recall(
                self.context.table, row.task, vectors=self.vectors, population=row.population
            )
            for _, row in tracked(
                rows, "precision-recall curves", unit="field", name=itemgetter(0)
            )
        ]

    def sweeps(self) -> list[DimensionSweep]:
        """Return mAP by number of kept dimensions for every field; none without the projection."""
        rows = self.fields.values()
        return sweeps(
            self.context.table,
            self.vectors,
            [row.task for row in rows],
            self.context.projection,
            maps=[(row.results[0].map, row.results[1].map) for row in rows],
            texts=self.context.texts,
            margin=self.margin,
        )

    def with_texts(self, texts: ReadyTexts | Floats) -> Comparison:
        """Return the comparison with text embeddings (n_texts, d) in the space of A.

        Raises `InputError` for texts of another length.
        """
        ready = texts if isinstance(texts, ReadyTexts) else ReadyTexts(texts)
        n_dims, dim = ready.rows.shape[1], self.dims[0]
        if n_dims != dim:
            raise InputError(
                f"{ready.name} holds texts of {n_dims} dimensions, but {self.vectors[0]!r} has "
                f"{dim}; embed them with the model of that vector"
            )
        return replace(self, context=replace(self.context, texts=ready.rows))

    def _texts(self, vector: str) -> Floats | None:
        """Return the texts in the space of a vector; None where they cannot be brought there."""
        texts, projection = self.context.texts, self.context.projection
        if texts is None or vector == self.vectors[0]:
            return texts
        # A map that has seen labels of images says nothing of texts.
        return None if projection is None or projection.labels else projection.apply(texts)

    def to_frame(self) -> Any:
        """Return a pandas data frame, one row a field and query; needs the extra ``notebook``."""
        a, b = self.vectors
        columns: dict[str, list[Any]] = {key: [] for key in ("field", "query", "label", a, b)}
        for name, row in self.fields.items():
            first, second = row.results
            columns["field"] += [name] * len(first.query_ids)
            columns["query"] += first.query_ids
            columns["label"] += first.labels
            columns[a] += first.ap.tolist()
            columns[b] += second.ap.tolist()
        return data_frame(columns)

    def _repr_html_(self) -> str:
        a, b = self.vectors
        rows = [
            (name, *(result.map for result in row.results), self.sentence(name))
            for name, row in self.fields.items()
        ]
        return html_table(["field", f"mAP {a}", f"mAP {b}", "verdict"], rows)

    def plot(self) -> Plot:
        """Return the differences with their 95% intervals, coloured by the verdict."""
        rows = [
            (f"{name}: {NAMES[piece.name]}", _shown_effect(piece), PAINTS[COLORS[found.outcome]])
            for name, found in self.judgements.items()
            for piece in self.fields[name].pieces
        ]
        return Plot.of([delta_plot(rows, *self.vectors, "differences by field")])

    def __repr__(self) -> str:
        """Return both vectors and the outcome of each field, one per line."""
        a, b = self.vectors
        head = f"Comparison({a!r} against {b!r}, {self.points.n_points:,} points)"
        lines = []
        for name, found in self.judgements.items():
            maps = " to ".join(f"{result.map:.3f}" for result in self.fields[name].results)
            lines.append(f"  {name}: {found.outcome}, mAP {maps}")
        return f"{head}\n{first_lines(lines)}"

    def _asked(self) -> dict[str, Any]:
        """Return what the outcomes hang on beside vectors, fields and points."""
        row, sides = next(iter(self.fields.values())), self.context.sides
        return {
            "tasks": list(row.tasks),
            "sides": sides and sides.spelled,
            "margin": self.margin,
            "guard": row.guard,
        }

    def _field(self, name: str) -> dict[str, Any]:
        row = self.fields[name]
        effect, judgement = row.effect, self.judgements[name]
        retrieval, fewshot, verdict = self.verdicts(name)
        return {
            "map": {result.vector: result.map for result in row.results},
            "map_by_distance": maps_by_distance(row.results),
            "label_evidence": {v: one.to_dict() for v, one in row.label_evidence.items()} or None,
            "delta": effect.delta if effect else None,
            "interval": list(effect.interval) if effect else None,
            "population": row.population.name,
            "p_value": effect.p_value if effect else None,
            "p_adjusted": self.p_adjusted.get(name),
            "n_queries": len(row.differences),
            "n_classes": row.n_classes,
            "effective_classes": row.effective_classes,
            **row.counts(),
            "verdict_retrieval": retrieval,
            "fewshot": row.fewshot and row.fewshot.by_shots(),
            "verdict_fewshot": fewshot,
            "verdict": verdict,
            "brief": brief(judgement, *self.vectors),
            "sentence": self.sentence(name),
            "p_better": judgement.p_better,
            "p_not_worse": judgement.p_not_worse,
            "p_worse": judgement.p_worse,
            "pieces": self._pieces(name),
            "first_page": {
                figure: row.ranked[figure].difference.to_dict()
                for figure in PAGE_FIGURES
                if row.ranked
            },
            "duplicates": row.duplicates.to_dict(),
            "others": [other.to_dict() for other in row.others],
            "next_maps": [{"map": one, "needs": NEEDS[one]} for one in self.next_maps(name)],
        }

    def _pieces(self, field: str) -> dict[str, dict[str, Any] | None]:
        """Return what each piece says; None for one that was not asked for, or cannot be had."""
        row, judgement = self.fields[field], self.judgements[field]
        found: dict[str, dict[str, Any] | None] = dict.fromkeys(PIECES)
        for piece in row.pieces:
            beside = piece.paired.by_query
            found[piece.name] = {
                **piece.difference.to_dict(),
                "p_value": piece.effect.p_at(0.0),
                "p_adjusted": judgement.p_adjusted(piece),
                "guard": piece.guard,
                "p_guarded": piece.p_guarded,
                "certain_loss": piece.is_certain_loss(self.margin),
                "may_lose": piece.may_lose,
                "too_easy": piece.is_too_easy(self.margin),
                "needs": None if judgement.is_settled(piece) else self._units_needed(row, piece),
                "needs_unit": row.population.unit,
                "by_query": beside and beside.to_dict(),
                **(row.fewshot.to_dict() if row.fewshot and piece.name == "fewshot" else {}),
            }
        return found


ALL_ASK = 20_000
"""Images up to which all of them ask."""
DRAWN_QUERIES = 5_000
"""Queries that are drawn of more: they settle an unchanged piece to a fraction of its guard."""
PAIRS_PER_QUERY = 100
"""Where queries are drawn, so many pairs for each are drawn for the histograms."""
MOST_MISSING = 0.5
"""A field that more points lack says too little about the collection."""


def compare(  # noqa: PLR0913  a job has as many knobs as it has
    source: VectorTable | ImageCollection,
    a: str | None = None,
    b: str | None = None,
    *,
    fields: Sequence[str],
    tasks: Sequence[str] = TASKS,
    sides: Sides | str | tuple[Mask, Mask] | None = None,
    margin: float = MARGIN,
    guard: float = GUARD,
    duplicates: float | None = THRESHOLD,
    min_class_size: int = 2,
    controls: bool = True,
    beside: Sequence[StoredMap] = (),
    projection: StoredMap | None = None,
    query_side: Projection | None = None,
    rerank: int | None = None,
    texts: ReadyTexts | Floats | None = None,
    where: Filter | None = None,
    sample: int | None = None,
    max_queries: int | None = None,
    all_queries: bool = False,
    resampling: Resampling = Resampling(),
    seed: int = 0,
    run: Run | None = None,
) -> Comparison:
    """Compare two vectors of the same points, per label field.

    Parameters
    ----------
    source : ImageCollection or VectorTable
    a, b : str, optional
        The vector in use and the one that may replace it; by default the encoder's own and its
        projection, as the collection's manifest says. With a query side `b` is that.
    fields : sequence of str
        Payload fields; p-values are adjusted for their number (Holm).
    tasks : sequence of {"retrieval", "fewshot"}
        Evidence to gather; with a query side retrieval alone.
    sides : Sides, str or pair of ndarray of shape (n,), bool, optional
        Queries and gallery, and for few-shot accuracy test images and shots; as for
        `evaluate_retrieval`. By default every image asks all others.
    margin : float
        A certain loss up to this, a fraction, is harmless.
    guard : float
        A loss beyond this, a fraction, must be excluded before a vector is adopted; of the mAP
        beyond half of it.
    duplicates : float, optional
        Images whose cosine by `a`, after their mean is subtracted, is above this are near-copies,
        taken as one; None takes each image by itself.
    min_class_size : int
        Classes with fewer images are left out.
    controls : bool
        Whether maps of the same size that use no texts are retrieved with, too, where `b` was
        projected from `a`; they never change the verdict.
    beside : sequence of Projection or PosteriorMap
        Others that are applied to `a` and retrieved with, too; never part of the verdict.
    projection : Projection or PosteriorMap, optional
        What made `b`: adds the controls that need it, and the sweep over fewer dimensions.
    query_side : Projection, optional
        In place of `b`: stored vectors `a`, searched with projected queries (`Projection.query`),
        ``pca@query``. Nothing is written. `Comparison.index_recall` is what the index loses.
    rerank : int, optional
        Puts so many first places of the query side in the order of their projected cosines.
    texts : ReadyTexts or ndarray of shape (n_texts, d), optional
        Text embeddings in the space of `a`: images against texts, and the dimensions that the
        projection drops.
    where : Filter, optional
        Only points that match take part, as queries and as gallery; see `parse_filter`.
    sample : int, optional
        Of a collection with more points, so many are drawn and read.
    max_queries : int, optional
        Where there are more queries, so many are drawn; the gallery stays whole. Bounds the
        tested images of few-shot accuracy, the curves, the sweep and the histograms, too. By
        default 5,000 where more than 20,000 images take part.
    all_queries : bool
        Whether all ask, however many there are.
    resampling : Resampling
        Whom the intervals speak for.
    seed : int
        Random seed of the resampling, the episodes and what is drawn.
    run : Run, optional
        Records the figures and every query's scores.

    Raises
    ------
    InputError
        For a field that most points lack, that has one class, or too few units; a filter that no
        point matches; texts of another length; a projection whose vector is there already.
    ManifestMismatchError
        If a projection is not of the vectors it is given for.
    """
    run, sides = run or Run(), Sides.of(sides)
    pair = _Pair.of(source, a, b, projection, query_side, rerank)
    tasks = pair.tasks(tasks)
    how = {"where": where, "sample": sample, "seed": seed, "fitted": pair.fitted(beside)}
    whole = _read(source, pair.stored, [*fields, *sides.fields], resampling, how)
    table, split = sides.apply(whole)
    table, others = _mapped(
        source, table, pair, beside, controls=controls and "retrieval" in tasks
    )
    knobs = Knobs(
        others=others,
        tasks=tasks,
        min_class_size=min_class_size,
        max_queries=_bounded(max_queries, len(table), all_queries=all_queries),
        resampling=resampling,
        seed=seed,
        split=split,
        guard=guard,
        duplicates=check_threshold(duplicates),
        distances=distances_by_side(other_distances(source, whole, pair.stored), pair.side),
        side=pair.side,
    )
    _check(table, pair, fields, knobs, margin)
    found = Comparison(
        points=Points.of(source, whole, seed, where),
        run_id=run.id,
        vectors=pair.names,
        margin=margin,
        fields=_gathered(table, pair, fields, knobs, run),
        context=Context(source, table, projection, knobs, where, sides),
    )
    log_source(run, source, found.points)
    run.keep(found)
    return found if texts is None else found.with_texts(texts)


@dataclass(frozen=True)
class _Pair:
    """The vectors that are compared: B is stored, or stored vectors A by projected queries."""

    a: str
    b: str
    projection: StoredMap | None
    """What made B, where it is known."""
    side: QuerySide | None

    @classmethod
    def of(
        cls,
        source: VectorTable | ImageCollection,
        a: str | None,
        b: str | None,
        projection: StoredMap | None,
        query_side: Projection | None,
        rerank: int | None,
    ) -> _Pair:
        """Return those that are meant; raises unless B is what the projection made."""
        if query_side is not None:
            a = own_vector(source, a)
        side = QuerySide.of(query_side, [a or ""], rerank)
        if side is None:
            a, b = vector_pair(source, a, b)
            if projection is not None and isinstance(source, ImageCollection):
                check_is(projection, source, b)
            return cls(a, b, projection, None)
        if b is not None or projection is not None:
            raise InputError(
                "a query side takes the place of vector B, and is its own projection; leave out b "
                "and projection"
            )
        check_query_side(source, side)
        return cls(side.vector, side.name, None, side)

    @property
    def names(self) -> tuple[str, str]:
        """A and B."""
        return self.a, self.b

    @property
    def stored(self) -> tuple[str, ...]:
        """Those that are read."""
        return self.names if self.side is None else (self.a,)

    def tasks(self, asked: Sequence[str]) -> tuple[str, ...]:
        """Return the evidence that there is of them, of what is asked for."""
        if self.side is None:
            return tuple(asked)
        if "retrieval" not in asked:
            raise InputError(
                "a query side is judged by retrieval: few-shot accuracy needs no search, so that "
                "a client can project all of its vectors; compare the stored vector for that"
            )
        return ("retrieval",)

    def fitted(self, beside: Sequence[StoredMap]) -> dict[str, FittedVector]:
        """Return the maps that have seen labels, of those beside and of the query side."""
        names = [one.default_vector for one in beside]
        return fitted_by(beside, names, self.a) | fitted_sides([self.side])


def _gathered(
    table: VectorTable, pair: _Pair, fields: Sequence[str], knobs: Knobs, run: Run
) -> dict[str, FieldEvidence]:
    """Return the evidence of every field; what is done is kept where the next is stopped."""
    found = {}
    for field in tracked(fields, "compare", unit="field", name=str):
        found[field] = gathered(table, pair.a, pair.b, field, knobs)
        _log_field(run, field, found[field])
    return found


def _shown_effect(piece: Piece) -> dict[str, Any]:
    """Return the difference of a piece as a plot takes it."""
    return {"delta": piece.effect.delta, "interval": piece.effect.interval}


def _log_field(run: Run, name: str, row: FieldEvidence) -> None:
    effect = row.effect
    for result in row.results:
        result.log_map(run)
    run.log_metric(
        "mAP delta",
        effect.delta if effect else None,
        field=name,
        interval=effect.interval if effect else None,
        n=len(row.differences),
    )


def _read(
    source: VectorTable | ImageCollection,
    vectors: Sequence[str],
    fields: Sequence[str],
    resampling: Resampling,
    how: Mapping[str, Any],
) -> VectorTable:
    """Read the vectors and the fields of labels, sides and units, once."""
    _check_unit(resampling)
    units = () if isinstance(source, VectorTable) else resampling.fields
    return read_labelled(source, vectors, [*fields, *units], **how)


def _check_unit(resampling: Resampling) -> None:
    if resampling.unit == NO_INTERVAL:
        raise InputError(
            f"a comparison is decided by its interval, so its unit cannot be {NO_INTERVAL!r}; "
            f"give 'class', 'image', 'iid' or a payload field"
        )


def _bounded(max_queries: int | None, n: int, *, all_queries: bool) -> int | None:
    """Return how many of n images are drawn to ask; None for all."""
    if all_queries and max_queries is not None:
        raise InputError(
            f"all queries and at most {max_queries:,} of them contradict each other; give one"
        )
    is_many = max_queries is None and not all_queries and n > ALL_ASK
    return DRAWN_QUERIES if is_many else max_queries


def _mapped(
    source: VectorTable | ImageCollection,
    table: VectorTable,
    pair: _Pair,
    beside: Sequence[StoredMap],
    *,
    controls: bool,
) -> tuple[VectorTable, tuple[str, ...]]:
    """Return the table with further maps of vector A, and the names of those beside B."""
    table = with_mapped_queries(table, pair.side)
    names: tuple[str, ...] = ()
    if controls and isinstance(source, ImageCollection):
        table, names = with_controls(source, table, pair.names, pair.projection)
    table, rivals = with_rivals(source, table, pair.a, beside)
    return table, (*rivals, *names)


def with_controls(
    collection: ImageCollection,
    table: VectorTable,
    vectors: tuple[str, str],
    projection: StoredMap | None,
) -> tuple[VectorTable, tuple[str, ...]]:
    """Return the table with the controls of vector B as further vectors, and their names.

    There are none unless B was projected from A; the control of a map that has seen labels is the
    one of shuffled labels. Controls that need the texts' directions need
    the projection itself; the others need its size only.
    """
    a, b = vectors
    origin = collection.manifest.vectors.get(b)
    if origin is None or not origin.projection or origin.source != a or origin.labels:
        return table, ()
    size = np.eye(table.vectors[a].shape[1], table.vectors[b].shape[1], dtype=np.float32)
    given = projection if isinstance(projection, Projection) else None
    like = given or Projection(size, origin.method, origin.encoder, "")
    found = apply_controls(like, table.unit(a), has_texts=given is not None)
    controls = {name: unit_rows(Z) for name, Z in found.items() if name not in table.vectors}
    return table.with_unit_vectors(controls), tuple(controls)


def with_rivals(
    source: VectorTable | ImageCollection,
    table: VectorTable,
    a: str,
    projections: Sequence[StoredMap],
) -> tuple[VectorTable, tuple[str, ...]]:
    """Return the table with vector A as other projections map it, and their names.

    Raises `ManifestMismatchError` if one was fitted for another model than made A, and
    `InputError` if two have one name, or one that the table has.
    """
    makers: dict[str, Callable[[Floats], Floats]] = {}
    for projection in projections:
        if isinstance(source, ImageCollection):
            check_may_take(projection, source, a)
        name = projection.default_vector
        if name in table.vectors or name in makers:
            raise InputError(
                f"{projection.place or repr(projection)} makes a vector {name!r}, and there is "
                f"one already; leave one out"
            )
        makers[name] = partial(_compared, projection)
    return table.with_made(a, makers), tuple(makers)


def _compared(made: StoredMap, X: Floats) -> Floats:
    """Return unit rows `X` (n, d) as the store compares what a map makes of them."""
    Z = made.apply_to_unit(X)
    return Z if made.distance == "Dot" else unit_rows(Z)


def _check(
    table: VectorTable, pair: _Pair, fields: Sequence[str], knobs: Knobs, margin: float
) -> None:
    unknown = sorted(set(knobs.tasks) - set(TASKS))
    if unknown or not knobs.tasks:
        raise InputError(f"tasks are {' and '.join(TASKS)}, got {', '.join(unknown) or 'none'}")
    if not fields:
        raise InputError("no label field is given; name at least one payload field")
    if pair.a == pair.b:
        raise InputError(f"{pair.a!r} is compared with itself; name two vectors")
    if not 0 <= margin < 1:
        raise InputError(f"the margin is a fraction from 0, for example {MARGIN}, got {margin}")
    if not 0 < knobs.guard < 1:
        raise InputError(
            f"the guard is a fraction above 0, for example {GUARD}, got {knobs.guard}"
        )
    for field in fields:
        _check_field(table, field)


def _check_field(table: VectorTable, field: str) -> None:
    codes = labels_of(table, field)
    if codes.n_missing > MOST_MISSING * len(table):
        raise InputError(
            f"{codes.n_missing:,} of {len(table):,} points have no value in field {field!r}; "
            f"choose a field that most points have"
        )
