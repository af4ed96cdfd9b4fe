"""What can be said of two vectors without labels: where they disagree, and what the texts think.

None of it is evidence for a verdict. Overlap says how much would change, not whether for the
better; pseudo-labels come from the very texts that the projection is made of.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intramodal.errors import InputError
from intramodal.evaluation.cost import vector_costs
from intramodal.evaluation.distances import as_products, distance_note, other_distances
from intramodal.evaluation.held_out import gone_from
from intramodal.evaluation.intervals import drawn_interval
from intramodal.evaluation.label_evidence import beside_tasks
from intramodal.evaluation.ranking import score_blocks
from intramodal.evaluation.results import Results, log_source
from intramodal.evaluation.retrieval import run_task
from intramodal.evaluation.tasks import Points, RetrievalTask, read_labelled
from intramodal.evaluation.texts import Texts, texts_of
from intramodal.plots import B_COLOR, Plot, histogram_plot
from intramodal.projection.anchors import AnchorSet
from intramodal.runs.run import Run
from intramodal.store.base import Filter
from intramodal.store.collection import ImageCollection
from intramodal.store.default_vectors import vector_pair
from intramodal.store.search import describe
from intramodal.types import Distance, Encoder, Floats, PointId, VectorTable, short_repr, unit_rows

LOGIT_SCALE = 100.0
"""Softmax scale of CLIP's zero-shot classifier, where its training ends (Radford et al. 2021)."""

N_QUERIES = 5000
N_DISAGREEMENTS = 24
LEAST_CONFIDENCE = 0.5
_PSEUDO = "pseudo-label"


@short_repr
@dataclass(frozen=True, eq=False)
class Agreement:
    """How far two vectors have the same neighbours.

    Parameters
    ----------
    vectors : pair of str
    k : int
    ids : list of str or int
        Images that asked, ascending.
    overlap : ndarray of shape (n_queries,)
        Share of the k nearest that both have; equal scores in the table's order.
    n_images : int
    """

    vectors: tuple[str, str]
    k: int
    ids: list[PointId]
    overlap: NDArray[np.float64]
    n_images: int

    @property
    def interval(self) -> tuple[float, float]:
        """95% interval of the mean over all images; a point where all have asked."""
        return drawn_interval(self.overlap, self.n_images)

    def plot(self) -> Plot:
        """Return the histogram of the queries by the share of neighbours that both have."""
        edges = (np.arange(self.k + 2) - 0.5) / self.k
        density = np.histogram(self.overlap, edges, density=True)[0]
        a, b = self.vectors
        part = {"label": f"{len(self.ids):,} queries", "density": density.tolist()}
        what = f"share of the {self.k} nearest neighbours in common"
        panel = histogram_plot(f"{b} and {a}", [part], edges.tolist(), [B_COLOR], what=what)
        return Plot.of([panel])

    def disagreements(self, n: int) -> list[PointId]:
        """Return the images with the fewest common neighbours."""
        return [self.ids[row] for row in np.argsort(self.overlap, kind="stable")[:n]]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "k": self.k,
            "overlap": float(self.overlap.mean()),
            "interval": [None if np.isnan(end) else end for end in self.interval],
            "n_queries": len(self.ids),
            "n_images": self.n_images,
        }


