"""Tables of figures as papers print them: our figure, the reference, the difference beneath."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from intramodal.errors import InputError
from intramodal.files import write_text
from intramodal.reports.page import render_page
from intramodal.runs.frames import csv_text, data_frame, json_values
from intramodal.types import short_repr

State = Literal["done", "partial", "failed", "missing"]
Best = Literal["highest", "lowest", "none"]

DASH = "–"


@dataclass(frozen=True)
class Place:
    """One place of a table.

    Parameters
    ----------
    value : float or None
        Our figure.
    reference : float or None
        What it is compared with, such as the paper's figure.
    error : float or None
        Standard error of ours.
    low, high : float or None
        Ends of its confidence interval.
    state : {"done", "partial", "failed", "missing"}
        "partial": the mean of fewer figures than it should be.
    reason : str
        Why it is not done, in one sentence.
    """

    value: float | None
    reference: float | None = None
    error: float | None = None
    state: State = "done"
    reason: str = ""
    low: float | None = None
    high: float | None = None

    @property
    def difference(self) -> float | None:
        """Ours less the reference; None unless both are whole."""
        if self.value is None or self.reference is None or self.state != "done":
            return None
        return self.value - self.reference


@short_repr
@dataclass(frozen=True)
class Grid:
    """A table of rows and columns.

    Parameters
    ----------
    title : str
    row_heads : sequence of tuple of str
        One head for each row, all of the same length, such as model and method.
    column_heads : sequence of str
    places : mapping of (int, int) to Place
        By row and column; others stay empty.
    head_names : sequence of str
        What the parts of a row's head are, such as "model" and "method".
    decimals : int
    caption : str
    notes : sequence of str
        Footnotes.
    banner : str
        What a reader must know of all figures, such as that they are of few images.
    bold : {"highest", "lowest", "none"}
        Which figure of a column is the best.
    with_intervals : bool
        Show intervals beneath the figures, where there is no reference; JSON and CSV always have
        them.
    """

    title: str
    row_heads: Sequence[tuple[str, ...]]
    column_heads: Sequence[str]
    places: Mapping[tuple[int, int], Place] = field(repr=False)
    head_names: Sequence[str] = ()
    decimals: int = 1
    caption: str = ""
    notes: Sequence[str] = ()
    banner: str = ""
    bold: Best = "highest"
    with_intervals: bool = False

    def place(self, row: int, column: int) -> Place | None:
        """Return what stands in a place; None where nothing does."""
        return self.places.get((row, column))

    def best(self) -> frozenset[tuple[int, int]]:
        """Return the places with the best figure of their column, as it is printed."""
        if self.bold == "none":
            return frozenset()
        best_of = max if self.bold == "highest" else min
        found = set()
        for column in range(len(self.column_heads)):
            shown = {
                row: round(place.value, self.decimals)
                for row in range(len(self.row_heads))
                if (place := self.place(row, column))
                and place.value is not None
                and place.state == "done"  # a mean over fewer is of other data sets
            }
            if len(shown) > 1:
                best = best_of(shown.values())
                found |= {(row, column) for row, value in shown.items() if value == best}
        return frozenset(found)

    def with_average(self, name: str = "average") -> Grid:
        """Return the table with one more column: the mean of each row's figures.

        It is "partial" where the row lacks some, and has a reference where all of them do.
        """
        last = len(self.column_heads)
        means = {
            (row, last): _mean([self.place(row, column) for column in range(last)])
            for row in range(len(self.row_heads))
        }
        places = {**self.places, **means}
        return replace(self, column_heads=[*self.column_heads, name], places=places)

    def number(self, value: float | None, *, sign: bool = False) -> str:
        """Return a figure as the table prints it; a dash where there is none."""
        if value is None:
            return DASH
        text = f"{value:{'+' if sign else ''}.{self.decimals}f}"
        return text.lstrip("-+") if float(text) == 0 else text

    def signed(self, value: float) -> str:
        """Return a difference as the table prints it, with its sign."""
        return self.number(value, sign=True)

    def shown(self, place: Place) -> str:
        """Return a place's figure as the table prints it, with its standard error."""
        if place.state == "failed":
            return "failed"
        beside = "" if place.error is None else f" ± {self.number(place.error)}"
        return self.number(place.value) + beside

    def beneath(self, place: Place) -> list[str]:
        """Return what stands beneath: the reference and the difference, or the interval."""
        if place.reference is not None:
            apart = [] if place.difference is None else [self.signed(place.difference)]
            return [self.number(place.reference), *apart]
        if self.with_intervals and place.low is not None and place.high is not None:
            return [f"[{self.number(place.low)}, {self.number(place.high)}]"]
        return []

    def has_references(self) -> bool:
        """Return whether any place has something to compare with."""
        return any(place.reference is not None for place in self.places.values())

    def reasons(self) -> list[str]:
        """Return why places are not done, each reason once, in the order of the rows."""
        ordered = sorted(self.places.items())
        return list(dict.fromkeys(place.reason for _, place in ordered if place.reason))

    def remarks(self) -> list[str]:
        """Return footnotes and reasons."""
        return [*self.notes, *self.reasons()]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        rows = [
            {
                "head": list(head),
                "places": {
                    name: {**asdict(place), "difference": place.difference}
                    for column, name in enumerate(self.column_heads)
                    if (place := self.place(row, column))
                },
            }
            for row, head in enumerate(self.row_heads)
        ]
        values: dict[str, Any] = json_values(
            {
                **{"title": self.title, "caption": self.caption, "banner": self.banner},
                **{"heads": self.names(), "columns": self.column_heads},
                "decimals": self.decimals,
                **{"rows": rows, "notes": self.remarks()},
            }
        )
        return values

    def records(self) -> list[dict[str, Any]]:
        """Return one row for each place, with its head's parts as columns."""
        names = self.names()
        return [
            {
                "table": self.title,
                **dict(zip(names, self.row_heads[row], strict=True)),
                "column": self.column_heads[column],
                **asdict(place),
                "difference": place.difference,
                "remark": self.banner,
            }
            for (row, column), place in sorted(self.places.items())
        ]

    def begins_group(self, row: int) -> bool:
        """Return whether a row's first head is another than that of the row above."""
        return row > 0 and self.row_heads[row - 1][0] != self.row_heads[row][0]

    def has_groups(self) -> bool:
        """Return whether several rows share a first head, as the methods of a model do."""
        n_groups = sum(row == 0 or self.begins_group(row) for row in range(len(self.row_heads)))
        return (
            bool(self.row_heads) and len(self.row_heads[0]) > 1 and n_groups < len(self.row_heads)
        )

    def names(self) -> list[str]:
        """Return what the parts of a row's head are; "row 1", ... where that is not said."""
        width = len(self.row_heads[0]) if self.row_heads else 0
        return list(self.head_names) or [f"row {n}" for n in range(1, width + 1)]

    def to_frame(self) -> Any:
        """Return a pandas data frame, one row for each place; needs the extra ``notebook``."""
        return data_frame(self.records())

    def to_csv(self) -> str:
        """Return one line for each place: head, column, value, reference, difference, state."""
        return to_csv([self])

    def to_markdown(self) -> str:
        """Return a Markdown table; the reference and the difference stand in the same place."""
        best = self.best()
        head = [*self.names(), *self.column_heads]
        lines = [
            _row(map(_markdown_text, head)),
            _row(["---"] * len(self.names()) + ["---:"] * len(self.column_heads)),
        ]
        for row, parts in enumerate(self.row_heads):
            places = [
                self._markdown(self.place(row, column), is_best=(row, column) in best)
                for column in range(len(self.column_heads))
            ]
            lines.append(_row([*map(_markdown_text, parts), *places]))
        above = [f"### {self.title}", *([f"**{self.banner}**"] if self.banner else [])]
        below = [*([self.caption] if self.caption else []), *(f"- {r}" for r in self.remarks())]
        return "\n\n".join([*above, "\n".join(lines), "\n".join(below)]).rstrip() + "\n"

    def to_html(self) -> str:
        """Return one offline page."""
        return page_of([self], title=self.title)

    def to_json(self) -> str:
        """Return `to_dict` as text."""
        return json.dumps(self.to_dict(), ensure_ascii=False, indent=2) + "\n"

    def render(self, file_format: str) -> str:
        """Return the table as ``"md"``, ``"tex"``, ``"csv"``, ``"json"`` or ``"html"``."""
        texts = {
            **{"md": self.to_markdown, "tex": self.to_latex, "csv": self.to_csv},
            **{"json": self.to_json, "html": self.to_html},
        }
        if file_format not in texts:
            raise InputError(
                f"a table cannot be written as {file_format!r}; choose {', '.join(texts)}"
            )
        return texts[file_format]().rstrip("\n") + "\n"

    def to_latex(self) -> str:
        """Return a ``table`` for LaTeX; needs the packages booktabs, graphicx and xcolor."""
        n_heads = len(self.names())
        columns = "l" * n_heads + "r" * len(self.column_heads)
        head = [latex_text(name) for name in (*self.names(), *self.column_heads)]
        banner = f"\\textbf{{{latex_text(self.banner)}}} " if self.banner else ""
        notes = " ".join(latex_text(remark) for remark in self.remarks())
        lines = [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{latex_text(self.title)}. {banner}{latex_text(self.caption)}}}",
            # Only a table that is too wide is made smaller.
            r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            " & ".join(head) + r" \\",
            r"\midrule",
            *self._latex_rows(),
            r"\bottomrule",
            r"\end{tabular}}",
            *([rf"\\[2pt]{{\footnotesize {notes}}}"] if notes else []),
            r"\end{table}",
        ]
        return "\n".join(lines)

    def _latex_rows(self) -> list[str]:
        best, columns = self.best(), range(len(self.column_heads))
        lines = []
        for row, parts in enumerate(self.row_heads):
            there = [self.place(row, column) for column in columns]
            if self.begins_group(row):
                lines.append(r"\midrule")
            places = [
                self._latex(place, is_best=(row, column) in best)
                for column, place in zip(columns, there, strict=True)
            ]
            is_repeated = row > 0 and not self.begins_group(row) and len(parts) > 1
            head = ["", *parts[1:]] if is_repeated else parts
            lines.append(" & ".join([*map(latex_text, head), *places]) + r" \\")
            if any(place and self.beneath(place) for place in there):
                beneath = [self._latex_beneath(place) for place in there]
                lines.append(" & ".join([*([""] * len(parts)), *beneath]) + r" \\")
        return lines

    def _latex(self, place: Place | None, *, is_best: bool) -> str:
        if place is None:
            return ""
        text = latex_text(self.shown(place))
        text = rf"\textbf{{{text}}}" if is_best else text
        return text + (r"\rlap{*}" if place.state == "partial" else "")

    def _latex_beneath(self, place: Place | None) -> str:
        parts = self.beneath(place) if place else []
        if not parts:
            return ""
        first, *apart = map(latex_text, parts)
        text = first + "".join(f" ({part})" for part in apart)
        return rf"\textcolor{{gray}}{{\scriptsize {text}}}"

    def _markdown(self, place: Place | None, *, is_best: bool) -> str:
        if place is None:
            return ""
        text = f"**{self.shown(place)}**" if is_best else self.shown(place)
        text += "*" if place.state == "partial" else ""
        beneath = ", ".join(self.beneath(place))
        if place.reference is not None:
            return f"{text} ({beneath})"
        return f"{text} {beneath}".rstrip()


