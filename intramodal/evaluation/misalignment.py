"""Indicators that are said to show intra-modal misalignment (paper, section 3.2 and figure 5).

By class: how far the cosines of same-class pairs of images lie above those of other pairs. By
modality: image-image against text-image cosines, and the distance between the two means. The
paper finds them alike in models with and without an image-image loss: they describe a vector,
and retrieval decides about it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from dataclasses import field as dataclass_field
from html import escape
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from intramodal.errors import InputError
from intramodal.evaluation.cosines import (
    Bands,
    ClassPairs,
    Contrast,
    Counts,
    Units,
    by_class,
    by_modality,
    count_all,
    count_between,
    count_sample,
    draw_any,
    of_sample,
)
from intramodal.evaluation.intervals import COSINE, FRACTION, UNBOUNDED, sampled_interval
from intramodal.evaluation.label_evidence import label_evidence
from intramodal.evaluation.labels import labels_of, require_read
from intramodal.evaluation.resampling import Population, interval_population
from intramodal.evaluation.results import Results, log_source
from intramodal.evaluation.retrieval import run_task
from intramodal.evaluation.tasks import Points, RetrievalTask, read_labelled
from intramodal.evaluation.texts import Texts, project_texts, text_directions, texts_of
from intramodal.plots import B_COLOR, GAIN, LOSS, UNSURE, Plot, histogram_plot
from intramodal.progress import tracked
from intramodal.projection.anchors import TEMPLATE, AnchorSet
from intramodal.projection.projection import Projection
from intramodal.runs.frames import data_frame, html_table, json_values
from intramodal.runs.run import Run
from intramodal.store.base import Filter
from intramodal.store.collection import ImageCollection
from intramodal.store.default_vectors import own_vector
from intramodal.store.manifest import VectorOrigin
from intramodal.store.origins import projection_of
from intramodal.types import (
    Encoder,
    FittedVector,
    Floats,
    HeldOut,
    VectorTable,
    encoders_agree,
    first_lines,
    require_finite,
    short_repr,
    unit_rows,
)

Array = NDArray[np.float64]

ROWS = "misalignment"
"""Name of the run's artefact with figures and histograms."""

_RECORDED = ("auc", "overlap", "d_prime", "same_mean", "other_mean")
_SHOWN = ("map", *_RECORDED)
_RANGES = {
    **dict.fromkeys(("auc", "overlap"), FRACTION),
    **dict.fromkeys(("same_mean", "other_mean", "image_mean", "text_mean"), COSINE),
}
"""Of the figures; d' has no bound."""
_MODALITY_RECORDED = ("gap", "overlap", "image_mean", "text_mean")
_NOT_ORTHONORMAL = 1e-3
"""float32 directions are orthonormal to about 1e-6."""

_MODALITY_FIGURES = ("overlap", "gap", "image_mean", "text_mean", "n_image", "n_text")


@dataclass(frozen=True, eq=False)
class Modality:
    """Image-image against text-image cosines.

    Parameters
    ----------
    edges : ndarray of shape (n_bins + 1,)
        Of cosines, shared by both histograms.
    image_density, text_density : ndarray of shape (n_bins,)
        Histograms of image-image and of text-image cosines, each of area 1.
    overlap : float
        Common area of the two histograms.
    gap : float
        Distance between the mean unit image and the mean unit text.
    image_mean, text_mean : float
        Mean image-image and mean text-image cosine. A text tower of another model shows in
        the latter: it is near zero then.
    n_image, n_text : int
        Pairs in each histogram.
    standard_errors : dict of str to float
        Of overlap and means, where pairs were sampled; else empty.
    bands : Bands or None
        As of `MisalignmentResult`; the texts stay as they are.
    """

    edges: Array
    image_density: Array
    text_density: Array
    overlap: float
    gap: float
    image_mean: float
    text_mean: float
    n_image: int
    n_text: int
    standard_errors: Mapping[str, float] = dataclass_field(default_factory=dict)
    bands: Bands | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        a, b = (self.bands.a, self.bands.b) if self.bands else (None, None)
        parts = [
            histogram_part("image-image", self.n_image, self.image_density, a),
            histogram_part("text-image", self.n_text, self.text_density, b),
        ]
        figures = {name: getattr(self, name) for name in _MODALITY_FIGURES}
        errors = dict(self.standard_errors)
        values: dict[str, Any] = json_values(
            {"edges": self.edges, "parts": parts, **figures, "standard_errors": errors}
            | whom(self.bands)
        )
        return values


