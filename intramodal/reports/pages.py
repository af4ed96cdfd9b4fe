"""Pages of one result: a search, disagreements, misalignment, the recovery curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from intramodal import plots
from intramodal.evaluation.agreement import UnlabelledComparison
from intramodal.reports.page import render_page
from intramodal.reports.thumbnails import Picture, data_uri, thumbnail
from intramodal.store.collection import ImageCollection
from intramodal.store.search import SearchResults
from intramodal.types import PointId

SIDE = 160
"""Longer side of a picture in pixels; about 5 kB each."""


@dataclass(frozen=True)
class Found:
    """One answer and its score: cosine, or what the vector is compared by."""

    picture: Picture
    score: float


@dataclass(frozen=True)
class SearchPage:
    """One query with its rankings. All texts are untrusted."""

    collection: str
    query: Picture
    """Without an image where the query is a text, or could not be reached."""
    kind: str
    """One of "image", "text", "id"."""
    is_exact: bool
    """Whether every point was compared, instead of asking the index."""
    rankings: Mapping[str, Sequence[Found]]
    """By vector, best first."""

    @property
    def n_pictures(self) -> int:
        """How many answers could be shown."""
        return sum(bool(hit.picture.image) for hits in self.rankings.values() for hit in hits)

    def elsewhere(self, point: str, vector: str) -> list[tuple[str, int | None]]:
        """Return the rank of a point under the other vectors; None beyond their answers.

        Examples
        --------
        >>> cat = Found(Picture("7", "cat"), 0.9)
        >>> page = SearchPage("pets", cat.picture, "id", True, {"raw": [cat], "pca": []})
        >>> page.elsewhere("7", "raw")
        [('pca', None)]
        """
        return [
            (other, next((n for n, hit in enumerate(hits, 1) if hit.picture.id == point), None))
            for other, hits in self.rankings.items()
            if other != vector
        ]

    def html(self) -> str:
        """Return the page."""
        return render_page("search.html.j2", page=self)


def picture(folder: Path | None, point: PointId, payload: Mapping[str, Any]) -> Picture:
    """Return a stored picture with its caption; its paths are relative to `folder`."""
    path, label = payload.get("path"), payload.get("label")
    caption = " · ".join(str(part) for part in (label, path or point) if part is not None)
    return Picture(str(point), caption, thumbnail(folder or Path(), path, side=SIDE))


def found(folder: Path | None, answers: Sequence[Mapping[str, Any]]) -> list[Found]:
    """Return answers of `describe` with their pictures."""
    return [Found(picture(folder, hit["id"], hit["payload"]), hit["score"]) for hit in answers]


def search_page(
    collection: ImageCollection,
    results: SearchResults,
    *,
    image: Path | None = None,
    text: str | None = None,
    point: PointId | None = None,
    exact: bool = False,
    pictures: Path | None = None,
) -> SearchPage:
    """Return the page of a search; the payload's paths are relative to the folder `pictures`."""
    kind = "id" if point is not None else "text" if text is not None else "image"
    if text is not None:
        query = Picture("", text)
    elif image is not None:
        query = Picture("", image.name, data_uri(image.read_bytes(), side=SIDE))
    else:
        page = collection.store.retrieve(collection.name, [point or ""], payload=True)
        query = picture(pictures, page.ids[0], page.payloads[0])
    rankings = {vector: found(pictures, hits) for vector, hits in results.vectors.items()}
    return SearchPage(results.collection, query, kind, exact, rankings)


@dataclass(frozen=True)
class Disagreement:
    """One query. All texts are untrusted."""

    query: Picture
    n_common: int
    """How many of the `k` nearest both vectors have."""
    k: int
    rankings: Mapping[str, Sequence[Found]]
    """By vector, best first."""

    def common(self) -> set[str]:
        """Return the ids that every vector has among its answers."""
        ids = [{hit.picture.id for hit in hits} for hits in self.rankings.values()]
        return set.intersection(*ids) if ids else set()


@dataclass(frozen=True)
class DisagreementsPage:
    """The queries on which two vectors agree least."""

    rows: Sequence[Disagreement]
    facts: Mapping[str, Any]
    """What ``intramodal compare --json`` prints without labels."""

    def html(self) -> str:
        """Return the page."""
        return render_page("disagreements.html.j2", rows=self.rows, facts=self.facts)


def disagreements_page(
    collection: ImageCollection, results: UnlabelledComparison, *, pictures: Path | None = None
) -> DisagreementsPage:
    """Return the page of the images on which two vectors agree least."""
    rows, k = results.disagreements, results.agreement.k
    asked = collection.store.retrieve(collection.name, [row["id"] for row in rows], payload=True)
    shown = [
        Disagreement(
            picture(pictures, row["id"], payload),
            round(row["overlap"] * k),
            k,
            {name: found(pictures, hits) for name, hits in row["answers"].items()},
        )
        for row, payload in zip(rows, asked.payloads, strict=True)
    ]
    return DisagreementsPage(shown, results.to_dict())


_CLASS_COLORS = (plots.GAIN, plots.LOSS)
_MODALITY_COLORS = (plots.B_COLOR, plots.A_COLOR)


@dataclass(frozen=True)
class MisalignmentPage:
    """Figures and histograms of several vectors, side by side. All texts are untrusted."""

    result: Mapping[str, Any]
    """What ``intramodal evaluate misalignment --json`` prints."""
    command: str
    """How it was made."""

    def html(self) -> str:
        """Return the page."""
        drawn = [
            {
                "row": row,
                "by_class": _histogram(row, _CLASS_COLORS, f"by {row['field']}"),
                "by_modality": _by_modality(row),
            }
            for row in self.result["rows"]
        ]
        return render_page(
            "misalignment.html.j2", result=self.result, drawn=drawn, command=self.command
        )


@dataclass(frozen=True)
class RecoveryPage:
    """The recovery curve. All texts are untrusted."""

    result: Mapping[str, Any]
    """What ``intramodal evaluate recovery --json`` prints."""
    command: str
    """How it was made."""

    def html(self) -> str:
        """Return the page."""
        curve = plots.recovery_plot(self.result)
        return render_page(
            "recovery.html.j2", result=self.result, curve=curve, command=self.command
        )


def _by_modality(row: Mapping[str, Any]) -> str | None:
    modality = row["modality"]
    if modality is None:
        return None
    return _histogram({**row, **modality}, _MODALITY_COLORS, f"and texts, {row['field']}")


def _histogram(row: Mapping[str, Any], colors: tuple[str, str], what: str) -> str:
    title = f"{row['collection']}:{row['vector']} {what}"
    return plots.histogram_plot(title, row["parts"], row["edges"], colors)
