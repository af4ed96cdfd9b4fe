"""What a comparison proposes where it settles nothing: lines that run as they are pasted."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from intramodal import ImageCollection, open_store
from intramodal.projection.projection import Projection
from intramodal.store.manifest import VectorOrigin
from intramodal.types import declared_fingerprint
from tests.cli.kit import invoke, run

N, D = 120, 256
MODEL = "demo"
STORE = ("--store", "the store", "--runs", "the runs.db")
COMPARE = ("compare", "the shop", "--no-controls", *STORE)


def make_shop(model: str, *, is_declared: bool = True, vector: str = "image") -> None:
    """Write a collection whose projected vector is noise, which serves no field."""
    rng = np.random.default_rng(3)
    X, fingerprint = rng.normal(size=(N, D)).astype(np.float32), declared_fingerprint(model)
    pca = Projection(np.eye(D, 8, dtype=np.float32), "pca", model, fingerprint)
    pca.save("the pca.safetensors")
    payloads = [{"shade, or hue": ("red", "blue")[i % 2], "size": f"s{i % 3}"} for i in range(N)]
    own = VectorOrigin(model, fingerprint)
    made = VectorOrigin(model, fingerprint, "", pca.fingerprint, vector, "pca")
    origins = {vector: (D, own), "pca": (8, made)}
    with open_store("the store") as store:
        photos = ImageCollection.create(store, "the shop", origins)
        photos.write(list(range(N)), {vector: X, "pca": pca.apply(X)}, payloads)


@pytest.fixture(autouse=True)
def in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def proposed(result: dict[str, Any]) -> Iterator[tuple[str, str, list[str]]]:
    """Yield field, map and lines."""
    for name, field in result["fields"].items():
        for one in field["next_maps"]:
            yield name, one["map"], one["commands"]


def test_the_lines_fit_the_maps_they_propose_and_both_can_be_judged() -> None:
    make_shop(MODEL)
    compare = (*COMPARE, "--projection", "the pca.safetensors", "--labels", '"shade, or hue",size')
    result = run(*compare, "-o", "page.html")
    lines = {(name, map_): lines for name, map_, lines in proposed(result)}
    names = ("shade, or hue", "size")
    assert list(lines) == [(name, map_) for name in names for map_ in ("words", "label")]
    said = re.findall(r"^next: (.*)$", invoke(*compare).stderr, re.MULTILINE)
    of_decision = [one["commands"] for one in result["decision"]["next_maps"]]
    assert [len(each) for each in of_decision] == [2, 1]  # several fields take one line of labels
    assert all(line in said for each in of_decision for line in each)
    (words,), (label,) = lines["shade, or hue", "words"], lines["shade, or hue", "label"]
    assert "--projection 'the pca.safetensors'" in words
    for line, file in ((words, "words_shade_or_hue"), (label, "label_shade_or_hue")):
        done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=False)
        assert done.returncode == 0, (line, done.stderr)
        run("backfill", "the shop", "--projection", f"{file}.safetensors", "--from", "image",
            *STORE)  # fmt: skip
        judged = run(*COMPARE, "--vectors", f"image,{file}", "--labels", '"shade, or hue"')
        # Noise by any map: what is judged is never what is proposed.
        kept = {map_ for _, map_, _ in proposed(judged)}
        assert kept <= {"words", "label"} - {file.partition("_")[0]}
        assert kept or judged["fields"]["shade, or hue"]["verdict"] in ("better", "not_worse")


def test_every_rendering_names_both_maps_with_their_lines() -> None:
    make_shop(MODEL)
    result = run(*COMPARE, "--labels", "size", "-o", "page.html")
    run_id = result["run_id"]
    invoke("report", run_id, "-o", "page.md", "--runs", "the runs.db")
    page, markdown = Path("page.html").read_text(), Path("page.md").read_text()
    found = [line for _, _, lines in proposed(result) for line in lines]
    assert len(found) == 3  # where no file of a projection is known, one is fitted first
    assert "fit --model demo " in found[0]
    for line in found:
        shown = line.replace("'", "&#39;")
        assert page.count(shown) == 2  # where it decides, and in the field's card
        assert f"        {line}\n" in markdown
    for text in (page, markdown):
        assert "words map" in text
        assert "label map" in text


def test_the_file_of_a_projection_is_found_by_the_runs_that_used_it() -> None:
    make_shop(MODEL)
    run("backfill", "the shop", "--projection", "the pca.safetensors", "--from", "image",
        "--to", "again", *STORE)  # fmt: skip
    result = run(*COMPARE, "--vectors", "image,pca", "--labels", "size")
    lines = [line for _, _, lines in proposed(result) for line in lines]
    assert len(lines) == 2
    assert all("--projection 'the pca.safetensors'" in line for line in lines)


def test_a_model_without_a_text_tower_here_has_no_line_for_words() -> None:
    make_shop("my model")
    result = run(*COMPARE, "--labels", "size")
    assert [(map_, len(lines)) for _, map_, lines in proposed(result)] == [
        ("words", 0),
        ("label", 1),
    ]