def histogram_part(name: str, n: int, density: Array, interval: Array | None) -> dict[str, Any]:
    """Return one histogram as a plot takes it."""
    band = {} if interval is None else {"interval": interval}
    return {"label": f"{name} (n={n:,} pairs)", "density": density, **band}


def whom(bands: Bands | None) -> dict[str, str]:
    """Return whom the bands of a plot speak of, if there are any."""
    return {"speaks_of": bands.speaks_of} if bands else {}


@dataclass(frozen=True, eq=False, repr=False)
class MisalignmentResult:
    """Same- against other-class cosines of one vector for one label field.

    Parameters
    ----------
    vector, field : str
    edges : ndarray of shape (n_bins + 1,)
        Of cosines, equally wide, shared by both histograms.
    same_density, other_density : ndarray of shape (n_bins,)
        Histograms of the pairs that share a class and of those that do not, each of area 1.
    overlap : float
        Common area of the two histograms: 0 apart, 1 the same. Depends on the number of bins.
    auc : float
        Chance that a same-class pair is more alike than an other pair, ties as one half.
    auc_error : float
        `auc` lies this near to the AUC of the single cosines; it comes from fine bins.
    d_prime : float
        Difference of the means in units of the root mean variance.
    same_mean, other_mean : float
        Mean cosines, to 1e-6.
    n_same, n_other : int
        Pairs in each histogram.
    standard_errors : dict of str to float
        Of overlap, AUC, d' and means as estimates of the figures over all pairs, where pairs
        were sampled; empty where all were taken. They do not say what other images would give.
    modality : Modality or None
        Where texts were given.
    bands : Bands or None
        95% intervals of the histograms, bin by bin: over other samples where pairs were sampled,
        over the population where one was given, else None.
    """

    vector: str
    field: str
    edges: Array
    same_density: Array
    other_density: Array
    overlap: float
    auc: float
    auc_error: float
    d_prime: float
    same_mean: float
    other_mean: float
    n_same: int
    n_other: int
    standard_errors: Mapping[str, float] = dataclass_field(default_factory=dict)
    modality: Modality | None = None
    bands: Bands | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values: "title", "edges" and "parts" to draw, and the figures."""
        a, b = (self.bands.a, self.bands.b) if self.bands else (None, None)
        parts = [
            histogram_part("same class", self.n_same, self.same_density, a),
            histogram_part("other class", self.n_other, self.other_density, b),
        ]
        values: dict[str, Any] = json_values(
            {
                "title": f"{self.vector} by {self.field}",
                "edges": self.edges,
                "parts": parts,
                **self._figures(),
                "standard_errors": dict(self.standard_errors),
                "modality": self.modality.to_dict() if self.modality else None,
                **whom(self.bands),
            }
        )
        return values

    def to_frame(self) -> Any:
        """Return a pandas data frame, one row a bin; needs the extra ``notebook``."""
        return data_frame(
            {
                "vector": self.vector,
                "field": self.field,
                "low": self.edges[:-1],
                "high": self.edges[1:],
                "same_density": self.same_density,
                "other_density": self.other_density,
            }
        )

    def plot(self) -> Plot:
        """Return the histograms: by class, and of text-image pairs where texts were given."""
        return Plot.of(_histograms(self.to_dict()))

    def _figures(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in _FIGURES}

    def _repr_html_(self) -> str:
        row = {"vector": self.vector, "field": self.field, **self._figures()}
        return html_table(list(row), [list(row.values())])

    def __repr__(self) -> str:
        """Return vector, field, AUC, overlap and whether pairs were sampled."""
        how = "sampled" if self.standard_errors else "all"
        return (
            f"MisalignmentResult({self.vector!r} by {self.field!r}, AUC {self.auc:.4f}, "
            f"overlap {self.overlap:.4f}, {how} {self.n_same + self.n_other:,} pairs)"
        )


def _histograms(row: Mapping[str, Any]) -> Iterator[str]:
    """Yield the plots of one row: by class, and by modality where texts were given."""
    yield histogram_plot(row["title"], row["parts"], row["edges"], (GAIN, LOSS))
    by_modality = row["modality"]
    if by_modality:
        title = f"{row['vector']}, images and texts"
        parts, edges = by_modality["parts"], by_modality["edges"]
        yield histogram_plot(title, parts, edges, (B_COLOR, UNSURE))


_FIGURES = (
    "overlap",
    "auc",
    "auc_error",
    "d_prime",
    "same_mean",
    "other_mean",
    "n_same",
    "n_other",
)


@short_repr
@dataclass(frozen=True, eq=False)
class VectorOf:
    """One vector to measure, and the texts of the model that made it.

    Parameters
    ----------
    source : ImageCollection or VectorTable
    vector : str
    texts : Texts, Encoder or ndarray of shape (n_classes, d), optional
        Of the class names, in the encoder's own space; an array has one row per class in
        alphabetical order.
    """

    source: ImageCollection | VectorTable
    vector: str
    texts: Texts | Encoder | Floats | None = None

    @property
    def name(self) -> str | None:
        """The collection's name; None for a table."""
        return None if isinstance(self.source, VectorTable) else self.source.name

    @property
    def title(self) -> str:
        """Collection and vector as options write them."""
        return self.vector if self.name is None else f"{self.name}:{self.vector}"

    @property
    def points(self) -> str | int:
        """What tells the points of one source from those of another."""
        return self.name or id(self.source)

    @property
    def origin(self) -> VectorOrigin | None:
        """Who made the vector; None where nobody has declared it."""
        if isinstance(self.source, VectorTable):
            return None
        return self.source.manifest.vectors.get(self.vector)

    @property
    def is_projected(self) -> bool:
        """Whether the vector is known to be a projection of another."""
        return self.origin is not None and bool(self.origin.projection)

    @property
    def size(self) -> int:
        """Its dimensions."""
        if isinstance(self.source, VectorTable):
            return int(self.source.vectors[self.vector].shape[1])
        return self.source.vectors[self.vector].size


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class MisalignmentResults(Results):
    """Indicators of several vectors, side by side.

    ``results[field, vector]`` is one row; among several collections a vector is called
    ``collection:vector``. Iterating gives all rows.

    Parameters
    ----------
    rows : list of dict
        One a field, vector and view: "collection", "vector", "view", "field", "map", the figures
        and histograms of `MisalignmentResult.to_dict`.
    max_pairs, seed : int
    """

    rows: list[dict[str, Any]]
    max_pairs: int | None
    seed: int

    def __getitem__(self, key: tuple[str, str]) -> dict[str, Any]:
        """Return the row of a field and a vector."""
        return {(row["field"], self._name(row)): row for row in self.rows}[key]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Iterate over the rows."""
        return iter(self.rows)

    def to_dict(self) -> dict[str, Any]:
        """Return what ``--json`` prints."""
        return {
            "where": self.points.where,
            "labels_from": self.points.labels_from,
            "held_out": self.points.held_out,
            "max_pairs": self.max_pairs,
            "seed": self.seed,
            "rows": self.rows,
            "run_id": self.run_id,
        }

    def to_frame(self) -> Any:
        """Return a pandas data frame, one row a field, vector and view; without histograms."""
        names = ("collection", "vector", "view", "field", "map", *_FIGURES)
        return data_frame({name: [row[name] for row in self.rows] for name in names})

    def record(self, run: Run) -> None:
        """Record the figures; a vector of one collection among several has both names."""
        for row in self.rows:
            about = {"vector": self._name(row), "field": row["field"]}
            n_pairs = row["n_same"] + row["n_other"]
            run.log_metric("mAP", row["map"], n=row["n_queries"], **about)
            seen = row["label_evidence"]
            if seen:
                run.log_metric("mAP of shuffled labels", seen["control"], **about)
                run.log_metric("classification accuracy", seen["accuracy"], **about)
            for name in _RECORDED:
                run.log_metric(name, row[name], interval=_interval(row, name), n=n_pairs, **about)
            beside = row["modality"]
            for name in _MODALITY_RECORDED if beside else ():
                interval = _interval(beside, name)
                run.log_metric(
                    f"modality {name}",
                    beside[name],
                    interval=interval,
                    n=beside["n_text"],
                    **about,
                )
        run.save_artefact(ROWS, {"rows": self.rows})

    def plot(self) -> Plot:
        """Return the histograms of every row."""
        return Plot.of(panel for row in self.rows for panel in _histograms(row))

    def _name(self, row: Mapping[str, Any]) -> str:
        is_alone = len({row["collection"] for row in self.rows}) == 1
        return str(row["vector"] if is_alone else f"{row['collection']}:{row['vector']}")

    def _repr_html_(self) -> str:
        rows = [
            [row["field"], self._name(row), *("–" if row[n] is None else row[n] for n in _SHOWN)]
            for row in self.rows
        ]
        told = (f"<p>{escape(sentence)}</p>" for sentence in self._evidence())
        return "".join([html_table(["field", "vector", *_SHOWN], rows), *told])

    def _evidence(self) -> Iterator[str]:
        """Yield what stands beside figures of maps that have seen labels."""
        for row in self.rows:
            if row["label_evidence"]:
                yield f"{row['field']}: {row['label_evidence']['sentence']}"

    def __repr__(self) -> str:
        """Return field, vector, AUC and overlap of each row, one a line."""
        rows = (
            f"{self._name(row)!r} by {row['field']!r}, AUC {row['auc']:.4f}, "
            f"overlap {row['overlap']:.4f}"
            for row in self.rows
        )
        return first_lines([*self._evidence(), *rows])


def _interval(row: Mapping[str, Any], name: str) -> tuple[float, float] | None:
    return sampled_interval(row, name, _RANGES.get(name, UNBOUNDED))


def measure_misalignment(  # noqa: PLR0913  a job has as many knobs as it has
    source: ImageCollection | VectorTable | Sequence[VectorOf],
    *,
    vectors: Sequence[str] | None = None,
    fields: Sequence[str],
    where: Filter | None = None,
    texts: Texts | Encoder | Floats | None = None,
    template: str = TEMPLATE,
    projections: Sequence[Projection] = (),
    bins: int = 80,
    max_pairs: int | None = None,
    with_map: bool = True,
    with_bands: bool = False,
    seed: int = 0,
    run: Run | None = None,
) -> MisalignmentResults:
    """Compare cosines of same- and other-class pairs, and of images and texts.

    Parameters
    ----------
    source : ImageCollection, VectorTable or sequence of VectorOf
        Vectors of several collections stand side by side.
    vectors : sequence of str, optional
        Of a single source; by default the encoder's own.
    fields : sequence of str
        Payload fields; pairs are of the same class if they share a value.
    where : Filter, optional
        Only points that match take part, of every source; see `parse_filter`.
    texts : Texts, Encoder or ndarray of shape (n_classes, d), optional
        Of a single source: class names in the encoder's own space.
    template : str
        ``{}`` is the class name.
    projections : sequence of Projection
        Also show an encoder's vector after these, and with the mean adjusted; they project the
        texts for a vector that one of them made.
    bins : int
        Of the histograms.
    max_pairs : int, optional
        Sample so many pairs, with standard errors; by default all.
    with_map : bool
        Also rank exactly: mAP decides, the indicators describe.
    with_bands : bool
        Add intervals of the histograms over all pairs; takes as long again.
    seed : int
        Random seed of the sample.
    run : Run, optional
        Records the results.

    Raises
    ------
    InputError
        If a field cannot serve as a label, no point of a source matches, a projection fits none
        of the vectors, or the texts are of another length than a vector.
    """
    run = run or Run()
    if isinstance(source, ImageCollection | VectorTable):
        of_source = [own_vector(source)] if vectors is None else vectors
        source = [VectorOf(source, vector, texts) for vector in of_source]
    require_used(projections, source)
    names = list(dict.fromkeys(target.name for target in source))
    fitted = _fitted_by_source(source)
    how = _How(list(fields), template, bins, max_pairs, with_map, with_bands, seed)
    rows: list[dict[str, Any]] = []
    n_points, n_incomplete, read = 0, 0, set[str | int]()
    labels_from: list[Mapping[str, Any]] = []
    held_out: list[tuple[str | None, HeldOut]] = []
    for target in tracked(source, "misalignment", unit="vector", name=lambda one: one.title):
        shown = views_of(target, projections, source)
        is_new = target.points not in read
        about: Any = {"where": where, "warns": is_new, "fitted": fitted[target.points]}
        table = read_labelled(target.source, [target.vector], fields, **about)
        read.add(target.points)
        if is_new and table.labels_from is not None:
            labels_from.append(table.labels_from)
        if is_new and table.held_out is not None:
            held_out.append((target.name if len(names) > 1 else None, table.held_out))
        n_points, n_incomplete = n_points + len(table), n_incomplete + table.n_incomplete
        rows += how.rows(target, table, shown)
    named = ", ".join(name for name in names if name) or None
    found = MisalignmentResults(
        points=Points(
            *(named, n_points, n_incomplete, None, None if where is None else str(where)),
            labels_from=_of_all(labels_from),
            held_out=_held_out_of_all(held_out),
        ),
        run_id=run.id,
        rows=_side_by_side(rows, fields, names),
        max_pairs=max_pairs,
        seed=seed,
    )
    for target in source:
        log_source(run, target.source, found.points)
    for projection in projections:
        name = projection.place or projection.method
        run.log_fingerprint("projection", name, projection.fingerprint, projection.recipe)
    run.keep(found)
    return found


def _of_all(labels_from: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Return how the labels of several collections belong to their points, as of one.

    What no collection has is unknown: each was held against the labels by itself.
    """
    if len(labels_from) < 2:
        return labels_from[0] if labels_from else None
    in_payload: Counter[str] = Counter()
    for one in labels_from:
        in_payload.update(one["also_in_payload"])
    return {
        **{
            name: ", ".join(dict.fromkeys(one[name] for one in labels_from))
            for name in ("file", "fingerprint")
        },
        "n_rows": max(one["n_rows"] for one in labels_from),
        "n_unknown": None,
        "n_without_row": sum(one["n_without_row"] for one in labels_from),
        "also_in_payload": dict(in_payload),
    }


