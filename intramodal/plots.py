"""Plots as inline SVG: axes with units, n in the title, intervals where there are any.

Text and lines are drawn in the page's own colour, so one SVG serves light and dark.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from intramodal.files import write_text
from intramodal.svg import INK, SMALL, Axes, Scale, Stroke

A_COLOR, B_COLOR = "#8a8f98", "#2f7de1"
GAIN, LOSS, UNSURE = "#2e9e5b", "#d1495b", "#8a8f98"

COLORS = {
    "better": "gain",
    "not_worse": "gain",
    "mixed": "loss",
    "worse": "loss",
    "too_easy": "unsure",
    "inconclusive": "unsure",
}
"""Colour class of the outcomes: of the cards and of the plots."""
PAINTS = {"gain": GAIN, "loss": LOSS, "unsure": UNSURE}

_LEAST_ERROR = 1e-16
"""Where an error is rounding alone, below which a logarithmic axis says nothing."""


def shown(text: object, limit: int = 28) -> str:
    """Return untrusted text for an axis: printable, one line, shortened."""
    clean = "".join(c if c.isprintable() else " " for c in str(text))
    return clean if len(clean) <= limit else f"{clean[: limit - 1]}…"


_SIZE = re.compile(r'width="([0-9.]+)pt" height="([0-9.]+)pt"')
_GAP = 12.0
"""Between plots that are stacked, in points."""


@dataclass(frozen=True, repr=False)
class Plot:
    """What ``plot()`` of a result returns: one or more plots that a notebook shows.

    Parameters
    ----------
    panels : tuple of str
        SVG elements of this module, one per plot.
    """

    panels: tuple[str, ...]

    @classmethod
    def of(cls, panels: Iterable[str]) -> Plot:
        """Return the plot of some SVG elements."""
        return cls(tuple(panels))

    @property
    def svg(self) -> str:
        """One SVG document; several plots are stacked."""
        width, height, placed = 0.0, 0.0, []
        for panel in self.panels:
            wide, high = map(float, _SIZE.search(panel).groups())  # type: ignore[union-attr]
            size = f'y="{height:g}" width="{wide:g}" height="{high:g}"'
            placed.append(_SIZE.sub(size, panel, count=1))
            width, height = max(width, wide), height + high + _GAP
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}pt" height="{height:g}pt" '
            f'viewBox="0 0 {width:g} {height:g}" font-family="sans-serif">{"".join(placed)}</svg>'
        )

    def save(self, path: str | Path) -> None:
        """Write the SVG to a file."""
        write_text(Path(path), self.svg)

    def _repr_svg_(self) -> str:
        return self.svg

    def _repr_html_(self) -> str:
        # Inline, so that text and lines take the colour of the notebook's theme.
        style = "display:flex;flex-wrap:wrap;gap:1em;font-family:sans-serif"
        return f'<div style="{style}">{"".join(self.panels)}</div>'

    def __repr__(self) -> str:
        """Return the number of plots."""
        n = len(self.panels)
        return f"Plot({n} plot{'s' * (n != 1)}, shown in a notebook; save(path) writes SVG)"


DASHED, DOTTED = "5.5 2.5", "1.2 1.6"
DOT = 2.25
"""Radius of a dot on a line."""
THIN, THIN_DOTS = Stroke(INK, 0.8), Stroke(INK, 0.8, DOTTED)


def delta_plot(
    rows: Sequence[tuple[str, Mapping[str, Any], str]], a: str, b: str, what: str
) -> str:
    """Return differences with their 95% intervals, one row each.

    `rows` are names, "delta" and "interval" of each, and the color.
    """
    axes = Axes(what, (4.7, 1.0 + 0.26 * len(rows)))
    for y, (name, row, color) in enumerate(rows):
        low, high = row["interval"] or (row["delta"], row["delta"])
        told = f"{shown(name)}: {row['delta']:+.3f} [{low:+.3f}, {high:+.3f}]"
        axes.line([low, high], [y, y], Stroke(color, 2.5, has_round_ends=True))
        axes.dots([row["delta"]], [y], color, radius=3.5, titles=[told])
    axes.across(0, THIN, axis="x")
    axes.y = _named([name for name, _, _ in rows], limits=(len(rows) - 0.5, -0.5))
    axes.x = Scale(f"{shown(b)} minus {shown(a)}\n(fraction, with its 95% interval)")
    return axes.svg()


def figure_plot(
    rows: Sequence[tuple[str, float, Sequence[float] | None]], what: str, title: str = ""
) -> str:
    """Return figures with their 95% intervals where there are any, one row each.

    `rows` are names, values and intervals.
    """
    axes = Axes(f"{what} {title}".strip(), (4.7, 1.0 + 0.26 * len(rows)), title=shown(title, 60))
    for y, (name, value, interval) in enumerate(rows):
        low, high = interval or (value, value)
        within = f" [{low:.3f}, {high:.3f}]" if interval else ""
        axes.line([low, high], [y, y], Stroke(B_COLOR, 2.5, has_round_ends=True))
        title = f"{shown(name)}: {value:.3f}{within}"
        axes.dots([value], [y], B_COLOR, radius=3.5, titles=[title])
    axes.y = _named([name for name, *_ in rows], limits=(len(rows) - 0.5, -0.5))
    axes.x = Scale(f"{what} (fraction)")
    return axes.svg()


def _named(names: Sequence[str], **about: Any) -> Scale:
    """Return an axis with a name at 0, 1, 2 and so on."""
    return Scale(ticks=[(n, shown(name)) for n, name in enumerate(names)], **about)


def fewshot_plot(
    field: str,
    fewshot: Mapping[str, Any],
    a: str,
    b: str,
    *,
    n_classes: int | None = None,
    color: str = B_COLOR,
) -> str:
    """Return accuracy by number of shots, one pair of lines per classifier; B in `color`.

    Bars are the 95% interval of the difference, drawn from A: where a bar does not reach A's
    line, the two differ.
    """
    axes = Axes(f"few-shot accuracy by {shown(field)}", (3.6, 2.8))
    for dash, (classifier, shots) in zip(("", DASHED, DOTTED), fewshot.items(), strict=False):
        points = [(int(s), row) for s, row in shots.items() if row["a"] is not None]
        for key, name, paint in (("a", a, A_COLOR), ("b", b, color)):
            label = f"{shown(name)}, {shown(classifier)}"
            values = [row[key] for _, row in points]
            told = [
                f"{label}, {s} shots: {v:.3f}" for (s, _), v in zip(points, values, strict=True)
            ]
            at, stroke = [s for s, _ in points], Stroke(paint, dash=dash)
            axes.line(at, values, stroke, dot=DOT, label=label, titles=told)
        for s, *ends in _interval_bars(points):
            axes.line([s, s], ends, Stroke(color, 1.2, opacity=0.6))
    ticks = sorted({int(s) for shots in fewshot.values() for s in shots})
    axes.x = Scale("labelled images per class (shots)", ticks=[(t, str(t)) for t in ticks], base=2)
    axes.y = Scale("accuracy (fraction)")
    n = f" (n={n_classes:,} classes)" if n_classes is not None else ""
    axes.title = f"{shown(field)}{n}"
    axes.legend()
    return axes.svg()


_SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#7f7f7f")
"""Okabe and Ito's colours, which most people can tell apart, on white and on black."""


