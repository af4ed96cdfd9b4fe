"""``intramodal advise``: what it prints, and that its command lines do what they say."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from intramodal import ImageCollection, open_store
from intramodal.commands.options import DEFAULT_STORE
from intramodal.fit_rows import FitRows
from tests.cli.kit import invoke, make_declared, run

N, D, K = 320, 32, 4
MODEL = "open_clip:ViT-B-32:openai"


@pytest.fixture(autouse=True)
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    monkeypatch.chdir(tmp_path)
    kinds = rng.integers(K, size=N)
    X = (rng.normal(size=(N, D)) * np.linspace(3, 1, D)).astype(np.float32)
    X[:, -K:] += 2.5 * np.eye(K, dtype=np.float32)[kinds]
    noise = rng.permutation(kinds)
    payloads = [
        {"my kind": f"k{kind}", "noise": f"n{other}", "split": "train" if i % 3 else "test"}
        for i, (kind, other) in enumerate(zip(kinds, noise, strict=True))
    ]
    make_declared(X, payloads, MODEL, "pca map.safetensors")


ADVISE = ("advise", "photos", "--labels", "my kind")


def followed(lines: list[str]) -> list[dict[str, Any]]:
    """Run command lines as they are printed, and return what each answers."""
    words = [shlex.split(line) for line in lines]
    return [run(*line[line.index("intramodal") + 1 :]) for line in words]


@pytest.mark.parametrize(
    "more",
    [
        ("--projection", "pca map.safetensors"),
        ("--text-vectors", "T.npy", "--fit-rows", "split=train"),
        ("--fit-share", "0.4", "--store", DEFAULT_STORE),
    ],
    ids=["projection", "texts", "share"],
)
def test_the_command_lines_fit_store_and_judge_by_rows_that_chose_nothing(
    more: tuple[str, ...],
) -> None:
    found = run(*ADVISE, *more)["fields"]["my kind"]
    assert found["choice"] in ("label", "posterior")
    fitted, filled, compared = followed(found["commands"])
    rows = {"share": 0.5}
    if "--fit-rows" in more:
        rows = {"where": ["split", ["train"]]}
    if "--fit-share" in more:
        rows = {"share": 0.4}
    assert fitted["maps"][0]["labels"]["rows"] == rows
    name = f"{found['choice']}_my_kind"
    assert filled["vector"] == name
    assert compared["held_out"]["n_fit_rows"] == sum(
        i % 3 > 0 if "where" in rows else FitRows(**rows).holds(i)  # type: ignore[arg-type]
        for i in range(N)
    )
    assert compared["fields"]["my kind"]["verdict"] == "better"


def test_labels_of_a_file_are_named_in_the_command_lines() -> None:
    with open_store(DEFAULT_STORE) as store:
        table = ImageCollection.open(store, "photos").table(["raw"], payload=["my kind"])
    lines = [f"{i},{kind}\n" for i, kind in zip(table.ids, table.payload["my kind"], strict=True)]
    Path("labels.csv").write_text("".join(["id,told\n", *lines]), encoding="utf-8")
    found = run("advise", "photos", "--labels", "told", "--labels-from", "labels.csv")
    fit, _, compare = found["fields"]["told"]["commands"]
    assert "--labels-from labels.csv" in fit
    assert "--labels-from labels.csv" in compare


def test_people_see_choice_gains_reasons_and_command_lines() -> None:
    result = invoke(*ADVISE, "--budget", "100", "--store", DEFAULT_STORE)
    assert result.exit_code == 0, result.output
    assert "gain in points" in result.stdout
    assert "Use " in result.stdout
    assert "for my kind: mAP +" in result.stdout
    assert "intramodal fit photos --labels 'my kind'" in result.stdout
    assert f"--store {DEFAULT_STORE}" in result.stdout
    assert "not offered: pca_centered: needs the model's texts" in result.stderr
    assert "chosen by 100 of 1" in result.stderr
    assert "first page: precision@1" in result.stderr
    assert "label" not in result.stdout or "raw   " not in result.stdout
    wide = invoke(*ADVISE, "--wide")
    assert "centered" in wide.stdout


def test_labels_that_say_nothing_get_no_promise() -> None:
    found = run("advise", "photos", "--labels", "noise")["fields"]["noise"]
    assert not found["sentence"].startswith("Use ")
    for one in found["candidates"].values():
        if one["interval"] is not None:
            assert one["interval"][0] < 0 < one["interval"][1]


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (("--budget", "3"), "the budget is a number of labelled rows from 25 to 5,000, got 3"),
        (("--fit-share", "0.5", "--fit-rows", "split=train"), "give either --fit-share or"),
        (("--projection", "a", "--text-vectors", "b"), "give either --projection or"),
        (("--model", "demo"), "--model is for --projection only"),
        (("--labels", "nothing"), "no point has a value in field 'nothing'"),
    ],
)
def test_what_cannot_be_advised_is_refused_in_one_sentence(
    more: tuple[str, ...], sentence: str
) -> None:
    result = invoke(*ADVISE, *more)
    assert result.exit_code in (1, 2)
    assert sentence in " ".join(result.stderr.split())
    assert "Traceback" not in result.output