def _fitted_by_source(targets: Sequence[VectorOf]) -> dict[str | int, dict[str, FittedVector]]:
    """Return the maps of each source that have seen labels: all its vectors face the same rows."""
    found: dict[str | int, dict[str, FittedVector]] = {}
    for target in targets:
        source, vector = target.source, target.vector
        seen = source.fitted if isinstance(source, VectorTable) else source.fitted([vector])
        of_source = found.setdefault(target.points, {})
        of_source |= {vector: seen[vector]} if vector in seen else {}
    return found


def _held_out_of_all(parts: Sequence[tuple[str | None, HeldOut]]) -> Mapping[str, Any] | None:
    """Return what left the points of several collections, as of one."""
    if not parts:
        return None
    each = [(name, held_out.to_dict()) for name, held_out in parts]
    vectors = {
        vector if name is None else f"{name}:{vector}": one
        for name, found in each
        for vector, one in found["vectors"].items()
    }
    counts = {key: sum(found[key] for _, found in each) for key in ("n_fit_rows", "n_near_copies")}
    return {**counts, "vectors": vectors}


def _side_by_side(
    rows: Sequence[dict[str, Any]], fields: Sequence[str], names: Sequence[str | None]
) -> list[dict[str, Any]]:
    """Return the rows of a field together, of each collection what is adjusted last."""
    return sorted(
        rows,
        key=lambda row: (
            *(fields.index(row["field"]), names.index(row["collection"])),
            row["view"] == "mean adjusted",
        ),
    )


