"""`intramodal compare` without labels: figures, a page to judge by, and never a verdict."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from intramodal.evaluation.agreement import N_DISAGREEMENTS
from tests.cli.kit import N, invoke, make_photos, run


@pytest.fixture
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> np.ndarray:
    monkeypatch.chdir(tmp_path)
    paths = [f"<script>{n}.jpg" for n in range(N)]
    return make_photos(rng, paths=paths)[1]


def write_names(raw: np.ndarray) -> tuple[str, ...]:
    """Write six class names, and as their texts the pictures of the first six points."""
    Path("names.txt").write_text("\n".join("uvwxyz"))
    np.save("texts.npy", raw[:6])
    return "--names", "names.txt", "--text-vectors", "texts.npy"


def test_the_vectors_are_compared_by_their_neighbours_and_there_is_no_verdict(
    raw: np.ndarray,
) -> None:
    found = run("compare", "photos", "-k", "7")
    assert found["fields"] == {}
    assert found["pseudo_labels"] is None
    agreement = found["agreement"]
    assert (agreement["k"], agreement["n_queries"], agreement["n_images"]) == (7, N, N)
    assert 0 < agreement["overlap"] < 1
    first = agreement["disagreements"][0]
    common = set(first["nearest"]["raw"]) & set(first["nearest"]["pca"])
    assert first["overlap"] == pytest.approx(len(common) / 7)
    assert "no verdict" in found["sentences"][0]


def test_pseudo_labels_are_named_as_what_they_are(raw: np.ndarray) -> None:
    found = run("compare", "photos", *write_names(raw))["pseudo_labels"]
    assert 6 <= found["n_confident"] <= N
    assert found["n_images"] == N
    assert set(found["map"]) == {"raw", "pca"}
    assert sum(row["n_images"] for row in found["classes"]) == found["n_confident"]
    told = invoke("compare", "photos", *write_names(raw)).output
    assert "a hint, not evidence" in " ".join(told.split())


def test_the_page_shows_the_disagreements_and_not_which_vector_is_on_which_side(
    raw: np.ndarray,
) -> None:
    run("compare", "photos", "-o", "page.html", *write_names(raw))
    page = Path("page.html").read_text(encoding="utf-8")
    assert page.count('class="card query"') == N_DISAGREEMENTS
    assert page.count("<script>") == 1  # its own
    assert "&lt;script&gt;" in page
    left = re.findall(r'data-choice="([ab])">Left', page)
    assert {*left} == {"a", "b"}
    before = page[: page.index("<details>")]
    assert not re.search(r">[^<]*\b(raw|pca)\b", before[before.index("<h1>") :])
    run("compare", "photos", "-o", "again.html", "--seed", "1", *write_names(raw))
    again = Path("again.html").read_text(encoding="utf-8")
    assert re.findall(r'data-choice="([ab])">Left', again) != left


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--cluster", "kind"), "--cluster has a meaning with --labels only"),
        (("--projection", "p.safetensors"), "--projection has a meaning with --labels only"),
        (("--labels", "kind", "--names", "imagenet"), "--names has a meaning without --labels"),
    ],
)
def test_options_of_the_other_mode_are_refused(
    raw: np.ndarray, options: tuple[str, ...], told: str
) -> None:
    result = invoke("compare", "photos", *options)
    assert result.exit_code == 2
    assert told in result.stderr


def test_texts_without_names_are_refused(raw: np.ndarray) -> None:
    write_names(raw)
    found = run("compare", "photos", "--text-vectors", "texts.npy", code=1)
    assert "--names" in found["error"]["message"]


def test_the_report_is_still_that_of_the_newest_verdict(raw: np.ndarray) -> None:
    verdict = run("compare", "photos", "--labels", "kind", "--no-controls")
    run("compare", "photos")
    assert run("report", "-o", "r.html")["run_ids"] == [verdict["run_id"]]
