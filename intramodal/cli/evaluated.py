"""What the tables of several evaluations share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from intramodal.cli.output import note, number


def interval(ends: Sequence[float] | None) -> str:
    """Return an interval as tables show it."""
    return "–" if ends is None else f"[{number(ends[0])}, {number(ends[1])}]"


def note_populations(rows: Sequence[Mapping[str, Any]]) -> None:
    """Say on stderr what the intervals were resampled from."""
    names = dict.fromkeys(row["population"] for row in rows if row["population"])
    if names:
        note(f"95% intervals: other {' or '.join(names)} like these (--cluster)")


def note_left_out(result: Mapping[str, Any], fields: Mapping[str, Mapping[str, int]]) -> None:
    """Say on stderr which points took no part."""
    reasons = [(result["n_incomplete"], "points lack one of the vectors")]
    for field, counts in fields.items():
        reasons.append((counts["n_missing"], f"points have no value in {field!r}"))
        reasons.append((counts["n_dropped"], f"points are of classes of {field!r} too small"))
    drawn = result.get("sample")
    if drawn:
        note(f"drawn at random: {drawn['n_points']:,} of {drawn['of']:,} points (--sample)")
    for n, reason in reasons:
        if n:
            note(f"left out: {n:,} {reason}")