@dataclass(frozen=True)
class _How:
    """How each vector is measured."""

    fields: list[str]
    template: str
    bins: int
    max_pairs: int | None
    with_map: bool
    with_bands: bool
    seed: int

    def rows(
        self, target: VectorOf, table: VectorTable, shown: Sequence[View]
    ) -> Iterator[dict[str, Any]]:
        texts = None if target.texts is None else texts_of(target.texts)
        for name in self.fields:
            embedded = self._embedded(texts, table, name) if texts else None
            for view in shown:
                yield {
                    "collection": target.name,
                    "vector": view.vector,
                    "view": view.kind,
                    "model": target.origin.encoder if target.origin else None,
                    "texts": texts.name if texts else None,
                    "field": name,
                    "n_points": len(table),
                    **self._figures(view, table.vectors[target.vector], embedded, table, name),
                }

    def _embedded(self, texts: Texts, table: VectorTable, name: str) -> Floats | None:
        """Return the embeddings of the class names, in the encoder's own space."""
        names = labels_of(table, name).names
        return texts.embed(AnchorSet(tuple(names), self.template).prompts())

    def _figures(
        self, view: View, X: Floats, texts: Floats | None, table: VectorTable, name: str
    ) -> dict[str, Any]:
        images, beside = view.make(X, texts)
        shown = replace(table, vectors={view.vector: images})
        result = misalignment_of(
            shown,
            vector=view.vector,
            field=name,
            texts=beside,
            n_bins=self.bins,
            max_pairs=self.max_pairs,
            seed=self.seed,
            population=self._population(shown, name),
        )
        seen = None
        if view.kind == "stored":
            task = RetrievalTask.of_all(table, name)
            seen = label_evidence(table, task, view.vector, seed=self.seed)
        return {
            **self._retrieval(shown, view.vector, name),
            "label_evidence": seen and seen.to_dict(),
            **result.to_dict(),
        }

    def _population(self, table: VectorTable, name: str) -> Population | None:
        """Return whom the bands of the plots speak of; None where nothing is drawn."""
        if not self.with_bands or self.max_pairs is not None:
            return None
        task = RetrievalTask.of_all(table, name)
        return interval_population(table, task, None, seed=self.seed)

    def _retrieval(self, table: VectorTable, vector: str, name: str) -> dict[str, Any]:
        """Return the figure that decides, beside the indicators that do not."""
        if not self.with_map:
            return {"map": None, "n_queries": None}
        task = RetrievalTask.of_all(table, name)
        found = run_task(task, table, vector, ks=())
        return {"map": found.map, "n_queries": len(found.query_ids)}


