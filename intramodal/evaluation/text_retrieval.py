"""Texts that ask for images, ⟨T, I⟩: one prompt a class against all images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intramodal.errors import InputError
from intramodal.evaluation.distances import figure_by_distance, other_distances
from intramodal.evaluation.intervals import Interval
from intramodal.evaluation.labels import LabelCodes, labels_of
from intramodal.evaluation.ranking import (
    DEFAULT_KS,
    Groups,
    Lists,
    Ranking,
    Relevance,
    Ties,
    as_lists,
    leave_group_out,
    rank,
)
from intramodal.evaluation.resampling import Population, Resampling, interval_population
from intramodal.evaluation.results import ResultList, log_figures, log_source
from intramodal.evaluation.retrieval import CLASSES, FIGURES, RetrievalResult, map_plot, note_of
from intramodal.evaluation.tasks import Points, RetrievalTask, read_labelled
from intramodal.evaluation.texts import Texts, project_texts, text_directions, texts_of
from intramodal.plots import Plot
from intramodal.progress import tracked
from intramodal.projection.anchors import TEMPLATE, AnchorSet
from intramodal.projection.projection import Projection
from intramodal.runs.run import Run
from intramodal.runs.scores import MEDIA_TYPE, SCORES, pack_scores
from intramodal.store.base import Filter
from intramodal.store.collection import ImageCollection
from intramodal.store.default_vectors import own_vector
from intramodal.types import Encoder, Floats, VectorTable

NOTHING: NDArray[np.int64] = np.empty(0, dtype=np.int64)
NO_ROWS: NDArray[np.intp] = np.empty(0, dtype=np.intp)


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class TextRetrievalResults(ResultList[RetrievalResult]):
    """How well the texts of classes find their images, by several label fields.

    ``results[field]`` is one `RetrievalResult`, with one query a class, whose id and label are the
    class; iterating gives all of them.

    Parameters
    ----------
    vector : str
    texts : str
        Where they come from, for people.
    template : str
    results : list of RetrievalResult
    """

    vector: str
    texts: str
    template: str
    results: list[RetrievalResult]

    def __getitem__(self, field: str) -> RetrievalResult:
        """Return the result of a field."""
        return {result.field: result for result in self.results}[field]

    def __iter__(self) -> Iterator[RetrievalResult]:
        """Iterate over the results."""
        return iter(self.results)

    def to_dict(self) -> dict[str, Any]:
        """Return what ``--json`` prints."""
        points = asdict(self.points)
        return {
            "collection": points["collection"],
            "vector": self.vector,
            "texts": self.texts,
            "template": self.template,
            "n_points": points["n_points"],
            "n_incomplete": points["n_incomplete"],
            "where": points["where"],
            "labels_from": points["labels_from"],
            "fields": {result.field: _figures(result) for result in self.results},
            "distance_note": note_of(self.results),
            "run_id": self.run_id,
        }

    def record(self, run: Run) -> None:
        """Record the figures, and the scores of every class."""
        for result in self.results:
            result.log_map(run)
            figures = result.to_dict()["metrics"]
            log_figures(run, figures, vector=result.vector, field=result.field, n=len(result.ap))
        run.save_artefact(SCORES, pack_scores([r.scores() for r in self.results]), MEDIA_TYPE)
        run.save_artefact(CLASSES, {"rows": [result.to_dict() for result in self.results]})

    def plot(self) -> Plot:
        """Return the mAP of every field, with its 95% interval where there is one."""
        return map_plot(self.results)


def _figures(result: RetrievalResult) -> dict[str, Any]:
    row = result.to_dict()
    return {
        **{name: row[name] for name in FIGURES},
        **row["metrics"],
        "n_classes": row["n_queries"],
        "n_gallery": row["n_gallery"],
        "classes": {name: entry["ap"] for name, entry in row["classes"].items()},
    }


def evaluate_text_retrieval(  # noqa: PLR0913  a job has as many knobs as it has
    source: VectorTable | ImageCollection,
    *,
    texts: Texts | Encoder | Floats,
    vector: str | None = None,
    fields: Sequence[str],
    where: Filter | None = None,
    template: str = TEMPLATE,
    projection: Projection | None = None,
    ks: Sequence[int] = DEFAULT_KS,
    ties: Ties = "expected",
    min_class_size: int = 1,
    resampling: Resampling = Resampling(),
    seed: int = 0,
    run: Run | None = None,
) -> TextRetrievalResults:
    """Return how well the text of each class finds its images, over the full ranking.

    Parameters
    ----------
    source : ImageCollection or VectorTable
        A collection is read once; or what `ImageCollection.table` has read.
    texts : Encoder, ndarray of shape (n_classes, dim), or Texts
        The encoder of the images; or ready embeddings in its space, one row a class in the order
        of their names.
    vector : str, optional
        Named vector of the images, by default the encoder's own; compared by cosine. Where the
        collection ranks otherwise, each result has the mAP of that, too, with texts of the length
        that they are embedded with.
    fields : sequence of str
        Payload fields whose classes ask.
    where : Filter, optional
        Only points that match take part, and only their classes; see `parse_filter`.
    template : str
        Prompt; ``{}`` is the class name.
    projection : Projection, optional
        The one that made the vector: it brings the texts into its space.
    ks : sequence of int
    ties : {"expected", "sklearn", "best", "worst", "id"}
    min_class_size : int
        Classes with fewer images are left out, as queries and as gallery.
    resampling : Resampling
        Whom the intervals speak for, as in `evaluate_retrieval`: other classes would ask other
        texts, other images would be found by these.
    seed : int
        Random seed of the resampling.
    run : Run, optional
        Records the results.

    Raises
    ------
    InputError
        If the texts do not fit the classes or the vector, it is projected otherwise, or no point
        matches.
    """
    run, vector = run or Run(), own_vector(source, vector)
    table = read_labelled(source, [vector], [*fields, *resampling.fields], where=where)
    distance = other_distances(source, table, [vector]).get(vector)
    results = []
    for field in tracked(fields, "text retrieval", unit="field", name=str):
        codes = labels_of(table, field, min_class_size=min_class_size)
        T = _embedded(texts_of(texts), codes.names, template)
        T = _in_space(source, vector, T, projection)
        task, X = _asked_by_classes(table, codes, T, vector, field)
        U = text_directions(T)
        ranking = rank(U, X, task.relevance, ks=ks, ties=ties)
        population = interval_population(table, task, resampling.unit, seed=seed)
        within = _interval(population, task, ranking, U, X) if population else None
        own = None
        if distance is not None:
            G = table.vectors[vector][task.gallery_rows]
            own = figure_by_distance(T, G, task.relevance, distance, ties=ties)
        results.append(_result(task, ranking, vector, ties, interval=within, by_distance=own))
    found = TextRetrievalResults(
        points=Points.of(source, table, seed, where),
        run_id=run.id,
        vector=vector,
        texts=texts_of(texts).name,
        template=template,
        results=results,
    )
    log_source(run, source, found.points)
    run.keep(found)
    return found


def _embedded(texts: Texts, names: Sequence[str], template: str) -> Floats:
    """Return the embeddings (n_classes, dim) of the classes' prompts."""
    found = texts.embed(AnchorSet(tuple(names), template).prompts())
    if found is None:
        raise InputError(f"{texts.name} has no text tower; give embeddings of the classes")
    return found


