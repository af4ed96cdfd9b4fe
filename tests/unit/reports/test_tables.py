from __future__ import annotations

import re
from dataclasses import replace

import pytest

from intramodal.reports.tables import md, render_latex, render_markdown, tables, tex
from tests.unit.reports.sample import EMOJI, HOSTILE, RIGHT_TO_LEFT, document


@pytest.fixture(scope="module")
def markdown() -> str:
    return render_markdown([document()])


@pytest.fixture(scope="module")
def latex() -> str:
    return render_latex([document()])


def test_every_table_of_the_report_is_there() -> None:
    titles = [table.title for table in tables(document())]
    assert titles == [
        *("Retrieval", "Other maps", "Few-shot accuracy", "Cost", "How to reproduce")
    ]
    assert all(len(row) == len(t.columns) for t in tables(document()) for row in t.rows)


def test_what_there_is_not_is_a_dash_in_every_table() -> None:
    """Issue 20, F21: a search in two stages has no dimensions of its own."""
    sample = document()
    absent = dict.fromkeys(("dim", "bytes_per_vector", "latency_ms_p50", "recall_at_10"))
    costs = {
        **sample.comparison["cost"],
        "pca > raw": {**sample.comparison["cost"]["raw"], **absent},
    }
    made = replace(
        sample,
        comparison={**sample.comparison, "cost": costs},
        run={**sample.run, "parameters": {"seed": None}, "finished": None},
    )
    cells = [cell for table in tables(made) for row in table.rows for cell in row]
    assert not any("None" in cell for cell in cells)
    assert "None" not in render_markdown([made]) + render_latex([made])
    (cost,) = [table for table in tables(made) if table.title == "Cost"]
    assert [row[1] for row in cost.rows if row[0] == "pca > raw"] == ["–"]
    assert not any(cell.startswith("– ") for cell in cells)


def test_first_results_of_every_search_stand_field_by_field() -> None:
    sample = document()
    fields = list(sample.comparison["fields"])[:2]
    figures = {"ndcg_at_10": 0.5, "precision_at_10": 0.25, "n_queries": 50}
    cost = sample.comparison["cost"]["raw"]
    costs = {
        name: {**cost, "fields": {fields[1]: figures, fields[0]: figures, "other": None}}
        for name in ("raw", "pca", "pca > raw")
    }
    made = replace(sample, comparison={**sample.comparison, "cost": costs})
    found = {table.title: table for table in tables(made)}
    rows = found["First results of every search"].rows
    assert [row[:2] for row in rows] == [[f, s] for f in fields for s in costs]
    assert {tuple(row[2:]) for row in rows} == {("0.500", "0.250", "50")}
    sentence = "about the quality of raw, not that of pca"
    assert sentence in found["Cost"].note
    assert sentence in render_markdown([made])
    assert sentence in render_latex([made])
    assert sentence not in render_markdown([sample])  # recorded before there were two stages


def test_verdicts_come_before_any_table(markdown: str, latex: str) -> None:
    assert markdown.index("a sentence about") < markdown.index("| field")
    assert latex.index("a sentence about") < latex.index(r"\begin{tabular}")


def test_markdown_rows_have_as_many_cells_as_their_head(markdown: str) -> None:
    widths = [len(re.findall(r"(?<!\\)\|", line)) for line in markdown.splitlines() if "|" in line]
    tables_there = [list(table.columns) for table in tables(document())]
    assert set(widths) == {len(columns) + 1 for columns in tables_there}


def test_hostile_labels_cannot_leave_their_cell(markdown: str, latex: str) -> None:
    assert "<" not in markdown
    assert "&lt;script&gt;" in markdown
    assert r"\textless{}script\textgreater{}" in latex
    for page in (markdown, latex):
        assert RIGHT_TO_LEFT in page
        assert "x" * 500 not in page
        assert "a name with spaces\nand" not in page


def test_latex_braces_and_rows_balance(latex: str) -> None:
    plain = latex.replace(r"\{", "").replace(r"\}", "")
    assert plain.count("{") == plain.count("}")
    for body in re.findall(r"\\midrule\n(.*?)\\bottomrule", latex, re.DOTALL):
        rows = body.strip().splitlines()
        assert all(row.startswith("{}") and row.endswith(r" \\") for row in rows)
        assert len({len(re.findall(r"(?<!\\)&", row)) for row in rows}) == 1


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("a|b", r"a\|b"),
        ("[x](javascript:alert(1))", r"\[x\](javascript:alert(1))"),
        ("`code` *bold*", r"\`code\` \*bold\*"),
        ("&amp; <b>", "&amp;amp; &lt;b&gt;"),
        ("two\nlines", "two lines"),
        ("turn\u202eed", "turn ed"),
        (EMOJI, EMOJI.replace("\u200d", " ").replace("$", r"\$").replace("_", r"\_")),
    ],
)
def test_a_label_is_shown_in_markdown_as_it_is(label: str, expected: str) -> None:
    assert md(label) == expected


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        (r"\input{/etc/passwd}", r"\textbackslash{}input\{/etc/passwd\}"),
        ("50% & more_#1", r"50\% \& more\_\#1"),
        ("~^$", r"\textasciitilde{}\textasciicircum{}\$"),
        (HOSTILE, r"\textless{}script\textgreater{}alert('x')\textless{}/script\textgreater{}"),
        ("PCA←", r"PCA$\leftarrow$"),
    ],
)
def test_a_label_is_shown_in_latex_as_it_is(label: str, expected: str) -> None:
    assert tex(label) == expected