Kind = Literal["stored", "projected", "mean adjusted"]


@dataclass(frozen=True)
class View:
    """One way to look at a vector, under a name for tables.

    The projection of a stored, projected vector is applied to the texts only.
    """

    kind: Kind
    vector: str
    projection: Projection | None = None

    def make(self, X: Floats, texts: Floats | None) -> tuple[Floats, Floats | None]:
        """Return the stored images X (n, d) and the encoder's texts as this view compares them."""
        if self.projection is None:
            return X, texts
        if self.kind == "mean adjusted":
            return adjust_mean(X, self.projection), texts
        images = X if self.kind == "stored" else self.projection.apply(X)
        return images, None if texts is None else project_texts(texts, self.projection)


def views_of(
    target: VectorOf, projections: Sequence[Projection], targets: Sequence[VectorOf]
) -> list[View]:
    """Return the stored vector, and what the projections make of it.

    Those made for the target's encoder are applied to its own vector, not to one that is projected
    already; what another target stores is not computed a second time.
    """
    if target.is_projected and isinstance(target.source, ImageCollection):
        made = target.source, target.vector, projections
        own = projection_of(*made) if target.texts is not None else None
        return [View("stored", target.vector, own)]
    found = [View("stored", target.vector)]
    for projection in projections:
        if not takes(projection, target):
            continue
        if not any(_stores(other, target, projection) for other in targets):
            found.append(View("projected", projection.default_vector, projection))
        found.append(View("mean adjusted", f"{projection.default_vector}_adjusted", projection))
    return found


