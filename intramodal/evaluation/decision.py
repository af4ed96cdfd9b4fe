"""What to do with the verdicts of all fields: which vector for which searches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import Any

from intramodal.evaluation.gate import ADOPTED
from intramodal.evaluation.next_maps import by_map
from intramodal.evaluation.verdict import Outcome, capital
from intramodal.store.query_side import QuerySide

_KEPT = ("worse", "mixed")


@dataclass(frozen=True)
class Decision:
    """Which of two vectors to search with, by label field.

    Parameters
    ----------
    vectors : (str, str)
        A, in use, and B.
    outcomes : dict of str to str
        By field.
    needs : dict of str to str
        What would settle a field that is not settled, in words; fields that nothing would settle
        are missing.
    dims : (int, int)
    collection : str or None
        None for a table: there is nothing to deploy.
    side : QuerySide or None
        What B is, where nothing is stored for it.
    next_maps : dict of str to sequence of str
        By field, which maps to try next where B does not serve.
    """

    vectors: tuple[str, str]
    outcomes: Mapping[str, Outcome]
    needs: Mapping[str, str]
    dims: tuple[int, int]
    collection: str | None
    side: QuerySide | None = None
    next_maps: Mapping[str, Sequence[str]] = dataclass_field(default_factory=dict)

    def fields(self, *outcomes: str) -> list[str]:
        """Return the fields of some outcomes."""
        return [name for name, outcome in self.outcomes.items() if outcome in outcomes]

    @property
    def sentence(self) -> str:
        """Which vector for which searches, and what is undecided."""
        a, b = self.vectors
        parts = []
        if adopted := self.fields(*ADOPTED):
            parts.append(f"use {b} for {', '.join(adopted)}")
        if kept := self.fields(*_KEPT):
            parts.append(f"keep {a} for {', '.join(kept)}")
        if easy := self.fields("too_easy"):
            parts.append(f"either will do for {', '.join(easy)}")
        if undecided := self.fields("inconclusive"):
            told = [f"{f} ({self.needs[f]})" if f in self.needs else f for f in undecided]
            parts.append(f"undecided: {', '.join(told)}")
        return f"{capital('; '.join(parts))}." + (f" {self.saving}" if adopted else "")

    @property
    def saving(self) -> str:
        """What vector B saves where it serves."""
        a, b = (4 * dim for dim in self.dims)
        if self.side is not None:
            stored = 4 * self.side.projection.dim_out
            return (
                f"Nothing is stored for {self.vectors[1]}; stored as a vector of its own, the "
                f"projection would take {stored:,} instead of {a:,} bytes per vector."
            )
        if b >= a:
            return f"{self.vectors[1]} takes {b:,} bytes per vector ({self.vectors[0]}: {a:,})."
        return f"There {self.vectors[1]} takes {b:,} instead of {a:,} bytes per vector."

    @property
    def snippet(self) -> str | None:
        """How a client searches with B; None where no field adopts it."""
        if self.collection is None or not self.fields(*ADOPTED):
            return None
        b = self.vectors[1]
        if self.side is not None:
            return self._sent(self.side)
        return f"client.query_points({self.collection!r}, query=POINT_ID, using={b!r}, limit=10)"

    def _sent(self, side: QuerySide) -> str:
        """Return how a client searches with a projected query."""
        query = "query=projection.query(vector[None])[0]"
        how = f"limit={side.rerank}, with_vectors=True" if side.rerank else "limit=10"
        sent = f"client.query_points({self.collection!r}, {query}, using={side.vector!r}, {how})"
        return f"{sent}  # rank by the cosines of projection.apply" if side.rerank else sent

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        a, b = self.vectors
        return {
            "sentence": self.sentence,
            "use": {b: self.fields(*ADOPTED), a: self.fields(*_KEPT)},
            "too_easy": self.fields("too_easy"),
            "undecided": {f: self.needs.get(f) for f in self.fields("inconclusive")},
            "bytes_per_vector": {a: 4 * self.dims[0], b: 4 * self.dims[1]},
            "snippet": self.snippet,
            "next_maps": by_map(self.next_maps),
        }