def neighbour_overlap(
    table: VectorTable,
    vectors: tuple[str, str],
    *,
    k: int = 10,
    n_queries: int = N_QUERIES,
    seed: int = 0,
    distances: Mapping[str, Distance] | None = None,
) -> Agreement:
    """Return how many of the k nearest images two vectors share.

    Parameters
    ----------
    table : VectorTable
        With both vectors.
    vectors : pair of str
    k : int
    n_queries : int
        Images that ask; a seeded sample where there are more. All of them answer.
    seed : int
    distances : mapping of str to {"Dot", "Euclid"}, optional
        Vectors that are compared as they are stored, and how; the others by cosine.

    Raises
    ------
    InputError
        If there are not more than k images, or for Manhattan.
    """
    n = len(table)
    if not 1 <= k < n:
        raise InputError(f"the {k} nearest of {n} images cannot be compared; give k from 1 to n-1")
    rows = np.sort(np.random.default_rng(seed).permutation(n)[:n_queries])
    a, b = (
        _nearest(table, vector, rows, k, (distances or {}).get(vector, "Cosine"))
        for vector in vectors
    )
    common = [len(np.intersect1d(x, y, assume_unique=True)) for x, y in zip(a, b, strict=True)]
    return Agreement(
        vectors=vectors,
        k=k,
        ids=[table.ids[row] for row in rows],
        overlap=np.asarray(common) / k,
        n_images=n,
    )


def _nearest(
    table: VectorTable, vector: str, rows: NDArray[np.intp], k: int, distance: Distance
) -> NDArray[np.intp]:
    """Return the k nearest rows of each of `rows`, itself not among them, of (len(rows), k)."""
    X = table.unit(vector) if distance == "Cosine" else table.vectors[vector]
    found = np.empty((len(rows), k), dtype=np.intp)
    for start, stop, S in score_blocks(*as_products(X[rows], X, distance)):
        S[np.arange(stop - start), rows[start:stop]] = -np.inf
        for i in range(stop - start):
            found[start + i] = _top(S[i], k)
    return found


def _top(scores: Floats, k: int) -> NDArray[np.intp]:
    least = np.partition(scores, len(scores) - k)[len(scores) - k]
    above = np.flatnonzero(scores > least)
    return np.concatenate([above, np.flatnonzero(scores == least)[: k - len(above)]])


@short_repr
@dataclass(frozen=True, eq=False)
class PseudoLabels:
    """What the text tower takes each image for.

    Parameters
    ----------
    labels : list of str
        The name whose text is nearest.
    confidence : ndarray of shape (n,)
        Its softmax at `LOGIT_SCALE`.
    """

    labels: list[str]
    confidence: NDArray[np.float64]

    def confident(self, least: float) -> list[str | None]:
        """Return the labels; None where the confidence is lower."""
        pairs = zip(self.labels, self.confidence, strict=True)
        return [label if confidence >= least else None for label, confidence in pairs]

    def to_dict(self, least: float) -> dict[str, Any]:
        """Return JSON values."""
        kept = Counter(label for label in self.confident(least) if label is not None)
        return {
            "confidence": float(self.confidence.mean()),
            "least_confidence": least,
            "n_images": len(self.labels),
            "n_confident": sum(kept.values()),
            "classes": [{"name": name, "n_images": n} for name, n in kept.most_common()],
        }


