"""The drawings of a table's page: histograms, curves by shots, the recovery curve."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from intramodal import plots
from intramodal.paper.base import Layout
from intramodal.paper.grids import Outcomes, place_of
from intramodal.paper.outcomes import Outcome

Drawing = tuple[str, str]
"""A caption and an SVG."""

_BY_CLASS = (plots.GAIN, plots.LOSS)
_BY_MODALITY = (plots.B_COLOR, plots.A_COLOR)


def drawings(layouts: Sequence[Layout], outcomes: Outcomes) -> list[Drawing]:
    """Return what the page of some tables shows beneath them."""
    curves = (one for layout in layouts if layout.shots for one in _curves(layout, outcomes))
    return [*curves, *(one for outcome in outcomes.values() for one in _of_cell(outcome))]


def _curves(layout: Layout, outcomes: Outcomes) -> Iterator[Drawing]:
    """Yield one drawing for each model, the first part of a row's head."""
    for model in dict.fromkeys(head[0] for head in layout.row_heads):
        lines = {
            ", ".join(head[1:]): [
                place_of(layout.entries[row, column], outcomes, percent=layout.percent).value
                for column in range(len(layout.shots))
            ]
            for row, head in enumerate(layout.row_heads)
            if head[0] == model
        }
        drawn = plots.shots_plot(model, layout.shots, lines, what="accuracy (percent)")
        yield f"{model}: {layout.title.lower()}", drawn


def _of_cell(outcome: Outcome) -> Iterator[Drawing]:
    named = f"{outcome.cell.dataset}, {outcome.cell.model}, {outcome.cell.method}"
    for row in outcome.extra.get("rows", ()):
        yield from _histograms(named, row)
    if "curve" in outcome.extra:
        yield f"{named}: error by number of anchors", plots.recovery_plot(outcome.extra)


def _histograms(named: str, row: dict[str, Any]) -> Iterator[Drawing]:
    by_class = plots.histogram_plot("by class", row["parts"], row["edges"], _BY_CLASS)
    yield f"{named}: same- and other-class pairs", by_class
    beside = row["modality"]
    if beside:
        drawn = plots.histogram_plot("by modality", beside["parts"], beside["edges"], _BY_MODALITY)
        yield f"{named}: text-image and image-image pairs", drawn
