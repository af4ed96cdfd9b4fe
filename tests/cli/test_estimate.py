"""A long read is announced on stderr, with the cheaper way that the command has."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from intramodal import ImageCollection, open_store, progress
from intramodal.commands.options import DEFAULT_STORE
from intramodal.store.manifest import VectorOrigin
from tests.cli.kit import invoke

N = 2500  # more than a page
COMMANDS = {
    "retrieval": ("evaluate", "retrieval", "shop", "--labels", "kind", "--vectors", "raw"),
    "export": ("export", "shop", "--vector", "raw", "-o", "out.npy"),
}
SAID = {
    "retrieval": "2,500 points, about 1 minute; --sample 250: about 1 minute\n",
    "export": "2,500 points, about 1 minute\n",
}


@pytest.fixture(autouse=True)
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    monkeypatch.chdir(tmp_path)
    with open_store(DEFAULT_STORE) as store:
        made = {"raw": (4, VectorOrigin("clip", "3f9a"))}
        shop = ImageCollection.create(store, "shop", made)
        X = rng.normal(size=(N, 4)).astype(np.float32)
        shop.write(range(N), {"raw": X}, [{"kind": f"k{i % 5}"} for i in range(N)])


@pytest.mark.parametrize("name", COMMANDS)
def test_a_long_read_is_announced_once_on_stderr(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "MEASURED_S", 0.0)
    monkeypatch.setattr(progress, "LONG_S", 0.0)
    done = invoke(*COMMANDS[name], "--json")
    assert done.exit_code == 0, done.output
    assert done.stderr.count(SAID[name]) == done.stderr.count(" points, about ") == 1
    json.loads(done.stdout)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_quick_read_is_not_announced(name: str) -> None:
    assert " points, about " not in invoke(*COMMANDS[name]).stderr
