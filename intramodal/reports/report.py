"""The report: one offline HTML file, the verdict first."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from intramodal import plots
from intramodal.errors import InputError, LedgerError
from intramodal.evaluation.compare import Comparison
from intramodal.evaluation.cost import two_stages
from intramodal.evaluation.next_maps import MAP_NAMES
from intramodal.evaluation.verdict import NAMES, SHORT
from intramodal.files import write_text
from intramodal.reports.page import Page, render_page
from intramodal.reports.pictures import Picture, PictureSource, payloads
from intramodal.runs.run import Run
from intramodal.types import PointId, VectorTable, short_repr

if TYPE_CHECKING:
    from intramodal.runs.ledger import RunLedger

DOCUMENT = "report document"
"""Name of the run's artefact that a report is rendered from."""

DOCUMENT_VERSION = 1


@dataclass(frozen=True)
class Answer:
    """One neighbour: picture, score, and whether it shares the query's label."""

    picture: Picture
    score: float
    is_relevant: bool


@dataclass(frozen=True)
class Neighbours:
    """One query with its first answers under each vector."""

    field: str
    """The label field that says what is relevant."""
    query: Picture
    ap: Mapping[str, float]
    """Average precision of this query under each vector."""
    answers: Mapping[str, Sequence[Answer]]


@short_repr
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
    no_pictures : str
        Why no picture is shown; empty where one is.
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
    no_pictures: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {"version": DOCUMENT_VERSION, **asdict(self)}

    def record(self, run: Run) -> None:
        """Keep the document with a run, for `report_of_run`."""
        run.save_artefact(DOCUMENT, self.to_dict(), media_type="application/json")

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


N_ANSWERS = 8
N_QUERIES = 2
"""Queries shown per field that gain most, and as many that lose most."""


def document_of(
    comparison: Comparison,
    *,
    ledger: RunLedger | None = None,
    title: str = "",
    about: str = "",
    pictures: PictureSource = PictureSource(),
) -> ReportDocument:
    """Return the document of a comparison of a collection.

    The ledger knows how the run and the projection were made; `pictures` says where those of the
    points are, and without any the payload's own titles are shown.
    """
    details = comparison.details()
    result = comparison.to_dict()
    neighbours = _neighbours_of(comparison, details, pictures)
    shown = [p.picture for row in neighbours for hits in row.answers.values() for p in hits]
    among = "" if result["where"] is None else f" where {result['where']}"
    return ReportDocument(
        title=title or f"{' or '.join(result['vectors'])} in {result['collection']}{among}",
        about=about,
        comparison=result,
        details=details,
        misalignment=[
            found.to_dict() | {"vector": found.vector} for found in comparison.histograms()
        ],
        precision_recall=[found.to_dict() for found in comparison.curves()],
        spectrum=_spectrum(comparison, ledger),
        neighbours=neighbours,
        no_pictures=pictures.missing(shown) or "",
        run=_reproduction(comparison, ledger) if ledger else {},
        sweep=[found.to_dict() for found in comparison.sweeps()],
    )


def _spectrum(comparison: Comparison, ledger: RunLedger | None) -> dict[str, Any]:
    """Return the anchors' spectrum, from the projection's file or the run that fitted it."""
    origin = comparison.origins.get(comparison.vectors[1])
    recipe: Mapping[str, Any] = {}
    if comparison.context.fitted is not None:
        recipe = comparison.context.fitted.recipe
    elif ledger is not None and origin and origin.projection:
        with contextlib.suppress(LedgerError):  # warned of by the run; a report does without
            recipe = ledger.facts(origin.projection)
    total = sum(recipe.get("spectrum", ()))
    if not total:
        return {}
    return {
        "explained_variance_ratio": [value / total for value in recipe["spectrum"]],
        "n_kept": recipe["n_components"],
        "n_anchors": recipe["n_anchors"],
        "rank": recipe["rank"],
    }


def _reproduction(comparison: Comparison, ledger: RunLedger) -> dict[str, Any]:
    run = ledger.get(str(comparison.run_id))
    made_by = {name or "unnamed": str(origin) for name, origin in comparison.origins.items()}
    return {
        "run": run.id,
        "command": " ".join(run.command),
        "started": run.started.isoformat(timespec="seconds"),
        "seed": run.seed,
        "vectors made by": made_by,
        "packages": dict(run.packages),
    }


def _neighbours_of(
    comparison: Comparison, details: Mapping[str, Mapping[str, Any]], source: PictureSource
) -> list[Neighbours]:
    """Return, by field, the queries that gain and lose most, with their first answers."""
    changed = [
        (field, query, comparison.nearest(field, query["id"], k=N_ANSWERS))
        for field, found in details.items()
        for query in (*found["queries_gain"][:N_QUERIES], *found["queries_lose"][:N_QUERIES])
    ]
    points = {query["id"]: None for _, query, _ in changed}
    for _, _, nearest in changed:
        points |= {hit.id: None for hits in nearest.values() for hit in hits}
    captions = _Captions(comparison, _pictures(comparison, list(points), source))
    return [
        Neighbours(
            field,
            captions.picture(query["id"], field),
            query["ap"],
            {
                vector: [
                    Answer(captions.picture(hit.id, field), hit.score, hit.is_relevant)
                    for hit in hits
                ]
                for vector, hits in nearest.items()
            },
        )
        for field, query, nearest in changed
    ]