def takes(projection: Projection, target: VectorOf) -> bool:
    """Return whether a projection was made for the vectors of a target."""
    if target.is_projected:
        return False
    origin = target.origin
    if origin is None:
        return target.size == projection.dim_in
    return encoders_agree(
        (origin.encoder, origin.encoder_fingerprint),
        (projection.encoder, projection.encoder_fingerprint),
    )


def require_used(projections: Sequence[Projection], targets: Sequence[VectorOf]) -> None:
    """Raise `InputError` for a projection that no target has any use for."""
    for projection in projections:
        made = {t.origin.projection for t in targets if t.origin is not None}
        if projection.fingerprint in made or any(takes(projection, t) for t in targets):
            continue
        raise InputError(
            f"{projection.place or repr(projection)} projects vectors of {projection.encoder}, "
            f"and none of the given vectors is its own; give the projection that was fitted for "
            f"one of them"
        )


def _stores(other: VectorOf, target: VectorOf, projection: Projection) -> bool:
    return (
        other.name == target.name
        and other.origin is not None
        and other.origin.projection == projection.fingerprint
    )


def misalignment_of(  # noqa: PLR0913  settings with defaults
    table: VectorTable,
    *,
    vector: str,
    field: str,
    texts: Floats | None = None,
    n_bins: int = 80,
    max_pairs: int | None = None,
    seed: int = 0,
    population: Population | None = None,
) -> MisalignmentResult:
    """Return histograms and separation of same- and other-class cosines of one vector.

    All figures come from counts in 2^20 fine bins of the cosine: means are right to 1e-6, and
    `auc_error` bounds what the order within a bin can change in the AUC. Memory beyond the unit
    rows is a block of 2 million cosines and the counts, about 80 MB, whatever the number of pairs.

    Shapes: `texts` (n_texts, d).
    """
    X, classes = _images(table, vector, field)
    if n_bins < 1 or (max_pairs is not None and max_pairs < 2):
        raise InputError(
            f"n_bins must be 1 and max_pairs 2 at least, got {n_bins} and {max_pairs}"
        )
    if max_pairs is not None and max_pairs >= len(X) * (len(X) - 1) // 2:
        max_pairs = None
    rng = np.random.default_rng(seed)
    same, other = _by_class(X, classes, max_pairs, rng)
    _require_pairs(field, same, other)
    units = None if population is None or max_pairs else Units.of(population, classes.codes.rows)
    modality = None
    if texts is not None:
        T = _checked_texts(texts, X, vector)
        images, between = _by_modality(X, T, same + other, max_pairs, rng)
        contrast = Contrast(images, between, n_bins)
        bands = None if units is None else by_modality(X, T, contrast, units)
        modality = _modality(X, T, contrast, bands, is_sampled=max_pairs is not None)
    contrast = Contrast(same, other, n_bins)
    bands = None if units is None else by_class(X, classes, contrast, units)
    return MisalignmentResult(
        vector=vector,
        field=field,
        edges=contrast.edges,
        same_density=contrast.densities[0],
        other_density=contrast.densities[1],
        overlap=contrast.overlap,
        auc=contrast.auc,
        auc_error=contrast.auc_error,
        d_prime=contrast.d_prime,
        same_mean=contrast.means[0],
        other_mean=contrast.means[1],
        n_same=contrast.n_pairs[0],
        n_other=contrast.n_pairs[1],
        standard_errors=_class_errors(contrast) if max_pairs else {},
        modality=modality,
        bands=of_sample(contrast) if max_pairs else bands,
    )


