"""What a backfill did, in place or by a copy."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from intramodal.ingest.backfill.points import told


@dataclass(frozen=True)
class BackfillSummary:
    """What a backfill or a recomputation did.

    Parameters
    ----------
    collection, source, vector : str
    projected, skipped, unprojectable : int
        Points that got the vector; that had it and were left alone; that cannot have it: their
        source vector is missing, zero or not finite.
    failures : list of dict
        "item", "stage" and "reason" of each that cannot; the first 10,000.
    seconds, reindex_seconds : float
        Until all was written; until the index was rebuilt after that.
    """

    collection: str
    source: str
    vector: str
    projected: int
    skipped: int
    unprojectable: int
    failures: list[dict[str, str]]
    seconds: float
    reindex_seconds: float = 0.0

    @property
    def sentence(self) -> str:
        """What a person needs to know."""
        rest = f"{told(self.unprojectable)} cannot be projected"
        if not self.projected:
            return f"nothing to do, {rest}"
        return f"{told(self.projected)} of {self.collection!r} got {self.vector!r}, {rest}"

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {**asdict(self), "sentence": self.sentence}


@dataclass(frozen=True)
class CopySummary:
    """What a copy into a new collection did.

    Parameters
    ----------
    collection, new_collection, source, vector : str
        `source` is the name in the new collection.
    copied, projected, skipped, unprojectable : int
        Points written; those of them (or found there without it) that got the vector; that had it
        when this run began; that cannot have it.
    compared : int
        Points of the seeded sample, all equal in both collections.
    only_in_new : int
        Points of the new collection that the old one lacks: deleted there meanwhile, or written
        to the new one alone. They are left as they are.
    aliases : list of str
        Those that point at the new collection since this run.
    failures : list of dict
        "item", "stage" and "reason"; the first 10,000.
    seconds, reindex_seconds : float
    """

    collection: str
    new_collection: str
    source: str
    vector: str
    copied: int
    projected: int
    skipped: int
    unprojectable: int
    compared: int
    only_in_new: int
    aliases: list[str]
    failures: list[dict[str, str]]
    seconds: float
    reindex_seconds: float = 0.0

    @property
    def sentence(self) -> str:
        """What a person needs to know."""
        done = f"{told(self.copied)} copied, {self.projected:,} projected"
        if not (self.copied or self.projected):
            done = "nothing to do"
        parts = [f"{done}, {told(self.unprojectable)} cannot be projected"]
        if self.only_in_new:
            parts.append(
                f"{self.new_collection!r} holds {told(self.only_in_new)} that "
                f"{self.collection!r} lacks: deleted there meanwhile, or written to the new one "
                f"alone; nothing was deleted here"
            )
        if self.aliases:
            moved = ", ".join(repr(alias) for alias in self.aliases)
            parts.append(f"{moved} now means {self.new_collection!r}")
        elif self.copied:
            parts.append(
                f"no alias was switched: give clients the new name {self.new_collection!r} (an "
                f"alias cannot take the name of the collection {self.collection!r})"
            )
        return "; ".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {**asdict(self), "sentence": self.sentence}