def _pictures(
    comparison: Comparison, points: Sequence[PointId], source: PictureSource
) -> dict[PointId, Picture]:
    collection = comparison.context.source
    if isinstance(collection, VectorTable):
        return {point: Picture(str(point), str(point)) for point in points}
    return {point: source.picture(point, p) for point, p in payloads(collection, points)}


class _Captions:
    """Pictures of points, with their label by a field before the caption."""

    def __init__(self, comparison: Comparison, pictures: Mapping[PointId, Picture]) -> None:
        self._table, self._pictures = comparison.context.table, pictures
        self._rows = {point: row for row, point in enumerate(self._table.ids)}

    def picture(self, point: PointId, field: str) -> Picture:
        """Return a picture; of a point that came after the table was read without a label."""
        row = self._rows.get(point)
        found = self._pictures.get(point, Picture(str(point), str(point)))
        if row is None:
            return found
        return replace(found, caption=f"{self._table.payload[field][row]} · {found.caption}")


def report_of_run(ledger: RunLedger, run_id: str) -> ReportDocument:
    """Return the report that a recorded comparison stored.

    Parameters
    ----------
    ledger : RunLedger
    run_id : str
        Id or the beginning of it; that of the latest comparison is `latest_comparison`.

    Raises
    ------
    LedgerError
        If there is no such run.
    InputError
        If it stored no report, or one of another version.
    """
    run = ledger.get(run_id)
    if DOCUMENT not in {file.name for file in ledger.artefacts(run.id)}:
        raise InputError(
            f"run {run.id} is a {run.kind} run that is {run.status} and stored no report; choose "
            f"a complete run of `intramodal compare`"
        )
    return ReportDocument.from_dict(json.loads(ledger.artefact(run.id, DOCUMENT)))


def latest_comparison(ledger: RunLedger) -> str:
    """Return the id of the latest complete comparison; raises `InputError` if there is none."""
    found = ledger.runs(kind="compare", status="COMPLETE", limit=1)
    if not found:
        raise InputError(
            f"no complete comparison is recorded in {ledger}; run `intramodal compare` first"
        )
    return found[0].id


LIMIT_BYTES = 5_000_000
"""A report can be mailed and opened anywhere: pictures and plots give way beyond this."""

# Shares of the queries shown with pictures and of each kind of plots, tried in this order.
_SHARES = ((1, 1), (0.5, 1), (0.25, 1), (0, 1), (0, 0.5), (0, 0.25), (0, 0.1), (0, 0))