def pseudo_labels(X: Floats, text: Floats, names: Sequence[str]) -> PseudoLabels:
    """Return each image's zero-shot label.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        Image embeddings, not projected: texts are compared on `raw`.
    text : ndarray of shape (n_names, d)
        Text embeddings of the same model.
    names : sequence of str

    Raises
    ------
    InputError
        If shapes do not fit, or there are fewer than two names.
    """
    if text.ndim != 2 or text.shape[1] != X.shape[1] or len(text) != len(names):
        raise InputError(
            f"{len(names)} names and images of {X.shape[1]} dimensions need texts of shape "
            f"({len(names)}, {X.shape[1]}), got {text.shape}; encode the names with the images' "
            f"model"
        )
    if len(names) < 2:
        raise InputError(f"zero-shot labels need at least two names, got {len(names)}")
    best, confidence = np.empty(len(X), dtype=np.intp), np.empty(len(X))
    for start, stop, S in score_blocks(unit_rows(X), unit_rows(text)):
        best[start:stop] = S.argmax(axis=1)
        logits = LOGIT_SCALE * (S.astype(np.float64) - S.max(axis=1, keepdims=True))
        confidence[start:stop] = 1 / np.exp(logits).sum(axis=1)
    return PseudoLabels([names[i] for i in best.tolist()], confidence)


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class UnlabelledComparison(Results):
    """How far two vectors agree, where, and what the texts think; never a verdict.

    Parameters
    ----------
    agreement : Agreement
    disagreements : list of dict
        The images that agree least: "id", "overlap", and by vector their "answers".
    pseudo_labels : dict or None
        What the zero-shot labels say, where there are texts.
    cost : dict
        See `vector_costs`.
    distances : mapping of str to str
        Vectors that the collection does not rank as the cosine does, and its distance.
    agreement_by_distance : Agreement or None
        That of the collection's own rankings, where they differ; None for Manhattan.
    """

    agreement: Agreement
    disagreements: list[dict[str, Any]]
    pseudo_labels: dict[str, Any] | None
    cost: dict[str, Any]
    distances: Mapping[str, Distance]
    agreement_by_distance: Agreement | None

    def to_dict(self) -> dict[str, Any]:
        """Return what ``intramodal compare --json`` prints without labels."""
        own = self.agreement_by_distance
        return {
            "collection": self.points.collection,
            "vectors": list(self.agreement.vectors),
            "fields": {},
            "agreement": {
                **self.agreement.to_dict(),
                "disagreements": [_plain(row) for row in self.disagreements],
            },
            "pseudo_labels": self.pseudo_labels,
            "sentences": [
                *_sentences(self.agreement, self.pseudo_labels),
                *filter(None, [self._distance_sentence()]),
            ],
            "overlap_by_distance": own and float(own.overlap.mean()),
            "cost": self.cost,
            "where": self.points.where,
            "labels_from": self.points.labels_from,
            "held_out": self.points.held_out,
            "run_id": self.run_id,
        }

    def _distance_sentence(self) -> str | None:
        told = distance_note(self.distances, baseline="Figures above are", has_map=False)
        own = self.agreement_by_distance
        if own is None:
            return told
        return f"{told} By the rankings of the store they share {own.overlap.mean():.1%}."

    def plot(self) -> Plot:
        """Return the histogram of the queries by the share of neighbours that both have."""
        return self.agreement.plot()

    def record(self, run: Run) -> None:
        """Write the overlap to a run."""
        run.log_metric(
            f"neighbour overlap@{self.agreement.k}",
            float(self.agreement.overlap.mean()),
            interval=self.agreement.interval,
            n=len(self.agreement.ids),
        )


def compare_unlabelled(  # noqa: PLR0913  a job has as many knobs as it has
    collection: ImageCollection,
    a: str | None = None,
    b: str | None = None,
    *,
    k: int = 10,
    names: AnchorSet | None = None,
    texts: Texts | Encoder | Floats | None = None,
    where: Filter | None = None,
    min_class_size: int = 2,
    seed: int = 0,
    run: Run | None = None,
) -> UnlabelledComparison:
    """Compare two vectors without labels: how many neighbours they share, and where they do not.

    Parameters
    ----------
    collection : ImageCollection
    a, b : str, optional
        As in `compare`.
    k : int
        Neighbours that are compared.
    names : AnchorSet, optional
        Class names for zero-shot pseudo-labels.
    texts : Texts, Encoder or ndarray of shape (n_names, d), optional
        Embeds the names' prompts in the space of `a`, or their embeddings.
    where : Filter, optional
        Only points that match take part; see `parse_filter`.
    min_class_size : int
        Pseudo-classes with fewer images are left out.
    seed : int
        Random seed of the queries, where there are many images.
    run : Run, optional
        Records the overlap.

    Raises
    ------
    InputError
        If there are not more than k images, none matches, or no text tower for the names.
    """
    run = run or Run()
    a, b = vector_pair(collection, a, b)
    table = read_labelled(collection, [a, b], [], where=where)
    agreement = neighbour_overlap(table, (a, b), k=k, seed=seed)
    distances = other_distances(collection, table, (a, b))
    by_distance = None
    if distances and "Manhattan" not in distances.values():
        by_distance = neighbour_overlap(table, (a, b), k=k, seed=seed, distances=distances)
    found = UnlabelledComparison(
        points=Points.of(collection, table, seed, where),
        run_id=run.id,
        agreement=agreement,
        disagreements=_disagreements(collection, agreement, where, gone_from(table)),
        pseudo_labels=None
        if names is None
        else _pseudo_labelled(table, (a, b), names, texts, min_class_size),
        cost=vector_costs(collection, table, [a, b], where=where),
        distances=distances,
        agreement_by_distance=by_distance,
    )
    log_source(run, collection, found.points)
    run.keep(found)
    return found