def _mean(row: Sequence[Place | None]) -> Place:
    done = [p.value for p in row if p and p.value is not None and p.state in ("done", "partial")]
    published = [p.reference for p in row if p and p.reference is not None]
    is_whole = len(done) == len(row) and all(p and p.state == "done" for p in row)
    return Place(
        fmean(done) if done else None,
        fmean(published) if len(published) == len(row) else None,
        state="done" if is_whole else "partial" if done else "missing",
        reason=""
        if is_whole or not done
        else "*: the mean of fewer figures than there are columns",
    )


def to_csv(grids: Sequence[Grid]) -> str:
    """Return several tables as one CSV, one line for each place."""
    rows = [record for grid in grids for record in grid.records()]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    return csv_text(columns, rows)


def render_grids(
    grids: Sequence[Grid],
    path: Path,
    *,
    title: str,
    about: Sequence[str] = (),
    figures: Sequence[tuple[str, str]] = (),
    command: str = "",
    run_id: str | None = None,
) -> None:
    """Write tables as one offline page.

    Parameters
    ----------
    grids : sequence of Grid
        Their texts are untrusted.
    path : Path
    title : str
    about : sequence of str
        Paragraphs at the top.
    figures : sequence of (str, str)
        Captions and SVG drawings of `intramodal.plots`.
    command, run_id : str
        How it was made.
    """
    text = page_of(
        grids, title=title, about=about, figures=figures, command=command, run_id=run_id
    )
    write_text(path, text)