def modality_gap(images: NDArray[Any], texts: NDArray[Any]) -> float:
    """Return the distance between the means of the unit rows of images (n, d) and texts (m, d)."""
    means = [unit_rows(X).mean(axis=0, dtype=np.float64) for X in (images, texts)]
    return float(np.linalg.norm(means[0] - means[1]))


def _images(table: VectorTable, vector: str, field: str) -> tuple[Floats, ClassPairs]:
    require_read(table, vectors=[vector], fields=[field])
    codes = labels_of(table, field)
    require_finite(table.vectors[vector][codes.rows], f"vector {vector!r}")
    X = table.unit(vector)
    return X if len(codes) == len(X) else X[codes.rows], ClassPairs(codes)


def _checked_texts(texts: Floats, X: Floats, vector: str) -> Floats:
    T = np.asarray(texts)
    if T.ndim != 2 or T.shape[1] != X.shape[1] or not len(T):
        raise InputError(
            f"texts must be finite and of shape (n, {X.shape[1]}), as vector {vector!r} is, got "
            f"{T.shape}; project the texts as the images are"
        )
    return text_directions(T)


def _by_class(
    X: Floats, classes: ClassPairs, max_pairs: int | None, rng: np.random.Generator
) -> tuple[Counts, Counts]:
    if max_pairs is None:
        return count_all(X, classes)
    half = max_pairs // 2
    same = count_sample(X, X, half, classes.draw_same, rng)
    return same, count_sample(X, X, max_pairs - half, classes.draw_other, rng)


