"""Answers of one search under several vectors, as a page of pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from intramodal.reports.document import Picture
from intramodal.reports.page import write_page

SIDE = 160
"""Longer side of a picture in pixels; about 5 kB each."""


@dataclass(frozen=True)
class Found:
    """One answer.

    Parameters
    ----------
    picture : Picture
    score : float
        Cosine, or what the vector is compared by.
    """

    picture: Picture
    score: float


@dataclass(frozen=True)
class SearchPage:
    """One query with its rankings. All texts are untrusted.

    Parameters
    ----------
    collection : str
    query : Picture
        Without an image where the query is a text, or could not be reached.
    kind : {"image", "text", "id"}
    is_exact : bool
        Whether every point was compared, instead of asking the index.
    rankings : dict of str to sequence of Found
        By vector, best first.
    """

    collection: str
    query: Picture
    kind: str
    is_exact: bool
    rankings: Mapping[str, Sequence[Found]]

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


def render_search(page: SearchPage, path: Path) -> None:
    """Write one self-contained page; nothing in it is fetched from anywhere."""
    write_page("search.html.j2", path, page=page)