def shots_plot(
    title: str, shots: Sequence[int], lines: Mapping[str, Sequence[float | None]], *, what: str
) -> str:
    """Return one line for each method by number of shots; what could not be computed is left out.

    Each line has one value a number of shots.
    """
    axes = Axes(f"{title} by number of shots", (4.8, 3.4))
    for n, (name, values) in enumerate(lines.items()):
        there = [(s, v) for s, v in zip(shots, values, strict=True) if v is not None]
        dash = ("", DASHED, DOTTED)[n // len(_SERIES) % 3]
        stroke = Stroke(_SERIES[n % len(_SERIES)], dash=dash)
        axes.line([s for s, _ in there], [v for _, v in there], stroke, dot=DOT, label=shown(name))
    axes.x = Scale("labelled images per class (shots)", ticks=[(s, str(s)) for s in shots], base=2)
    axes.y = Scale(what)
    axes.title = shown(title, 60)
    axes.legend()
    return axes.svg()


def _interval_bars(
    points: Sequence[tuple[int, Mapping[str, Any]]],
) -> list[tuple[int, float, float]]:
    """Return the number of shots and both ends of every bar."""
    bars = []
    for shots, row in points:
        if row.get("interval"):
            # An accuracy is a fraction, whatever A and a difference add up to.
            low, high = (min(1.0, max(0.0, row["a"] + end)) for end in row["interval"])
            bars.append((shots, low, high))
    return bars


def class_plot(field: str, deltas: Sequence[Mapping[str, Any]], *, n_each: int = 8) -> str:
    """Return the classes that gain and lose most AP; rows have "class", "delta", "n_queries"."""
    ordered = sorted(deltas, key=lambda row: row["delta"])
    rows = ordered if len(ordered) <= 2 * n_each else ordered[:n_each] + ordered[-n_each:]
    axes = Axes(f"classes of {shown(field)}", (3.6, 1.05 + 0.19 * len(rows)))
    for n, row in enumerate(rows):
        end, color = row["delta"], GAIN if row["delta"] > 0 else LOSS
        told = f"{shown(row['class'])}: {end:+.3f} ({row['n_queries']} queries)"
        axes.area([0, end, end, 0], [n - 0.4, n - 0.4, n + 0.4, n + 0.4], color, title=told)
    axes.across(0, THIN, axis="x")
    names = [f"{shown(row['class'], 22)} ({row['n_queries']})" for row in rows]
    axes.y = Scale(ticks=list(enumerate(names)), size=SMALL)
    axes.x = Scale("change in mean AP (fraction)\nqueries in brackets", is_based=True)
    axes.title = shown(field)
    return axes.svg()


def histogram_plot(
    title: str,
    parts: Sequence[Mapping[str, Any]],
    edges: Sequence[float],
    colors: Sequence[str],
    *,
    what: str = "cosine",
) -> str:
    """Return overlaid histograms that share their bins, with their intervals where known.

    Each part has "label", "density" (n,) of area 1, and perhaps "interval" (2, n); `edges`
    (n + 1,) are values of `what`.
    """
    axes = Axes(f"histogram {title}", (3.6, 2.6))
    x = np.repeat(edges, 2)[1:-1]
    for part, color in zip(parts, colors, strict=False):
        steps = np.repeat(part["density"], 2)
        closed = [x[0], *x, x[-1]], [0, *steps, 0]
        axes.area(*closed, color, 0.25)
        axes.line(*closed, Stroke(color, 1.0), label=shown(part["label"], 44))
        if part.get("interval"):
            axes.band(x, [np.repeat(end, 2) for end in part["interval"]], color, 0.45)
    axes.x = Scale(what)
    axes.y = Scale("density", is_based=True, room=1.3)
    axes.title = shown(title, 60)
    axes.legend("upper right")
    return axes.svg()


def precision_recall_plot(curve: Mapping[str, Any], *, color: str = B_COLOR) -> str:
    """Return precision by recall of both vectors, from `PrecisionRecall.to_dict`; B in `color`."""
    axes = Axes(f"precision and recall by {shown(curve['field'])}", (3.6, 2.8))
    lines = zip(curve["precision"].items(), (A_COLOR, color), strict=False)
    for (name, precision), paint in lines:
        axes.line(curve["recall"], precision, Stroke(paint), label=shown(name))
        if name in curve.get("interval", {}):
            axes.band(curve["recall"], curve["interval"][name], paint, 0.22)
    axes.across(curve["chance"], THIN_DOTS, label="random ranking")
    axes.x = Scale("recall (fraction)", limits=(0, 1))
    axes.y = Scale("precision (fraction)", limits=(0, 1.02))
    n, averaged = curve["n_queries"], curve["n_averaged"]
    of = "" if n == averaged else f" of {n:,}"
    axes.title = f"{shown(curve['field'])} (n={averaged:,}{of} queries)"
    axes.legend()
    return axes.svg()


def spectrum_plot(ratio: Sequence[float], n_kept: int, n_anchors: int) -> str:
    """Return the cumulative explained variance of the anchor texts, kept part shaded."""
    total = np.cumsum(np.asarray(ratio, dtype=np.float64))
    axes = Axes("spectrum of the anchors", (3.6, 2.6))
    axes.area([0, n_kept, n_kept, 0], [0, 0, 1.02, 1.02], B_COLOR, 0.12)
    axes.line(np.arange(1, len(total) + 1), total, Stroke(B_COLOR))
    axes.x = Scale("components")
    axes.y = Scale("cumulative variance (fraction)", limits=(0, 1.02))
    axes.title = f"{n_anchors:,} anchors; {n_kept} of {len(total)} kept"
    return axes.svg()


def sweep_plot(sweep: Mapping[str, Any], *, color: str = B_COLOR) -> str:
    """Return mAP by number of kept dimensions in `color`, the knee marked.

    `sweep` has "field", "dims" and "map" of one length, "raw_map", "knee" (a number of
    dimensions or None), and perhaps "n_queries".
    """
    axes = Axes(f"dimensions for {shown(sweep['field'])}", (3.6, 2.6))
    told = [
        f"{d:,} dimensions: mAP {m:.3f}" for d, m in zip(sweep["dims"], sweep["map"], strict=True)
    ]
    axes.line(sweep["dims"], sweep["map"], Stroke(color), dot=DOT, titles=told)
    axes.across(sweep["raw_map"], Stroke(A_COLOR, dash=DASHED), label="raw")
    if sweep["knee"] is not None:
        axes.across(sweep["knee"], THIN_DOTS, axis="x", label="knee")
    axes.x, axes.y = Scale("kept dimensions"), Scale("mAP (fraction)")
    n = f" (n={sweep['n_queries']:,} queries)" if "n_queries" in sweep else ""
    axes.title = f"{shown(sweep['field'])}{n}"
    axes.legend()
    return axes.svg()


def recovery_plot(result: Mapping[str, Any]) -> str:
    """Return the error of recovered similarities by number of anchors: `RecoveryCurve.to_dict`."""
    rows = result["curve"]
    sizes = [row["n_anchors"] for row in rows]
    errors = [max(row["rms"], _LEAST_ERROR) for row in rows]
    axes = Axes("recovery by number of anchors", (4.8, 3.2))
    for size, error, row in zip(sizes, errors, rows, strict=True):
        around = row["rms_error"] or 0
        # A lower end below zero has no place on a logarithmic axis.
        axes.line(
            [size, size], [max(error - around, 0.1 * error), error + around], Stroke(B_COLOR)
        )
    label = "error ± standard error over subsets"
    axes.line(sizes, errors, Stroke(B_COLOR), dot=DOT, label=label)
    axes.across(result["spread"], Stroke(A_COLOR, dash=DASHED), label="spread of the true ones")
    axes.across(result["dim"], THIN_DOTS, axis="x", label="dimensions")
    axes.x, axes.y = Scale("anchors (texts)"), Scale("RMS error of similarity", base=10)
    n_images, n_pairs = (f"{result[name]:,}" for name in ("n_images", "n_pairs"))
    axes.title = f"{n_images} images, {n_pairs} pairs, {result['n_subsets']} subsets"
    axes.legend()
    return axes.svg()