def _pseudo_labelled(
    table: VectorTable,
    vectors: tuple[str, str],
    names: AnchorSet,
    texts: Texts | Encoder | Floats | None,
    min_class_size: int,
) -> dict[str, Any]:
    if texts is None:
        raise InputError("pseudo-labels need the texts of their names; give an encoder")
    texts = texts_of(texts)
    embedded = texts.embed(names.prompts())
    if embedded is None:
        raise InputError(f"{texts.name} has no text tower; pseudo-labels need one")
    labels = pseudo_labels(table.vectors[vectors[0]], embedded, names.names)
    table.payload[_PSEUDO] = labels.confident(LEAST_CONFIDENCE)
    task = RetrievalTask.from_table(table, _PSEUDO, min_class_size=min_class_size)
    beside = beside_tasks(table, [task], vectors).get(_PSEUDO, {})
    return {
        **labels.to_dict(LEAST_CONFIDENCE),
        "texts": texts.name,
        "map": {vector: run_task(task, table, vector, ks=()).map for vector in vectors},
        "label_evidence": {vector: one.to_dict() for vector, one in beside.items()} or None,
    }


def _disagreements(
    collection: ImageCollection,
    agreement: Agreement,
    where: Filter | None,
    without: Collection[PointId],
) -> list[dict[str, Any]]:
    """Return the queries that have fewest neighbours in common, with all their answers."""
    k = agreement.k
    how: Any = {"k": k, "where": where, "without": without}
    overlap = dict(zip(agreement.ids, agreement.overlap.tolist(), strict=True))
    return [
        {
            "id": point,
            "overlap": overlap[point],
            "answers": {
                vector: describe(
                    collection,
                    collection.shown_neighbours(point, using=vector, **how),
                )
                for vector in agreement.vectors
            },
        }
        for point in agreement.disagreements(N_DISAGREEMENTS)
    ]


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    nearest = {vector: [hit["id"] for hit in hits] for vector, hits in row["answers"].items()}
    return {"id": row["id"], "overlap": row["overlap"], "nearest": nearest}


def _sentences(agreement: Agreement, labels: dict[str, Any] | None) -> list[str]:
    a, b = agreement.vectors
    told = [
        f"No labels, hence no verdict: of the {agreement.k} nearest images {a} and {b} share "
        f"{agreement.overlap.mean():.1%} ({_asked(agreement)}). That says how much "
        f"would change, not whether for the better; judge the images on which they disagree."
    ]
    if labels is not None:
        first, second = (labels["map"][vector] for vector in (a, b))
        told.append(
            f"By zero-shot pseudo-labels ({labels['n_confident']:,} of {labels['n_images']:,} "
            f"images with a confidence of at least {labels['least_confidence']}; mean "
            f"{labels['confidence']:.2f}) mAP is {first:.4f} with {a} and {second:.4f} with {b}. "
            f"These labels come from the texts themselves and favour what texts can separate: "
            f"a hint, not evidence."
        )
    return told


def _asked(agreement: Agreement) -> str:
    n, n_images = len(agreement.ids), agreement.n_images
    if n == n_images:
        return f"all {n:,} images as queries"
    low, high = agreement.interval
    return f"95% interval [{low:.1%}, {high:.1%}], {n:,} of {n_images:,} images as queries"
