from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from intramodal.errors import InputError
from intramodal.reports.pages import Found, SearchPage
from intramodal.reports.pictures import Picture
from intramodal.reports.report import ReportDocument, ahead, render_report
from tests.unit.reports.sample import HOSTILE, document


class Elements(HTMLParser):
    """Collects the tags and the addresses a browser would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [v or "" for k, v in attrs if k in ("src", "href", "action")]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    path: Path = tmp_path_factory.mktemp("report") / "report.html"
    render_report([document()], path)
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]
    return path.read_text(encoding="utf-8")


def parsed(page: str) -> Elements:
    elements = Elements()
    elements.feed(page)
    return elements


def test_labels_cannot_become_elements(page: str) -> None:
    assert parsed(page).tags.count("script") == 1  # the page's own
    assert "&lt;script&gt;" in page


def test_the_policy_admits_the_pages_own_script_and_no_other(page: str) -> None:
    [code] = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
    [policy] = re.findall(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy.endswith(f"script-src 'sha256-{digest}'")


def test_the_first_screen_says_what_to_do_for_which_fields(page: str) -> None:
    first = page[page.index('id="decision-1"') : page.index('id="fields-1"')]
    said = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", first))
    assert "Use pca for identity" in said
    assert "Keep raw for &lt;script&gt;" in said
    assert "Undecided for" in said
    assert "recall@10" in said  # what it costs, beside
    assert first.index("Use") < first.index("<table>")


def test_another_projection_that_is_ahead_is_named_with_the_reason_why_it_is_not_chosen() -> None:
    fields = {
        "kind": {"delta": 0.01, "others": _others(centred=0.02, random=0.0)},
        "hue": {"delta": 0.03, "others": _others(centred=0.04, random=0.05)},
        "age": {"delta": None, "others": _others(centred=None, random=None)},
    }
    listed, reason = ahead(fields, "pca")
    assert listed == "Higher mAP than pca: centred (kind, hue), random (hue)."
    assert "only pca was judged" in reason
    assert ahead({"age": fields["age"]}, "pca") == []


def _others(**deltas: float | None) -> list[dict[str, Any]]:
    return [{"vector": name, "delta": delta} for name, delta in deltas.items()]


def test_the_page_fetches_nothing(page: str) -> None:
    remote = [a for a in parsed(page).addresses if not a.startswith(("data:", "#"))]
    assert remote == []
    assert "@import" not in page
    assert not re.search(r"url\((?!#)", page)


def test_the_page_tells_what_every_search_gives(tmp_path: Path) -> None:
    sample = document()
    figures = {"ndcg_at_10": 0.512, "precision_at_10": 0.256, "n_queries": 50}
    cost = sample.comparison["cost"]["raw"]
    by_field = {"identity": figures, HOSTILE: figures, "other": None}
    costs = {name: {**cost, "fields": by_field} for name in ("raw", "pca", "pca > raw")}
    made = replace(sample, comparison={**sample.comparison, "cost": costs})
    render_report([made], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count("<td>0.512</td>") == page.count("<td>0.256</td>") == 6
    assert "precision@10 pca &gt; raw" in page
    assert "about the quality of raw, not that of pca" in page
    assert parsed(page).tags.count("script") == 1


def test_verdicts_come_before_any_table(page: str) -> None:
    assert page.index("adopt: better") < page.index('<table class="sorts">')
    for words in ("do not adopt: worse", "adopt: not worse", "not settled"):
        assert words in page


def test_plots_take_the_colour_of_the_page(page: str) -> None:
    # delta, classes, two histograms, images and texts, precision-recall, spectrum, sweep, and
    # few-shot for each of the four fields
    assert page.count("<svg") == 8 + 4
    assert "#010203" not in page


def test_a_band_says_whom_it_speaks_of_and_is_not_claimed_where_there_is_none(
    page: str, tmp_path: Path
) -> None:
    pointwise = "pointwise 95% interval"
    assert f"{pointwise} at every recall, over other values of &lt;script&gt;" in page
    assert f"{pointwise} in every bin, over new images of the same 4 classes" in page
    assert f"{pointwise} in every bin, over texts &lt;script&gt;" in page
    stored = json.loads(json.dumps(document().to_dict()))
    for row in (*stored["precision_recall"], *stored["misalignment"]):
        for each in (row, row.get("modality") or {}):
            each.pop("speaks_of", None)
            each.pop("interval", None)
            for part in each.get("parts", ()):
                part.pop("interval", None)
    render_report([ReportDocument.from_dict(stored)], tmp_path / "old.html")
    old = (tmp_path / "old.html").read_text(encoding="utf-8")
    assert "Bands" not in old
    # One area less for the curve, and one for the first part of each of three histograms.
    assert page.count("<path") - old.count("<path") == 4


def test_long_labels_are_shortened(page: str) -> None:
    assert "x" * 500 not in page


def test_several_runs_are_sections_of_one_page(tmp_path: Path) -> None:
    render_report([document(), document()], tmp_path / "two.html")
    assert (tmp_path / "two.html").read_text(encoding="utf-8").count("<article>") == 2


def test_one_document_or_one_page_needs_no_list(page: str, tmp_path: Path) -> None:
    render_report(document(), tmp_path / "one.html")
    assert (tmp_path / "one.html").read_text(encoding="utf-8") == page
    found = [Found(Picture("7", HOSTILE), 0.9)]
    searched = SearchPage("pets", Picture("", HOSTILE), "text", True, {"raw": found, "pca": []})
    render_report(searched, tmp_path / "search.html")
    answer = (tmp_path / "search.html").read_text(encoding="utf-8")
    assert "script" not in parsed(answer).tags
    assert "&lt;script&gt;" in answer


def test_pictures_then_plots_give_way_to_the_limit_and_the_tables_stay(tmp_path: Path) -> None:
    whole = document()
    # Heavy enough that pictures are most of the page.
    heavy = replace(whole, neighbours=list(whole.neighbours) * 150)
    path = tmp_path / "report.html"
    sizes, limits = [], [50_000_000]
    while limits:
        limit = limits.pop()
        render_report([heavy], path, limit_bytes=limit)
        page = path.read_text(encoding="utf-8")
        sizes.append((page.count("<img"), page.count("<svg")))
        assert page.count("<table") == 4
        assert ("left out" in page) == (len(sizes) > 1)
        assert limit == 0 or path.stat().st_size <= limit
        if len(sizes) == 1:
            limits = [0, path.stat().st_size * 3 // 4]
    n_pictures, n_plots = sizes[0]
    assert n_pictures == 150 * (1 + 2 * 8)
    assert 0 < sizes[1][0] < n_pictures
    assert sizes[1][1] == n_plots
    assert sizes[2][0] == 0
    assert sizes[2][1] < n_plots


def test_a_page_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="name another file"):
        render_report([document()], tmp_path / "nowhere" / "report.html")


def test_a_document_survives_json() -> None:
    stored = json.loads(json.dumps(document().to_dict()))
    assert ReportDocument.from_dict(stored).to_dict() == stored


def test_a_document_of_another_version_is_refused() -> None:
    with pytest.raises(InputError, match="run the comparison again"):
        ReportDocument.from_dict({"version": 99})
