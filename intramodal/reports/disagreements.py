"""The queries on which two vectors disagree most, side by side, for a person to judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from intramodal.reports.document import Picture
from intramodal.reports.page import write_page
from intramodal.reports.search import Found


@dataclass(frozen=True)
class Disagreement:
    """One query. All texts are untrusted.

    Parameters
    ----------
    query : Picture
    n_common, k : int
        How many of the k nearest both vectors have.
    rankings : dict of str to sequence of Found
        By vector, best first.
    """

    query: Picture
    n_common: int
    k: int
    rankings: Mapping[str, Sequence[Found]]

    def common(self) -> set[str]:
        """Return the ids that every vector has among its answers."""
        ids = [{hit.picture.id for hit in hits} for hits in self.rankings.values()]
        return set.intersection(*ids) if ids else set()


def render_disagreements(
    rows: Sequence[Disagreement], path: Path, *, facts: Mapping[str, Any]
) -> None:
    """Write one self-contained page; `facts` is what ``compare --json`` prints."""
    write_page("disagreements.html.j2", path, rows=rows, facts=facts)
