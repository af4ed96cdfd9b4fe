"""A declared model of another dimension is refused wherever a model can be declared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from intramodal import ImageCollection, Projection, open_store
from intramodal.commands.options import DEFAULT_STORE
from intramodal.store.base import VectorSpec
from tests.cli.kit import invoke, run

KNOWN, D = "open_clip:ViT-B-32:openai", 48
SAID = "makes vectors of 512 dimensions"


@pytest.fixture(autouse=True)
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    """Leave ready vectors and texts of 48 dimensions, and a collection of such vectors."""
    monkeypatch.chdir(tmp_path)
    X = rng.normal(size=(20, D)).astype(np.float32)
    np.save("X.npy", X)
    np.save("T.npy", X)
    Path("names.txt").write_text("\n".join(f"name {i}" for i in range(20)))
    save_file({"image": X.T.copy(), "text": X.T.copy()}, "heads.safetensors")
    Projection(np.eye(D, 8, dtype=np.float32), "pca", KNOWN, f"declared:{KNOWN}").save("p.st")
    with open_store(DEFAULT_STORE) as store:
        store.create("shop", {"image": VectorSpec(D)})
        store.upsert("shop", list(range(20)), {"image": X}, [{}] * 20)


COMMANDS = {
    "ingest": ("ingest", "X.npy", "--collection", "new"),
    "fit": (
        "fit",
        "--text-vectors",
        "T.npy",
        "--anchors",
        "names.txt",
        "--components",
        "8",
        "-o",
        "o.safetensors",
    ),
    "isoclip": (
        *("fit", "--method", "isoclip", "--projectors", "heads.safetensors"),
        *("--k-top", "2", "--k-bottom", "30", "-o", "o.safetensors"),
    ),
    "adopt": ("adopt", "shop", "--vector", "image"),
    "backfill": ("backfill", "shop", "--projection", "p.st", "--from", "image"),
    "plan": ("backfill", "shop", "--projection", "p.st", "--from", "image", "--dry-run"),
}


def declared() -> set[str]:
    with open_store(DEFAULT_STORE) as store:
        return set(ImageCollection.open(store, "shop").manifest.vectors)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_known_model_of_another_dimension_is_refused_and_nothing_is_made(command: str) -> None:
    found = run(*COMMANDS[command], "--made-by", KNOWN, code=1)
    assert f"{KNOWN} {SAID}" in found["error"]["message"]
    assert declared() == set()
    assert not Path("o.safetensors").exists()
    with open_store(DEFAULT_STORE) as store:
        assert store.collections() == ["shop"]


@pytest.mark.parametrize("command", ["ingest", "fit", "isoclip", "adopt"])
def test_a_name_of_another_form_is_taken_and_said_once(
    command: str, caplog: pytest.LogCaptureFixture
) -> None:
    done = invoke(*COMMANDS[command], "--made-by", "openai/clip-vit-base-patch32")
    assert done.exit_code == 0, done.output
    said: list[Any] = [record.message for record in caplog.records]
    assert (
        said.count(
            "'openai/clip-vit-base-patch32' is taken as a custom name; did you mean "
            "hf:openai/clip-vit-base-patch32?"
        )
        == 1
    )
