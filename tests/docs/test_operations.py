"""Every command of docs/operations.md, run in order in one folder."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from intramodal import ImageCollection, Projection, open_store
from intramodal.cli import cli
from intramodal.commands.options import DEFAULT_STORE
from intramodal.store.base import UNNAMED, VectorSpec
from intramodal.store.manifest import VectorOrigin

OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"
N, D = 30, 8


@pytest.fixture
def shops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    monkeypatch.chdir(tmp_path)
    matrix = np.linalg.qr(rng.normal(size=(D, D // 2)))[0]
    Projection(matrix, "pca", "clip", "3f9a").save("pca.safetensors")
    X = rng.normal(size=(N, D)).astype(np.float32)
    payloads = [{"category": ("cats", "dogs", "cars")[n % 3]} for n in range(N)]
    with open_store(DEFAULT_STORE) as store:
        for name, vector in (("products", "image"), ("shop", UNNAMED)):
            store.create(name, {vector: VectorSpec(D)})
            store.upsert(name, list(range(N)), {vector: X}, payloads)
            ImageCollection.open(store, name).declare(vector, VectorOrigin("clip", "3f9a"))
        store.set_alias("shown", "shop")


@pytest.mark.usefixtures("shops")
def test_every_command_runs_and_leaves_things_as_the_text_says() -> None:
    blocks = re.findall(r"^```console\n(.*?)^```", OPERATIONS.read_text(), re.M | re.S)
    lines = [shlex.split(line) for block in blocks for line in block.splitlines()]
    assert len(lines) == 13
    for line in lines:
        assert line[0] == "intramodal"
        result = CliRunner().invoke(cli, line[1:])
        assert result.exit_code == 0, f"{shlex.join(line)}\n{result.output}"
    with open_store(DEFAULT_STORE) as store:
        assert store.collections() == ["products", "shop", "shop_v2"]
        assert set(store.info("products").vectors) == {"image"}
        assert set(store.info("shop_v2").vectors) == {"raw", "pca"}
        assert store.aliases() == {"shown": "shop"}


def test_no_link_leads_nowhere() -> None:
    text = OPERATIONS.read_text()
    headings = {
        re.sub(r"[^a-z0-9 -]", "", h.lower()).replace(" ", "-")
        for h in re.findall(r"^#+ (.+)$", text, re.M)
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= headings
