"""Sentences are folded between words on a terminal; what is pasted is not."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.cli.kit import invoke, make_photos, run
from tests.cli.pseudo_terminal import on_a_terminal

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no pty")

COMPARE = ("compare", "photos", "-k", "3", "-o", "judge.html")
WIDTH = 80


@pytest.fixture(autouse=True)
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> list[str]:
    """Leave a collection; return the ids of its points."""
    monkeypatch.chdir(tmp_path)
    return make_photos(rng)[0]


def plain(screen: str) -> list[str]:
    """Return the lines of a screen without colours."""
    return re.sub(r"\x1b\[[\d;]+m", "", screen).splitlines()


def test_a_sentence_is_folded_between_its_words() -> None:
    code, screen = on_a_terminal(*COMPARE, columns=WIDTH)
    assert code == 0, screen
    lines = plain(screen)
    assert not [line for line in lines if len(line) > WIDTH and " judge votes.json" not in line]
    (sentence,) = run("compare", "photos", "-k", "3")["sentences"]
    assert len(sentence) > WIDTH
    assert sentence in invoke(*COMPARE).stdout.splitlines()  # no terminal: one line
    assert sentence not in lines
    assert sentence in " ".join(lines)


def test_a_line_to_paste_is_whole(photos: list[str]) -> None:
    place = "a folder with a name of many words that no terminal of eighty columns shows in a line"
    Path(".intramodal/store").rename(place)
    search = ("search", "photos", "--id", photos[0], "--store", place)
    _, screen = on_a_terminal(*search, columns=WIDTH)
    (line,) = re.findall(r"^next: .*", screen, re.MULTILINE)
    assert line.endswith("--html page.html")
    assert f"--store '{place}'" in line


def test_the_rows_of_a_state_begin_under_its_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    _, screen = on_a_terminal("doctor", columns=WIDTH)
    lines = plain(screen)
    assert all(re.match(r"(ok|warning|problem) |         ", line) for line in lines), lines
    assert not [line for line in lines if len(line) > WIDTH and len(line.split()) > 1]


def test_a_page_without_images_says_what_to_give() -> None:
    shown = invoke(*COMPARE)
    assert "No images: " in shown.stderr
    assert re.search(r"\(--pictures\).*\(--picture-field\)", shown.stderr, re.DOTALL)
    assert "a verdict needs labels: --labels FIELD" in shown.stderr
    shown = invoke("compare", "photos", "--labels", "kind", "--no-controls", "-o", "report.html")
    assert re.search(r"\(--pictures\).*\(--picture-field\)", shown.stderr, re.DOTALL)
    assert "No images" not in invoke("compare", "photos", "-k", "3").stderr