def render_report(
    results: Page | Comparison | ReportDocument | Sequence[ReportDocument],
    path: Path,
    *,
    limit_bytes: int = LIMIT_BYTES,
) -> None:
    """Write one self-contained page; nothing in it is fetched from anywhere.

    Parameters
    ----------
    results : Page, Comparison, ReportDocument or sequence of ReportDocument
        A search, disagreements, misalignment or a recovery curve; or comparisons, one section
        each. Labels, paths and names in them are untrusted and escaped.
    path : Path
        Written under a temporary name, then renamed.
    limit_bytes : int
        Pictures, then plots of comparisons, are left out until the page fits; it says so. Tables
        always stay.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    if isinstance(results, Comparison):
        results = document_of(results)
    if isinstance(results, ReportDocument):
        results = [results]
    page = _fitted(results, limit_bytes) if isinstance(results, Sequence) else results.html()
    write_text(path, page)


def _fitted(documents: Sequence[ReportDocument], limit_bytes: int) -> str:
    """Return the page with as many pictures and plots as the limit allows."""
    drawn = [(document, _plots(document)) for document in documents]
    page = ""
    for pictures, plotted in _SHARES:
        shown = [_thinned(document, svgs, pictures, plotted) for document, svgs in drawn]
        n_left_out = _n_parts(drawn) - _n_parts(shown)
        about: dict[str, Any] = {"words": SHORT, "names": NAMES, "colors": plots.COLORS}
        about |= {"map_names": MAP_NAMES, "two_stages": two_stages, "n_left_out": n_left_out}
        about |= {"ahead": ahead}
        page = render_page(
            "report.html.j2", documents=shown, terms=TERMS, script="page.js", **about
        )
        if len(page.encode()) <= limit_bytes:
            break
    return page


def ahead(fields: Mapping[str, Mapping[str, Any]], b: str) -> list[str]:
    """Return which other projections have a higher mAP than B, and why none is recommended.

    Two sentences; none where B is ahead of all.
    """
    better: dict[str, list[str]] = {}
    for name, row in fields.items():
        for other in row["others"]:
            if None not in (other["delta"], row["delta"]) and other["delta"] > row["delta"]:
                better.setdefault(other["vector"], []).append(name)
    if not better:
        return []
    listed = ", ".join(f"{vector} ({', '.join(names)})" for vector, names in better.items())
    return [
        f"Higher mAP than {b}: {listed}.",
        f"That recommends none of them, because only {b} was judged: mAP is one of three figures, "
        f"and no difference to {b} has an interval in this table. To decide, store one as a "
        f"vector and compare that.",
    ]


TERMS = {
    "query, gallery, relevant": "An image that is searched with; the images that are ranked; "
    "those of them that share the query's label.",
    "AP, mAP": "Average precision of one query over the full ranking: the mean of the precision "
    "at the rank of every relevant image. mAP is its mean over queries. 1 is perfect.",
    "precision@10": "Share of relevant images among the first 10.",
    "nDCG@10": "The same with more weight on the first ranks, as a share of the best possible.",
    "few-shot accuracy": "Share of test images whose class is found from n labelled images per "
    "class (n-shot).",
    "95% interval": "Where the difference lies, with 95% confidence, for the units that were "
    "resampled: new images of these classes, or other classes like these.",
    "p (Holm)": "p-value adjusted for the number of figures and fields (Holm's method).",
    "guard": "Loss that must be excluded before a vector is adopted.",
    "near-copies": "Images that are nearly the same; each group counts as one.",
    "knee": "Fewest dimensions whose mAP is within half a point of the best.",
    "recall@10": "Share of the 10 exact neighbours that the index finds.",
    "modality gap": "Distance between the mean image and the mean text embedding.",
}
"""What a reader may not know, in the order of the page."""


Drawn = tuple[ReportDocument, dict[str, Any]]


def _thinned(
    document: ReportDocument, svgs: dict[str, Any], pictures: float, plotted: float
) -> Drawn:
    kept = {k: _some(v, plotted) if isinstance(v, list) else v for k, v in svgs.items()}
    return replace(document, neighbours=_some(document.neighbours, pictures)), kept


def _some(items: Sequence[Any], share: float) -> list[Any]:
    """Return evenly spread items: of every field some, where there are several fields."""
    n = math.floor(len(items) * share)
    return [items[i * len(items) // n] for i in range(n)]


def _n_parts(shown: Sequence[Drawn]) -> int:
    return sum(
        len(document.neighbours) + sum(len(v) for v in svgs.values() if isinstance(v, list))
        for document, svgs in shown
    )


def _plots(document: ReportDocument) -> dict[str, Any]:
    """Return every plot of a document as SVG; the template marks them as safe."""
    fields: Mapping[str, Any] = document.comparison["fields"]
    a, b = document.comparison["vectors"]
    color = {name: plots.PAINTS[plots.COLORS[row["verdict"]]] for name, row in fields.items()}
    fewshot = {n: row for n, row in fields.items() if row.get("fewshot")}
    classes = {n: d["classes"] for n, d in document.details.items() if d.get("classes")}
    spectrum = document.spectrum
    return {
        "delta": plots.delta_plot(_differences(fields, color), a, b, "differences by field"),
        "fewshot": [
            plots.fewshot_plot(
                name, row["fewshot"], a, b, n_classes=row["n_classes"], color=color[name]
            )
            for name, row in fewshot.items()
        ],
        "classes": [plots.class_plot(name, rows) for name, rows in classes.items()],
        "precision_recall": [
            plots.precision_recall_plot(row, color=color[row["field"]])
            for row in document.precision_recall
        ],
        "histograms": [_histogram(row) for row in document.misalignment],
        "modality": [
            _histogram({**row["modality"], "title": row["vector"]}, colors=_MODALITY_COLORS)
            for row in document.misalignment
            if row.get("modality")
        ],
        "sweep": [
            plots.sweep_plot(row, color=color.get(row["field"], plots.B_COLOR))
            for row in document.sweep
        ],
        "spectrum": plots.spectrum_plot(
            spectrum["explained_variance_ratio"], spectrum["n_kept"], spectrum["n_anchors"]
        )
        if spectrum
        else "",
    }


def _differences(
    fields: Mapping[str, Mapping[str, Any]], colors: Mapping[str, str]
) -> list[tuple[str, Mapping[str, Any], str]]:
    """Return every piece of evidence by name, in the colour of its field's outcome.

    A document of 0.1 has the difference in mAP only.
    """
    found = []
    for name, row in fields.items():
        pieces = row.get("pieces") or {"map": row if row["delta"] is not None else None}
        told = [(NAMES[piece], values) for piece, values in pieces.items() if values]
        found += [
            (f"{name}: {what.removesuffix(' accuracy')}", values, colors[name])
            for what, values in told
        ]
    return found


_MODALITY_COLORS = (plots.B_COLOR, plots.UNSURE)


def _histogram(
    row: Mapping[str, Any], colors: Sequence[str] = (plots.GAIN, plots.LOSS, plots.B_COLOR)
) -> str:
    return plots.histogram_plot(row["title"], row["parts"], row["edges"], colors)