def page_of(
    grids: Sequence[Grid],
    *,
    title: str,
    about: Sequence[str] = (),
    figures: Sequence[tuple[str, str]] = (),
    command: str = "",
    run_id: str | None = None,
) -> str:
    """Return the page that `render_grids` writes."""
    return render_page(
        "grid.html.j2",
        grids=grids,
        title=title,
        about=about,
        figures=figures,
        command=command,
        run_id=run_id,
    )


def to_latex(grids: Sequence[Grid]) -> str:
    """Return several tables for LaTeX, with the packages that they need named at the top."""
    head = "% needs \\usepackage{booktabs,graphicx,xcolor}"
    return "\n\n".join([head, *(grid.to_latex() for grid in grids)]) + "\n"


_FIRST_UNKNOWN = 0x180
"""pdfTeX has Latin letters with accents, but no others."""

_LATEX = {
    "\\": r"\textbackslash{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "←": r"$\leftarrow$",
    "→": r"$\rightarrow$",
    "⟨": r"$\langle$",
    "⟩": r"$\rangle$",
    "–": "--",
    "×": r"$\times$",
    "≥": r"$\geq$",
    "½": r"$\frac{1}{2}$",
    "±": r"$\pm$",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    # At the start of a row they would belong to the end of the row above.
    "[": "{[}",
    "*": "{*}",
}


def latex_text(text: str) -> str:
    r"""Return untrusted text for LaTeX.

    Examples
    --------
    >>> print(latex_text("PCA← & 50%_"))
    PCA$\leftarrow$ \& 50\%\_
    """
    printable = (sign if sign.isprintable() else " " for sign in text)
    return "".join(_LATEX.get(sign) or _latex_sign(sign) for sign in printable)


def _latex_sign(sign: str) -> str:
    """Return a letter that the engine at hand can print: pdfTeX stops at those it lacks."""
    return sign if ord(sign) < _FIRST_UNKNOWN else rf"\ifdefined\Umathchar {sign}\else?\fi{{}}"


def _markdown_text(text: str) -> str:
    """Return an untrusted name for a place of a Markdown table: one line, and no HTML."""
    printable = "".join(sign if sign.isprintable() else " " for sign in text)
    return printable.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def _row(parts: Iterable[str]) -> str:
    return "| " + " | ".join(parts) + " |"
