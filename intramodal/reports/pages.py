"""Pages of one result: a search, disagreements, misalignment, the recovery curve."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from intramodal import plots
from intramodal.errors import InputError
from intramodal.evaluation.agreement import UnlabelledComparison
from intramodal.evaluation.held_out import is_seen
from intramodal.evaluation.labels import share_label
from intramodal.evaluation.preference import VOTES_FORMAT
from intramodal.reports.page import render_page
from intramodal.reports.pictures import Picture, PictureSource, data_uri, payloads
from intramodal.store.collection import ImageCollection
from intramodal.store.fields import value_at
from intramodal.store.manifest import VectorOrigin
from intramodal.store.search import SearchResults
from intramodal.types import PointId, short_repr

SIDE = 160
"""Longer side of a picture in pixels; about 5 kB each."""


@dataclass(frozen=True)
class Found:
    """One answer and its score: cosine, or what the vector is compared by."""

    picture: Picture
    score: float
    is_relevant: bool | None = None
    """Whether it shares the query's label; None where the query has none."""
    key: PointId = ""
    """Of the point, as the store has it."""


@short_repr
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
    label: str | None = None
    """The payload field that says what is relevant; None where the query has none."""
    no_pictures: str = ""
    """Why no picture is shown; empty where one is."""
    n_seen: Mapping[str, int] = field(default_factory=dict)
    """By vector, how many answers are not marked because its map has seen them, or the query."""

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


def search_page(  # noqa: PLR0913  a query has one of three forms
    collection: ImageCollection,
    results: SearchResults,
    *,
    image: Path | None = None,
    text: str | None = None,
    point: PointId | None = None,
    exact: bool = False,
    pictures: PictureSource = PictureSource(),
    label: str | None = None,
) -> SearchPage:
    """Return the page of a search.

    `label` is the payload field that says which answers to a stored point are right, by default
    ``label``.
    """
    name, source = label or "label", replace(pictures, side=SIDE)
    kind = "id" if point is not None else "text" if text is not None else "image"
    wanted, payload = None, {}
    if text is not None:
        query = Picture("", text)
    elif image is not None:
        query = Picture("", image.name, data_uri(image.read_bytes(), side=SIDE))
    elif point is None:
        raise InputError("a page needs its query; give image, text or point as the search had it")
    else:
        page = collection.store.retrieve(collection.name, [point], payload=True)
        payload = page.payloads[0]
        wanted = value_at(payload, name)
        if wanted is None and label is not None:
            raise InputError(
                f"point {point} has no value in field {label!r}, so no result is right or wrong; "
                f"name a field of its payload"
            )
        query = source.picture(page.ids[0], payload, label=wanted)
    asked = None if wanted is None or point is None else (point, payload)
    rankings: dict[str, list[Found]] = {}
    n_seen: dict[str, int] = {}
    for vector, hits in results.vectors.items():
        seen = _seen(results.origins.get(vector), hits, asked)
        rankings[vector] = _found(source, hits, name, wanted, seen)
        n_seen |= {vector: len(seen)} if seen else {}
    shown = [hit.picture for hits in rankings.values() for hit in hits]
    return SearchPage(
        results.collection,
        query,
        kind,
        exact,
        rankings,
        label=None if wanted is None else name,
        no_pictures=pictures.missing(shown) or "",
        n_seen=n_seen,
    )


def _seen(
    origin: VectorOrigin | None,
    answers: Sequence[Mapping[str, Any]],
    asked: tuple[PointId, Mapping[str, Any]] | None,
) -> set[PointId]:
    """Return the answers that are neither right nor wrong: its map has seen them, or the query.

    `asked` is a stored point that has a label, with its payload.
    """
    if origin is None or origin.labels is None or asked is None:
        return set()
    labels, of_all = origin.labels, is_seen(origin.labels, *asked)
    points = ((hit["id"], hit["payload"]) for hit in answers)
    return {point for point, payload in points if of_all or is_seen(labels, point, payload)}


def _found(
    source: PictureSource,
    answers: Sequence[Mapping[str, Any]],
    field: str,
    wanted: Any,
    seen: Container[PointId] = (),
) -> list[Found]:
    """Return answers of `describe` with their pictures; `wanted` is the query's label, if any.

    Those that a map has `seen` are neither right nor wrong.
    """
    found = []
    for hit in answers:
        label = value_at(hit["payload"], field)
        is_judged = wanted is not None and hit["id"] not in seen
        is_relevant = share_label(wanted, label) if is_judged else None
        picture = source.picture(hit["id"], hit["payload"], label=label)
        found.append(Found(picture, hit["score"], is_relevant, hit["id"]))
    return found


@dataclass(frozen=True)
class Disagreement:
    """One query. All texts are untrusted."""

    key: PointId
    query: Picture
    rankings: Mapping[str, Sequence[Found]]
    """By vector, best first."""
    sides: tuple[str, str]
    """Which vector is on the left and which on the right."""


@short_repr
@dataclass(frozen=True)
class JudgingPage:
    """The queries on which two vectors agree least, to be judged without knowing which is which.

    `seed` draws the sides. The votes that the page saves are read by `read_votes`.
    """

    rows: Sequence[Disagreement]
    facts: Mapping[str, Any]
    """What ``intramodal compare --json`` prints without labels."""
    seed: int
    no_pictures: str

    def html(self) -> str:
        """Return the page."""
        about = {
            "format": VOTES_FORMAT,
            "collection": self.facts["collection"],
            "vectors": self.facts["vectors"],
            "run_id": self.facts["run_id"],
            "seed": self.seed,
        }
        return render_page(
            "judge.html.j2",
            script="judge.js",
            rows=self.rows,
            facts=self.facts,
            about=about,
            no_picture=self.no_pictures,
        )


def judging_page(
    collection: ImageCollection,
    results: UnlabelledComparison,
    *,
    pictures: PictureSource = PictureSource(),
    seed: int = 0,
) -> JudgingPage:
    """Return the page of the images on which two vectors agree least."""
    rows, source = results.disagreements, replace(pictures, side=SIDE)
    queries = dict(payloads(collection, [row["id"] for row in rows]))
    a, b = results.agreement.vectors
    flips = np.random.default_rng(seed).random(len(rows)) < 0.5
    shown = [
        Disagreement(
            row["id"],
            source.picture(row["id"], queries.get(row["id"], {})),
            {name: _found(source, hits, "", None) for name, hits in row["answers"].items()},
            (b, a) if flip else (a, b),
        )
        for row, flip in zip(rows, flips, strict=True)
    ]
    seen = [hit.picture for row in shown for hits in row.rankings.values() for hit in hits]
    return JudgingPage(shown, results.to_dict(), seed, source.missing(seen) or "")


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
