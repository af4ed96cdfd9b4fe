"""Verdicts and states have the report's colours on a terminal, and nowhere else."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest

from intramodal import ImageCollection, Projection, open_store
from intramodal.commands.options import DEFAULT_STORE
from intramodal.store.manifest import VectorOrigin
from tests.cli.kit import invoke, run
from tests.cli.pseudo_terminal import on_a_terminal

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no pty")

N, D = 48, 8
COLOURS = {"green": "32", "yellow": "33", "red": "31"}
VERIFY = ("backfill", "photos", "--projection", "p.safetensors", "--verify", "40")
COMPARE = ("compare", "photos", "--vectors", "raw,pca", "--labels", "kind", "--no-controls")


@pytest.fixture(autouse=True)
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    """Leave a backfilled collection."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    X = rng.normal(size=(N, D)).astype(np.float32)
    with open_store(DEFAULT_STORE) as store:
        made = ImageCollection.create(store, "photos", {"raw": (D, VectorOrigin("ours", "3f9a"))})
        made.write(list(range(N)), {"raw": X}, [{"kind": i % 4} for i in range(N)])
    Projection(np.eye(D, 4, dtype=np.float32), "pca", "ours", "3f9a").save("p.safetensors")
    run("backfill", "photos", "--projection", "p.safetensors")


def assert_coloured(words: tuple[str, ...], state: str, colour: str) -> None:
    _, screen = on_a_terminal(*words)
    assert re.search(rf"\x1b\[{COLOURS[colour]}m *({state})", screen), screen


@pytest.mark.parametrize(
    ("words", "state", "colour"),
    [
        (("doctor",), "ok", "green"),
        (("runs", "list"), "COMPLETE", "green"),
        (VERIFY, "ok", "green"),
    ],
    ids=["doctor", "runs list", "verify"],
)
def test_a_state_has_its_colour_on_a_terminal_only(
    words: tuple[str, ...], state: str, colour: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_coloured(words, state, colour)
    assert "\x1b" not in invoke(*words).output
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[3" not in on_a_terminal(*words)[1]


def test_a_stale_vector_is_red() -> None:
    with open_store(DEFAULT_STORE) as store:
        store.update_vectors("photos", "raw", list(range(N)), np.ones((N, D), np.float32))
    assert_coloured(VERIFY, "stale", "red")


def test_a_run_and_a_verdict_are_coloured() -> None:
    _, screen = on_a_terminal(*COMPARE)
    verdicts = "adopt|do not adopt|not settled"
    (found,) = set(re.findall(rf"\x1b\[(\d+)m({verdicts})", screen))
    assert found in {("32", "adopt"), ("31", "do not adopt"), ("33", "not settled")}
    run_id = run("runs", "list")["runs"][0]["id"]
    assert_coloured(("runs", "show", run_id), "COMPLETE", "green")
