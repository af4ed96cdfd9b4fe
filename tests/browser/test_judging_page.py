"""The judging page in a real browser: votes by key and click, saved, made a preference."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest

from tests.browser import chromium
from tests.cli.kit import make_photos, run

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(chromium.find() is None, reason="chromium is not installed"),
]

_VOTE = """{
HTMLAnchorElement.prototype.click = function () {
  document.documentElement.dataset.saved = this.href + " " + this.download;
};
const press = (key) => dispatchEvent(new KeyboardEvent("keydown", { key, cancelable: true }));
const better = (row, choice) =>
  [...row.querySelectorAll("button")].findIndex((button) => button.dataset.choice === choice);
const all = [...document.querySelectorAll("[data-query]")];
// pca is better by its key for all but the last four, which are clicked: a, tie, b, and a second
// thought.
all.slice(0, -4).forEach((row) => press(String(1 + better(row, "b"))));
const click = (row, choice) => row.querySelectorAll("button")[better(row, choice)].click();
click(all.at(-4), "a");
click(all.at(-3), "tie");
click(all.at(-2), "b");
click(all.at(-1), "b");
click(all.at(-1), "a");
// The first result of the first query is right; the second one wrong, the third neither.
const results = [...all[0].querySelectorAll("[data-result]")];
[1, 2, 3].forEach((times, n) => { for (let i = 0; i < times; i++) results[n].click(); });
document.documentElement.dataset.count = document.getElementById("count").textContent;
document.getElementById("save").click();
}"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("judging page")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        make_photos(np.random.default_rng(7))
        run("compare", "photos", "-o", "judge.html", "--seed", "3")
    return folder / "judge.html"


def test_nothing_is_fetched_and_the_console_stays_empty(page: Path, tmp_path: Path) -> None:
    seen = chromium.visit(page, tmp_path)
    assert (seen.requested, seen.console) == ([], [])


def test_votes_by_key_and_click_become_a_preference(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dom = chromium.driven(page, tmp_path, _VOTE)
    [count] = re.findall(r'data-count="([^"]*)"', dom)
    [saved] = re.findall(r'data-saved="([^"]*)"', dom)
    address, name = html.unescape(saved).rsplit(" ", 1)
    n = dom.count("data-query=")
    assert (count, name) == (f"{n} of {n} judged, 2 results marked", "votes.json")
    stored = json.loads(unquote(address.partition(",")[2]))
    assert {row["left"] for row in stored["votes"]} == {"a", "b"}  # the sides are shuffled
    monkeypatch.chdir(page.parent)
    Path(name).write_text(json.dumps(stored))
    found = run("judge", name, "--judgments", "judged.json")
    assert found["n_judged"] == 1
    asked = ("evaluate", "retrieval", "photos", "--protocol", "revisited", "--name-field", "id")
    judged = run(*asked, "--ground-truth", "judged.json")["fields"]["easy"]
    assert (judged["n_queries"], judged["n_relevant"], judged["n_gallery"]) == (1, 1, 2)
    assert (found["n_b"], found["n_a"], found["n_ties"]) == (n - 3, 2, 1)
    assert found["vectors"] == ["raw", "pca"]
    assert found["sentence"].startswith("People prefer pca")
    assert run("runs", "show", found["run_id"])["kind"] == "judge"


def test_large_ids_are_saved_as_they_are(page: Path, tmp_path: Path) -> None:
    # JavaScript would round them: 2**53 + 1 and 2**64 - 1.
    script = """{
HTMLAnchorElement.prototype.click = function () {
  document.documentElement.dataset.saved = this.href;
};
const row = document.querySelector("[data-query]");
row.dataset.query = "9007199254740993";
const result = row.querySelector("[data-result]");
result.dataset.result = "18446744073709551615";
result.click();
row.querySelector("button").click();
document.getElementById("save").click();
}"""
    [saved] = re.findall(r'data-saved="([^"]*)"', chromium.driven(page, tmp_path, script))
    stored = json.loads(unquote(html.unescape(saved).partition(",")[2]))
    [vote] = stored["votes"]
    assert (vote["query"], vote["right"]) == (2**53 + 1, [2**64 - 1])
