"""The report: one offline HTML file, the verdict first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from intramodal.evaluation.verdict import SHORT
from intramodal.reports import plots
from intramodal.reports.document import ReportDocument
from intramodal.reports.page import write_page

COLORS = {"better": "gain", "not_worse": "gain", "worse": "loss", "inconclusive": "unsure"}
"""Colour class of the four outcomes."""


def render_report(documents: Sequence[ReportDocument], path: Path) -> None:
    """Write one self-contained page; nothing in it is fetched from anywhere.

    Parameters
    ----------
    documents : sequence of ReportDocument
        One section each; labels, paths and names in them are untrusted and escaped.
    path : Path
        Written under a temporary name, then renamed.
    """
    write_page(
        "report.html.j2",
        path,
        documents=[(document, _plots(document)) for document in documents],
        words=SHORT,
        colors=COLORS,
    )


def _plots(document: ReportDocument) -> dict[str, Any]:
    """Return every plot of a document as SVG; the template marks them as safe."""
    fields: Mapping[str, Any] = document.comparison["fields"]
    a, b = document.comparison["vectors"]
    fewshot = {n: row["fewshot"] for n, row in fields.items() if row.get("fewshot")}
    classes = {n: d["classes"] for n, d in document.details.items() if d.get("classes")}
    spectrum = document.spectrum
    return {
        "delta": plots.delta_plot(fields, a, b),
        "fewshot": [plots.fewshot_plot(name, rows, a, b) for name, rows in fewshot.items()],
        "classes": [plots.class_plot(name, rows) for name, rows in classes.items()],
        "histograms": [_histogram(row) for row in document.misalignment],
        "sweep": [plots.sweep_plot(row) for row in document.sweep],
        "spectrum": plots.spectrum_plot(
            spectrum["explained_variance_ratio"], spectrum["n_kept"], spectrum["n_anchors"]
        )
        if spectrum
        else "",
    }


def _histogram(row: Mapping[str, Any]) -> str:
    colors = (plots.GAIN, plots.LOSS, plots.B_COLOR, plots.A_COLOR)
    parts = [
        (part["label"], row["edges"], part["density"], color)
        for part, color in zip(row["parts"], colors, strict=False)
    ]
    return plots.histogram_plot(row["title"], parts)
