"""Plots as inline SVG: axes with units, n in the title, intervals where there are any.

Text and lines are drawn in the page's own colour, so one SVG serves light and dark.
"""

from __future__ import annotations

import html
import io
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes


INK = "#010203"
"""Placeholder that becomes ``currentColor`` in the SVG."""
A_COLOR, B_COLOR = "#8a8f98", "#2f7de1"
GAIN, LOSS, UNSURE = "#2e9e5b", "#d1495b", "#8a8f98"

_STYLE = {
    "svg.fonttype": "none",  # text stays text: small, searchable, in the page's font
    "text.parse_math": False,  # labels are untrusted; a $ is a $
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    # Titles stay in place: looking for what stands in their way lays out the ticks once more.
    # An offset over the axis would stand there, so that ticks are written in full.
    "axes.titley": 1.0,
    "axes.formatter.useoffset": False,
    "legend.frameon": False,
}

_LEAST_ERROR = 1e-16
"""Where an error is rounding alone, below which a logarithmic axis says nothing."""


def shown(text: object, limit: int = 28) -> str:
    """Return untrusted text for an axis: printable, one line, shortened."""
    clean = "".join(c if c.isprintable() else " " for c in str(text))
    return clean if len(clean) <= limit else f"{clean[: limit - 1]}…"


def _draw(name: str, size: tuple[float, float], paint: Callable[[Axes], None]) -> str:
    """Return what `paint` draws on fresh axes, as one SVG element; `size` in inches."""
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    buffer = io.StringIO()
    # The salt makes ids deterministic, and different from those of other plots on the page.
    style: Any = {**_STYLE, "svg.hashsalt": name}
    with mpl.rc_context(style), warnings.catch_warnings():
        # Scripts without a glyph in matplotlib's font are drawn by the browser's.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        warnings.filterwarnings("ignore", message="Matplotlib currently does not support")
        figure = Figure(figsize=size, layout="constrained", facecolor="none")
        paint(figure.add_subplot(facecolor="none"))
        # `savefig` would draw all twice: once for the layout, which drawing does anyway.
        write: Any = FigureCanvasSVG(figure).print_svg  # matplotlib gives it no types
        write(buffer, metadata={"Date": None})
    return _inline(buffer.getvalue(), name)


def _inline(svg: str, name: str) -> str:
    body = svg[svg.index("<svg") :].replace(INK, "currentColor")
    label = html.escape(name)
    return body.replace("<svg ", f'<svg role="img" aria-label="{label}" class="plot" ', 1)


