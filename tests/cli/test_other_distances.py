"""A collection that ranks by Dot, with vectors of all lengths: baselines by cosine say so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from intramodal import open_store
from intramodal.commands.options import DEFAULT_STORE
from intramodal.store.base import VectorSpec
from intramodal.types import unit_rows
from tests.cli.kit import cells_of, invoke, run

N, D, N_KINDS = 60, 16, 6
NOTE = "by cosine, but searches rank 'image' by Dot, and vectors differ in length."
VECTORS = ("--vectors", "image,fine", "--labels", "kind")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> Path:
    monkeypatch.chdir(tmp_path)
    kinds = np.arange(N) % N_KINDS
    unit = unit_rows(rng.normal(size=(N_KINDS, D))[kinds] + 0.8 * rng.normal(size=(N, D)))
    X = (unit * rng.uniform(1, 60, size=(N, 1))).astype(np.float32)
    with open_store(DEFAULT_STORE) as store:
        store.create("photos", {"image": VectorSpec(D, "Dot"), "fine": VectorSpec(D, "Cosine")})
        store.upsert(
            "photos", list(range(N)), {"image": X, "fine": X}, [{"kind": f"k{k}"} for k in kinds]
        )
    return tmp_path


@pytest.mark.parametrize(
    ("command", "options"),
    [
        (("evaluate", "retrieval"), VECTORS),
        (("evaluate", "index"), ("--searches", "image,fine", "--labels", "kind", "-k", "59")),
        (("compare",), (*VECTORS, "--task", "retrieval")),
    ],
)
def test_a_ranking_names_the_store_distance_and_gives_its_map(
    command: tuple[str, ...], options: tuple[str, ...]
) -> None:
    result = invoke(*command, "photos", *options)
    assert result.exit_code == 0, result.output
    assert result.stderr.count(NOTE) == 1
    assert NOTE not in result.stdout
    rows = [cells_of(line) for line in result.stdout.splitlines() if line.startswith("kind  ")]
    (own,) = (row for row in rows if len(row) == 4 and row[1] == "image")
    found = run("evaluate", "retrieval", "photos", *VECTORS)["fields"]["kind"]["vectors"]
    by_cosine, by_dot = found["image"]["map"], found["image"]["by_distance"]["map"]
    assert own[2:] == [f"{by_cosine:.3f}", f"{by_dot:.3f}"]
    assert found["fine"]["by_distance"] is None


@pytest.mark.parametrize("command", [("evaluate", "fewshot"), ("compare",)])
def test_figures_without_a_map_are_said_to_be_by_cosine(command: tuple[str, ...]) -> None:
    labels = ("--labels", "kind", "--episodes", "2") if len(command) == 2 else ()
    result = invoke(*command, "photos", "--vectors", "image,fine", *labels)
    assert result.exit_code == 0, result.output
    assert result.output.count(NOTE) == 1


def test_nothing_is_said_of_vectors_that_are_ranked_by_cosine() -> None:
    result = invoke("evaluate", "retrieval", "photos", "--labels", "kind", "--vectors", "fine")
    assert result.exit_code == 0, result.output
    assert "by cosine" not in result.output


@pytest.mark.parametrize("suffix", ["html", "md", "tex"])
def test_a_report_gives_the_map_by_the_store_distance(folder: Path, suffix: str) -> None:
    found = run("compare", "photos", *VECTORS, "--task", "retrieval")
    place = folder / f"report.{suffix}"
    result = invoke("report", found["run_id"], "-o", str(place))
    assert result.exit_code == 0, result.output
    page = place.read_text(encoding="utf-8")
    own = found["fields"]["kind"]["map_by_distance"]
    assert list(own) == ["image"]
    assert "and vectors differ in length" in page
    assert "as the store ranks" in page
    assert page.count(f"{own['image']:.3f}") == 1
