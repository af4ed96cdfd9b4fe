"""What a report is made from: plain data that a run can store and a page can be rendered from.

A comparison stores its document with the run, so that the report can be written again later,
without the collection and without the pictures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from intramodal.errors import InputError

DOCUMENT_VERSION = 1


@dataclass(frozen=True)
class Picture:
    """One picture of a page.

    Parameters
    ----------
    id : str
        Point id.
    caption : str
        Untrusted text: label, path.
    image : str
        A ``data:`` URI of a thumbnail; empty when the picture was not reachable.
    """

    id: str
    caption: str
    image: str = ""


@dataclass(frozen=True)
class Answer:
    """One neighbour: picture, score, and whether it shares the query's label."""

    picture: Picture
    score: float
    is_relevant: bool


@dataclass(frozen=True)
class Neighbours:
    """One query with its first answers under each vector.

    Parameters
    ----------
    field : str
        The label field that says what is relevant.
    query : Picture
    ap : dict of str to float
        Average precision of this query under each vector.
    answers : dict of str to list of Answer
    """

    field: str
    query: Picture
    ap: Mapping[str, float]
    answers: Mapping[str, Sequence[Answer]]


@dataclass(frozen=True)
class ReportDocument:
    """One comparison, ready to be shown. All values are JSON values.

    Parameters
    ----------
    title : str
    about : str
        What the data and the model are, and are not; may be empty.
    comparison : dict
        The object that ``intramodal compare --json`` prints: "collection", "vectors", "fields",
        "cost", "run_id".
    details : dict of str to dict
        Per field: per-class deltas, queries that gain and lose most, as
        `Comparison.to_dict(details=True)` gives them; may be empty.
    misalignment : list of dict
        One `MisalignmentResult.to_dict()` a vector and field; may be empty. "modality" holds
        image-image and text-image cosines where texts were given.
    precision_recall : list of dict
        One `PrecisionRecall.to_dict()` a field; may be empty.
    spectrum : dict
        "explained_variance_ratio" of the anchors, "n_kept", "rank", "n_anchors"; may be empty.
    sweep : list of dict
        One dimension sweep a field; may be empty.
    neighbours : list of Neighbours
        Queries that changed most.
    run : dict
        How to reproduce: "id", "command", "started", "seconds", "seed", "versions",
        "fingerprints".
    """

    title: str
    comparison: Mapping[str, Any]
    about: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)
    misalignment: Sequence[Mapping[str, Any]] = ()
    precision_recall: Sequence[Mapping[str, Any]] = ()
    spectrum: Mapping[str, Any] = field(default_factory=dict)
    sweep: Sequence[Mapping[str, Any]] = ()
    neighbours: Sequence[Neighbours] = ()
    run: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {"version": DOCUMENT_VERSION, **asdict(self)}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> ReportDocument:
        """Read back what `to_dict` gave; raises `InputError` for anything else."""
        if stored.get("version") != DOCUMENT_VERSION:
            raise InputError(
                f"this report document has version {stored.get('version')!r}, not "
                f"{DOCUMENT_VERSION}; run the comparison again"
            )
        values = {key: value for key, value in stored.items() if key != "version"}
        values["neighbours"] = [_neighbours(row) for row in stored["neighbours"]]
        return cls(**values)


def _neighbours(row: Mapping[str, Any]) -> Neighbours:
    answers = {
        vector: [Answer(Picture(**a["picture"]), a["score"], a["is_relevant"]) for a in hits]
        for vector, hits in row["answers"].items()
    }
    return Neighbours(row["field"], Picture(**row["query"]), row["ap"], answers)
