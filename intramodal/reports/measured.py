"""Pages of what `intramodal evaluate` measured: misalignment side by side, the recovery curve."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from intramodal.reports import plots
from intramodal.reports.page import write_page

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_CLASS_COLORS = (plots.GAIN, plots.LOSS)
_MODALITY_COLORS = (plots.B_COLOR, plots.A_COLOR)
_LEAST_ERROR = 1e-16
"""Where an error is rounding alone, below which a logarithmic axis says nothing."""


def render_misalignment(result: Mapping[str, Any], path: Path, *, command: str) -> None:
    """Write figures and histograms of several vectors, side by side, as one offline page.

    Parameters
    ----------
    result : mapping
        What ``intramodal evaluate misalignment --json`` prints. All texts are untrusted.
    path : Path
    command : str
        How it was made.
    """
    drawn = [
        {
            "row": row,
            "by_class": _histogram(row, _CLASS_COLORS, f"by {row['field']}"),
            "by_modality": _by_modality(row),
        }
        for row in result["rows"]
    ]
    write_page("misalignment.html.j2", path, result=result, drawn=drawn, command=command)


def render_recovery(result: Mapping[str, Any], path: Path, *, command: str) -> None:
    """Write the recovery curve as one offline page.

    Parameters
    ----------
    result : mapping
        What ``intramodal evaluate recovery --json`` prints. All texts are untrusted.
    path : Path
    command : str
        How it was made.
    """
    curve = recovery_plot(result)
    write_page("recovery.html.j2", path, result=result, curve=curve, command=command)


def recovery_plot(result: Mapping[str, Any]) -> str:
    """Return the error of recovered similarities by number of anchors, as one SVG element.

    Parameters
    ----------
    result : mapping
        Of `RecoveryCurve.to_dict`: "curve", "dim", "spread", "n_images", "n_pairs", "n_subsets".
    """
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
            color=plots.B_COLOR,
            label="error ± standard error over subsets",
        )
        axes.axhline(
            result["spread"], color=plots.A_COLOR, linestyle="--", label="spread of the true ones"
        )
        axes.axvline(
            result["dim"], color=plots.INK, linewidth=0.8, linestyle=":", label="dimensions"
        )
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

    return plots._draw("recovery by number of anchors", (4.8, 3.2), paint)


def _by_modality(row: Mapping[str, Any]) -> str | None:
    modality = row["modality"]
    if modality is None:
        return None
    return _histogram({**row, **modality}, _MODALITY_COLORS, f"and texts, {row['field']}")


def _histogram(row: Mapping[str, Any], colors: tuple[str, str], what: str) -> str:
    title = f"{row['collection']}:{row['vector']} {what}"
    return plots.histogram_plot(title, row["parts"], row["edges"], colors)