def delta_plot(
    rows: Sequence[tuple[str, Mapping[str, Any], str]], a: str, b: str, what: str
) -> str:
    """Return differences with their 95% intervals, one row each.

    `rows` are names, "delta" and "interval" of each, and the color.
    """

    def paint(axes: Axes) -> None:
        for y, (_, row, color) in enumerate(rows):
            low, high = row["interval"] or (row["delta"], row["delta"])
            axes.plot([low, high], [y, y], color=color, linewidth=2.5, solid_capstyle="round")
            axes.plot([row["delta"]], [y], "o", color=color)
        axes.axvline(0, color=INK, linewidth=0.8)
        axes.set_yticks(range(len(rows)), [shown(name) for name, _, _ in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlabel(f"{shown(b)} minus {shown(a)}\n(fraction, with its 95% interval)")

    return _draw(what, (4.7, 1.0 + 0.26 * len(rows)), paint)


def fewshot_plot(
    field: str, fewshot: Mapping[str, Any], a: str, b: str, *, n_classes: int | None = None
) -> str:
    """Return accuracy by number of shots, one pair of lines a classifier.

    Bars are the 95% interval of the difference, drawn from A: where a bar does not reach A's
    line, the two differ.
    """

    def paint(axes: Axes) -> None:
        for style, (classifier, shots) in zip(("-", "--", ":"), fewshot.items(), strict=False):
            points = [(int(s), row) for s, row in shots.items() if row["a"] is not None]
            for key, name, color in (("a", a, A_COLOR), ("b", b, B_COLOR)):
                axes.plot(
                    [s for s, _ in points],
                    [row[key] for _, row in points],
                    style,
                    marker="o",
                    markersize=3.5,
                    color=color,
                    label=f"{shown(name)}, {shown(classifier)}",
                )
            _interval_bars(axes, points)
        axes.set_xscale("log", base=2)
        ticks = sorted({int(s) for shots in fewshot.values() for s in shots})
        axes.set_xticks(ticks, [str(t) for t in ticks])
        axes.set_xlabel("labelled images a class (shots)")
        axes.set_ylabel("accuracy (fraction)")
        n = f" (n={n_classes:,} classes)" if n_classes is not None else ""
        axes.set_title(f"{shown(field)}{n}")
        axes.legend(fontsize=7)

    return _draw(f"few-shot accuracy by {shown(field)}", (3.6, 2.8), paint)


def _interval_bars(axes: Axes, points: Sequence[tuple[int, Mapping[str, Any]]]) -> None:
    for shots, row in points:
        if row.get("interval"):
            # An accuracy is a fraction, whatever A and a difference add up to.
            ends = [min(1.0, max(0.0, row["a"] + end)) for end in row["interval"]]
            axes.plot([shots, shots], ends, color=B_COLOR, linewidth=1.2, alpha=0.6)


def class_plot(field: str, deltas: Sequence[Mapping[str, Any]], *, n_each: int = 8) -> str:
    """Return the classes that gain and lose most AP; rows have "class", "delta", "n_queries"."""
    ordered = sorted(deltas, key=lambda row: row["delta"])
    rows = ordered if len(ordered) <= 2 * n_each else ordered[:n_each] + ordered[-n_each:]

    def paint(axes: Axes) -> None:
        values = [row["delta"] for row in rows]
        axes.barh(range(len(rows)), values, color=[GAIN if v > 0 else LOSS for v in values])
        names = [f"{shown(row['class'], 22)} ({row['n_queries']})" for row in rows]
        axes.set_yticks(range(len(rows)), names, fontsize=7)
        axes.axvline(0, color=INK, linewidth=0.8)
        axes.set_xlabel("change in mean AP (fraction)\nqueries in brackets")
        axes.set_title(shown(field))

    return _draw(f"classes of {shown(field)}", (3.6, 1.05 + 0.19 * len(rows)), paint)


def histogram_plot(
    title: str, parts: Sequence[Mapping[str, Any]], edges: Sequence[float], colors: Sequence[str]
) -> str:
    """Return overlaid histograms that share their bins, with their intervals where known.

    Each part has "label", "density" (n,) of area 1, and perhaps "interval" (2, n); `edges`
    (n + 1,) are cosines.
    """

    def paint(axes: Axes) -> None:
        for part, color in zip(parts, colors, strict=False):
            density, label = np.asarray(part["density"]), shown(part["label"], 44)
            axes.stairs(density, edges, fill=True, alpha=0.25, color=color)
            axes.stairs(density, edges, color=color, label=label)
            if part.get("interval"):
                low, high = np.asarray(part["interval"])
                axes.stairs(high, edges, baseline=low, fill=True, alpha=0.45, color=color)
        axes.set_ylim(0, 1.3 * axes.get_ylim()[1])  # room for the legend
        axes.set_xlabel("cosine")
        axes.set_ylabel("density")
        axes.set_title(shown(title, 60))
        axes.legend(fontsize=7, loc="upper right")

    return _draw(f"histogram {title}", (3.6, 2.6), paint)


def precision_recall_plot(curve: Mapping[str, Any]) -> str:
    """Return precision by recall of both vectors, from `PrecisionRecall.to_dict`."""

    def paint(axes: Axes) -> None:
        for (name, precision), color in zip(
            curve["precision"].items(), (A_COLOR, B_COLOR), strict=False
        ):
            axes.plot(curve["recall"], precision, color=color, label=shown(name))
            if name in curve.get("interval", {}):
                low, high = curve["interval"][name]
                axes.fill_between(curve["recall"], low, high, color=color, alpha=0.22, linewidth=0)
        axes.axhline(curve["chance"], color=INK, linewidth=0.8, linestyle=":", label="any order")
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1.02)
        axes.set_xlabel("recall (fraction)")
        axes.set_ylabel("precision (fraction)")
        n, averaged = curve["n_queries"], curve["n_averaged"]
        of = "" if n == averaged else f" of {n:,}"
        axes.set_title(f"{shown(curve['field'])} (n={averaged:,}{of} queries)")
        axes.legend(fontsize=7)

    return _draw(f"precision and recall by {shown(curve['field'])}", (3.6, 2.8), paint)


def spectrum_plot(ratio: Sequence[float], n_kept: int, n_anchors: int) -> str:
    """Return the cumulative explained variance of the anchor texts, kept part shaded."""

    def paint(axes: Axes) -> None:
        total = np.cumsum(np.asarray(ratio, dtype=np.float64))
        axes.plot(np.arange(1, len(total) + 1), total, color=B_COLOR)
        axes.axvspan(0, n_kept, color=B_COLOR, alpha=0.12)
        axes.set_xlabel("components")
        axes.set_ylabel("cumulative variance (fraction)")
        axes.set_ylim(0, 1.02)
        axes.set_title(f"{n_anchors:,} anchors; {n_kept} of {len(total)} kept")

    return _draw("spectrum of the anchors", (3.6, 2.6), paint)


def sweep_plot(sweep: Mapping[str, Any]) -> str:
    """Return mAP by number of kept dimensions, the knee marked.

    `sweep` has "field", "dims" and "map" of one length, "raw_map", "knee" (a number of
    dimensions or None), and perhaps "n_queries".
    """

    def paint(axes: Axes) -> None:
        axes.plot(sweep["dims"], sweep["map"], marker="o", markersize=3.5, color=B_COLOR)
        axes.axhline(sweep["raw_map"], color=A_COLOR, linestyle="--", label="raw")
        if sweep["knee"] is not None:
            axes.axvline(sweep["knee"], color=INK, linewidth=0.8, linestyle=":", label="knee")
        axes.set_xlabel("kept dimensions")
        axes.set_ylabel("mAP (fraction)")
        n = f" (n={sweep['n_queries']:,} queries)" if "n_queries" in sweep else ""
        axes.set_title(f"{shown(sweep['field'])}{n}")
        axes.legend(fontsize=7)

    return _draw(f"dimensions for {shown(sweep['field'])}", (3.6, 2.6), paint)


def recovery_plot(result: Mapping[str, Any]) -> str:
    """Return the error of recovered similarities by number of anchors: `RecoveryCurve.to_dict`."""
    rows = result["curve"]
    sizes = [row["n_anchors"] for row in rows]
    errors = [max(row["rms"], _LEAST_ERROR) for row in rows]
    # A lower end below zero has no place on a logarithmic axis.
    below = [min(row["rms_error"] or 0, 0.9 * e) for row, e in zip(rows, errors, strict=True)]
    above = [row["rms_error"] or 0 for row in rows]

    def paint(axes: Axes) -> None:
        axes.errorbar(
            *(sizes, errors),
            yerr=[below, above],
            marker="o",
            markersize=3.5,
            color=B_COLOR,
            label="error ± standard error over subsets",
        )
        axes.axhline(
            result["spread"], color=A_COLOR, linestyle="--", label="spread of the true ones"
        )
        axes.axvline(result["dim"], color=INK, linewidth=0.8, linestyle=":", label="dimensions")
        axes.set_yscale("log")
        # The default writes powers in TeX, which these plots do not parse.
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0e}")
        axes.set_xlabel("anchors (texts)")
        axes.set_ylabel("RMS error of similarity")
        axes.set_title(
            f"{result['n_images']:,} images, {result['n_pairs']:,} pairs, "
            f"{result['n_subsets']} subsets"
        )
        axes.legend(fontsize=7)

    return _draw("recovery by number of anchors", (4.8, 3.2), paint)