def _in_space(
    source: VectorTable | ImageCollection, vector: str, T: Floats, projection: Projection | None
) -> Floats:
    """Return the texts (n_classes, dim) in the space of the vector, (n_classes, d)."""
    origin = source.manifest.vectors.get(vector) if isinstance(source, ImageCollection) else None
    if origin is not None and origin.labels:
        raise InputError(
            f"{vector!r} was fitted to labels of images ({origin.labels}), so it takes no texts; "
            f"search {origin.source!r}"
        )
    if projection is None:
        if origin is not None and origin.projection:
            raise InputError(
                f"{vector!r} is projected and texts must be, too; give the projection that made "
                f"it, or take {origin.source!r}"
            )
        return T
    if origin is not None and origin.projection != projection.fingerprint:
        raise InputError(
            f"texts must be projected as {vector!r} was, by projection "
            f"{origin.projection[:12] or 'none'}, got {projection.fingerprint[:12]}"
        )
    found = project_texts(T, projection)
    if found is None:
        raise InputError(f"{vector!r} is centred and takes no texts; take its source")
    return found


def _asked_by_classes(
    table: VectorTable, codes: LabelCodes, T: Floats, vector: str, field: str
) -> tuple[RetrievalTask, Floats]:
    """Return the task in which each class asks, and its gallery (n_gallery, d) of unit rows."""
    X = table.unit(vector, codes.rows)
    if T.shape != (len(codes.names), X.shape[1]):
        raise InputError(
            f"field {field!r} has {len(codes.names)} classes and {vector!r} {X.shape[1]} "
            f"dimensions, got texts of shape {T.shape}; give one text per class, in order"
        )
    owner = np.repeat(np.arange(len(codes)), np.diff(codes.indptr))
    members = [np.sort(owner[codes.indices == c]) for c in range(len(codes.names))]

    def positives(start: int, stop: int) -> Lists:
        return as_lists(members[start:stop])

    def ignored(start: int, stop: int) -> Lists:
        return as_lists([NOTHING] * (stop - start))

    relevance = Relevance(positives, ignored, len(members))
    # No row of the table asks.
    return RetrievalTask(field, "text-image", codes, NO_ROWS, codes.rows, NOTHING, relevance, 0), X


def _result(
    task: RetrievalTask, ranking: Ranking, vector: str, ties: Ties, **found: Any
) -> RetrievalResult:
    return RetrievalResult(
        vector=vector,
        field=task.field,
        protocol=task.protocol,
        query_ids=list(task.codes.names),
        labels=list(task.codes.names),
        ap=ranking.ap,
        metrics=ranking.figures,
        n_relevant=ranking.n_relevant,
        n_gallery=len(task.gallery_rows),
        n_without_positives=0,
        tie_width=float(ranking.tie_width.mean()),
        ties=ties,
        **found,
    )


def _interval(
    population: Population, task: RetrievalTask, ranking: Ranking, T: Floats, X: Floats
) -> Interval | None:
    n = len(T)
    groups = Groups(
        gallery=population.groups[task.gallery_rows],
        own=np.full(n, -1) if population.leaves_gallery else np.arange(n),
        query=np.full(n, -1),
        n_groups=population.n_groups,
    )
    return population.map_interval(
        ranking.ap, groups, lambda: leave_group_out(T, X, task.relevance, groups)
    )
