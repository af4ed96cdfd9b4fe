"""The report's tables as text: Markdown to paste into an issue, LaTeX for a paper."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tabulate import DataRow, TableFormat, tabulate

from intramodal.evaluation.cost import two_stages
from intramodal.evaluation.next_maps import MAP_NAMES
from intramodal.evaluation.verdict import NAMES, SHORT, p_value
from intramodal.reports.page import number, signed, size, text
from intramodal.reports.report import ReportDocument

_MARKDOWN = re.compile(r"([\\`*_\[\]|#~$])")
_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "&": r"\&", "%": r"\%", "$": r"\$",
    "#": r"\#", "_": r"\_", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\textquotedbl{}",
    "←": r"$\leftarrow$", "→": r"$\rightarrow$", "×": r"$\times$", "–": "--", "−": "$-$",
}  # fmt: skip
_LATEX_HEAD = (
    "% \\usepackage{booktabs} \\usepackage[T1]{fontenc}\n"
    "% Labels that are not Latin need LuaLaTeX or XeLaTeX and a font that has them.\n"
)
_MARKDOWN_GRID = TableFormat(
    lineabove=None,
    linebelowheader=lambda widths, _: "|:---" + "|---:" * (len(widths) - 1) + "|",
    linebetweenrows=None,
    linebelow=None,
    headerrow=DataRow("|", "|", "|"),
    datarow=DataRow("|", "|", "|"),
    padding=1,
    with_header_hide=None,
)
# An empty group first: a cell that begins with [ would be read as an argument of \\.
_LATEX_ROW = DataRow("{}", " & ", r" \\")
_LATEX_GRID = TableFormat(
    lineabove=lambda widths, _: (
        rf"\begin{{tabular}}{{l{'r' * (len(widths) - 1)}}}" + "\n\\toprule"
    ),
    linebelowheader=lambda *_: r"\midrule",
    linebetweenrows=None,
    linebelow=lambda *_: "\\bottomrule\n\\end{tabular}",
    headerrow=_LATEX_ROW,
    datarow=_LATEX_ROW,
    padding=0,
    with_header_hide=None,
)


@dataclass(frozen=True)
class Table:
    """One table; cells are untrusted text, not yet escaped."""

    title: str
    columns: Sequence[str]
    """The first holds names, the others figures."""
    rows: Sequence[Sequence[str]]
    note: str = ""


def render_markdown(documents: Sequence[ReportDocument]) -> str:
    """Return verdicts and tables as GitHub-flavoured Markdown."""
    return "\n".join(_markdown(document) for document in documents)


def render_latex(documents: Sequence[ReportDocument]) -> str:
    """Return verdicts and tables as LaTeX for a document that loads ``booktabs``."""
    return _LATEX_HEAD + "\n".join(_latex(document) for document in documents)


def tables(document: ReportDocument) -> list[Table]:
    """Return the tables of a report that have rows, in its order."""
    makers: tuple[Callable[[ReportDocument], Table], ...]
    figures = (_pieces, _first_page, _retrieval, _seen_labels, _by_distance, _others, _fewshot)
    makers = (*figures, _cost, _first_results, _origin)
    found = [make(document) for make in makers]
    return [table for table in found if table.rows]


def _pieces(document: ReportDocument) -> Table:
    """Return what a verdict rests on; nothing for a document of 0.1."""
    a, b = document.comparison["vectors"]
    rows = [
        [
            name,
            NAMES[piece],
            *_difference(found),
            p_value(found["p_adjusted"]),
            number(found["guard"], 3),
            f"{found['needs']:,} {found['needs_unit']}" if found["needs"] else "–",
        ]
        for name, row in document.comparison["fields"].items()
        for piece, found in row.get("pieces", {}).items()
        if found
    ]
    columns = ("field", "piece", a, b, "difference", "95% interval")
    return Table("Evidence", (*columns, "p (adjusted)", "guard", "would tell"), rows)


def _first_page(document: ReportDocument) -> Table:
    a, b = document.comparison["vectors"]
    rows = [
        [name, figure, *_difference(found)]
        for name, row in document.comparison["fields"].items()
        for figure, found in row.get("first_page", {}).items()
    ]
    columns = ("field", "figure", a, b, "difference", "95% interval")
    return Table("First page", columns, rows)


def _difference(found: Mapping[str, Any]) -> list[str]:
    """Return both figures, their difference and its interval."""
    ends = [number(found["a"]), number(found["b"])]
    return [*ends, signed(found["delta"]), _interval(found["interval"])]


def _retrieval(document: ReportDocument) -> Table:
    a, b = document.comparison["vectors"]
    columns = (
        *("field", f"mAP {a}", f"mAP {b}", "difference", "95% interval", "p (Holm)"),
        *("queries", "classes", "verdict"),
    )
    rows = [
        [
            name,
            number(row["map"][a]),
            number(row["map"][b]),
            signed(row["delta"]),
            _interval(row["interval"]),
            p_value(row["p_adjusted"]),
            f"{row['n_queries']:,}",
            f"{row['n_classes']:,}",
            SHORT[row["verdict"]],
        ]
        for name, row in document.comparison["fields"].items()
    ]
    return Table("Retrieval", columns, rows)


def _seen_labels(document: ReportDocument) -> Table:
    """Return what stands beside figures of vectors whose maps have seen labels."""
    rows = [
        [
            *(name, vector, found["field"]),
            *(number(found[key]) for key in ("control", "chance", "accuracy")),
            str(len(found["unseen"])),
            *(number(found[key]) for key in ("map_unseen", "map_seen")),
        ]
        for name, row in document.comparison["fields"].items()
        for vector, found in (row.get("label_evidence") or {}).items()
    ]
    columns = (
        *("field", "vector", "labels of", "mAP of shuffled labels", "chance", "classified"),
        *("unseen classes", "mAP of these", "of the others"),
    )
    return Table("Maps that have seen labels", columns, rows)


def _by_distance(document: ReportDocument) -> Table:
    """Return the mAP of vectors that the collection does not rank as the cosine does."""
    rows = [
        [name, vector, number(row["map"][vector]), number(own)]
        for name, row in document.comparison["fields"].items()
        for vector, own in (row.get("map_by_distance") or {}).items()
    ]
    columns = ("field", "vector", "mAP by cosine", "as the store ranks")
    note = document.comparison.get("distance_note") or ""
    return Table("By the distance of the collection", columns, rows, note)


def _others(document: ReportDocument) -> Table:
    """Other maps of the same size against A, one row a field and map."""
    fields: Mapping[str, Any] = document.comparison["fields"]
    rows = [
        [
            name,
            other["vector"],
            number(other["map"]),
            signed(other["delta"]),
            _interval(other["interval"]),
        ]
        for name, row in fields.items()
        for other in row.get("others", ())
    ]
    return Table("Other maps", ("field", "map", "mAP", "difference", "95% interval"), rows)


def _fewshot(document: ReportDocument) -> Table:
    a, b = document.comparison["vectors"]
    rows = [
        [
            name,
            classifier,
            str(shots),
            *_difference(found),
        ]
        for name, row in document.comparison["fields"].items()
        for classifier, by_shots in (row.get("fewshot") or {}).items()
        for shots, found in by_shots.items()
    ]
    columns = (*("field", "classifier", "shots"), a, b, "difference", "95% interval")
    return Table("Few-shot accuracy", columns, rows)


def _cost(document: ReportDocument) -> Table:
    rows = [
        [
            vector,
            _text(row["dim"]),
            _text(row["bytes_per_vector"]),
            size(row["ram_bytes"]),
            _milliseconds(row["latency_ms_p50"]),
            number(row["recall_at_10"], 3),
        ]
        for vector, row in document.comparison["cost"].items()
    ]
    columns = ("vector", "dimensions", "bytes per vector", "memory, float32", "median latency")
    a, b = document.comparison["vectors"]
    note = two_stages(a, b) if f"{b} > {a}" in document.comparison["cost"] else ""
    return Table("Cost", (*columns, "recall@10 of the index"), rows, note)


def _first_results(document: ReportDocument) -> Table:
    """Return how good the first results of every search are, one row a field and search."""
    rows = [
        [
            field,
            search,
            number(found["ndcg_at_10"], 3),
            number(found["precision_at_10"], 3),
            f"{found['n_queries']:,}",
        ]
        for search, row in document.comparison["cost"].items()
        for field, found in row.get("fields", {}).items()
        if found
    ]
    order = list(document.comparison["fields"])
    rows.sort(key=lambda row: order.index(row[0]))
    columns = ("field", "search", "nDCG@10", "precision@10", "queries")
    return Table("First results of every search", columns, rows)


def _origin(document: ReportDocument) -> Table:
    rows = [[key, value] for key, value in _facts(document.run)]
    return Table("How to reproduce", ("what", "value"), rows)


def _facts(run: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in run.items():
        if isinstance(value, Mapping):
            yield from ((f"{key}: {name}", _text(found)) for name, found in value.items())
        else:
            yield key, _text(value)


def _milliseconds(value: float | None) -> str:
    return "–" if value is None else f"{number(value, 2)} ms"


def _text(value: object) -> str:
    return "–" if value is None else str(value)


def _interval(interval: Sequence[float] | None) -> str:
    return f"[{signed(interval[0])}, {signed(interval[1])}]" if interval else "–"


def _decided(document: ReportDocument) -> str:
    """Return the decision over all fields; nothing for a document of 0.1."""
    return str(document.comparison.get("decision", {}).get("sentence", ""))


def _verdicts(document: ReportDocument) -> list[tuple[str, str]]:
    fields = document.comparison["fields"]
    return [(name, row["sentence"]) for name, row in fields.items()]


def _markdown(document: ReportDocument) -> str:
    lines = [f"# {md(document.title)}", ""]
    lines += [md(document.about, 2000), ""] if document.about else []
    lines += [md(decided, 2000), ""] if (decided := _decided(document)) else []
    for name, words in _verdicts(document):
        lines += [f"- **{md(name)}**: {md(words, 2000)}", *_proposed(document, name)]
    for table in tables(document):
        lines += ["", f"## {md(table.title)}", "", _grid(table, md, _MARKDOWN_GRID)]
        lines += ["", md(table.note, 2000)] if table.note else []
    return "\n".join(lines) + "\n"


def _proposed(document: ReportDocument, field: str) -> Iterator[str]:
    """Yield the maps to try next for a field, each with the lines that fit it."""
    for one in document.comparison["fields"][field].get("next_maps", ()):
        yield f"  - Next to try: {MAP_NAMES[one['map']]}, {one['needs']}"
        for line in one.get("commands", ()):
            # Indented, it is shown as it is whatever the names in it; one line cannot end it.
            yield from ("", f"        {text(line, 1000)}")


def _grid(table: Table, escaped: Callable[[str], str], style: TableFormat) -> str:
    """Return head and rows in a style; cells are not padded, so that a diff shows what changed."""
    rows = [[escaped(cell) for cell in row] for row in table.rows]
    head = [escaped(column) for column in table.columns]
    return tabulate(rows, head, tablefmt=style, stralign=None, disable_numparse=True)


def md(value: str, limit: int = 120) -> str:
    r"""Return untrusted text as one line of Markdown that shows as it is.

    Examples
    --------
    >>> md("<b> | a_b")
    '&lt;b&gt; \\| a\\_b'
    """
    clean = _MARKDOWN.sub(r"\\\1", text(value, limit))
    return clean.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _latex(document: ReportDocument) -> str:
    lines = [rf"\section*{{{tex(document.title)}}}"]
    lines += [tex(document.about, 2000)] if document.about else []
    lines += [tex(decided, 2000)] if (decided := _decided(document)) else []
    lines += [r"\begin{itemize}"]
    lines += [
        rf"  \item \textbf{{{tex(name)}}}: {tex(words, 2000)}"
        for name, words in _verdicts(document)
    ]
    lines += [r"\end{itemize}"]
    for table in tables(document):
        lines += [rf"\subsection*{{{tex(table.title)}}}", _grid(table, tex, _LATEX_GRID)]
        lines += ["", tex(table.note, 2000)] if table.note else []
    return "\n".join(lines) + "\n"


def tex(value: str, limit: int = 120) -> str:
    r"""Return untrusted text as one line of LaTeX that shows as it is.

    Examples
    --------
    >>> tex("50% of a_b")
    '50\\% of a\\_b'
    """
    return "".join(_LATEX.get(character, character) for character in text(value, limit))