def _by_modality(
    X: Floats, T: Floats, images: Counts, max_pairs: int | None, rng: np.random.Generator
) -> tuple[Counts, Counts]:
    """Return the counts of image-image and of text-image pairs."""
    if max_pairs is None:
        return images, count_between(X, T)
    n, m = len(X), len(T)
    return (
        # The sample by class holds too many same-class pairs to stand for all.
        count_sample(X, X, max_pairs, lambda size, rng: draw_any(size, n, rng), rng),
        count_sample(
            X,
            T,
            max_pairs,
            lambda size, rng: (rng.integers(n, size=size), rng.integers(m, size=size)),
            rng,
        ),
    )


def _require_pairs(field: str, same: Counts, other: Counts) -> None:
    for counts, kind in ((same, "share a class"), (other, "differ in class")):
        if not counts.any():
            raise InputError(
                f"no two points that {kind} were found by field {field!r}; choose another field"
            )


def _class_errors(contrast: Contrast) -> dict[str, float]:
    same, other = contrast.mean_errors
    return {
        "overlap": contrast.overlap_error,
        "auc": contrast.auc_standard_error,
        "d_prime": contrast.d_prime_error,
        "same_mean": same,
        "other_mean": other,
    }


def _modality(
    X: Floats, T: Floats, contrast: Contrast, bands: Bands | None, *, is_sampled: bool
) -> Modality:
    errors = dict(zip(("image_mean", "text_mean"), contrast.mean_errors, strict=True))
    errors["overlap"] = contrast.overlap_error
    return Modality(
        edges=contrast.edges,
        image_density=contrast.densities[0],
        text_density=contrast.densities[1],
        overlap=contrast.overlap,
        gap=modality_gap(X, T),
        image_mean=contrast.means[0],
        text_mean=contrast.means[1],
        n_image=contrast.n_pairs[0],
        n_text=contrast.n_pairs[1],
        standard_errors=errors if is_sampled else {},
        bands=of_sample(contrast) if is_sampled else bands,
    )


def adjust_mean(
    X: NDArray[Any], projection: Projection, *, mean: NDArray[Any] | None = None
) -> Floats:
    """Return images X (n, dim_in) projected within the full space, a mean's lost part put back.

    ``Q L Q^T x + Q (1 - L) Q^T mean`` (equation 12), where ``Q L Q^T`` is the projection's matrix
    times its transpose, and the mean (dim_in,) by default that of the unit rows. Distances between
    rows are those of the projected images; cosines move back up, which shows that a histogram of
    cosines is no indicator. Texts are compared with these images as the encoder gave them.
    """
    X = np.asarray(X)
    if X.ndim != 2 or X.shape[1] != projection.dim_in:
        raise InputError(
            f"this projection takes vectors of shape (n, {projection.dim_in}), got {X.shape}; "
            f"give the vectors of {projection.encoder}"
        )
    Q = projection.matrix
    off = np.abs(Q.T @ Q - np.eye(Q.shape[1], dtype=np.float32)).max()
    if off > _NOT_ORTHONORMAL:
        raise InputError(
            f"the directions of projection {projection.method!r} are not orthonormal (by "
            f"{off:.3g}), so they say nothing about a lost mean; adjust the mean of pca only"
        )
    unit = unit_rows(X)
    mu = unit.mean(axis=0, dtype=np.float64) if mean is None else np.asarray(mean, np.float64)
    lost = mu - Q @ (Q.T @ mu)
    return np.asarray(unit @ Q @ Q.T + lost, dtype=np.float32)
