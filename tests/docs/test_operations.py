"""Every command of docs/operations.md, run in order in one folder."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from intramodal import ImageCollection, Projection, export_projection, open_store
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
    np.save("T.npy", rng.normal(size=(1000, D)).astype(np.float32))  # of the default anchors
    X = rng.normal(size=(N, D)).astype(np.float32)
    payloads = [{"category": ("cats", "dogs", "cars")[n % 3]} for n in range(N)]
    with open_store(DEFAULT_STORE) as store:
        for name, vector in (("products", "image"), ("shop", UNNAMED)):
            store.create(name, {vector: VectorSpec(D)})
            store.upsert(name, list(range(N)), {vector: X}, payloads)
            ImageCollection.open(store, name).declare(vector, VectorOrigin("clip", "3f9a"))
        store.set_alias("shown", "shop")


@pytest.mark.usefixtures("shops")
def test_every_command_and_block_runs_and_leaves_things_as_the_text_says() -> None:
    blocks = re.findall(r"^```(console|python)\n(.*?)^```", OPERATIONS.read_text(), re.M | re.S)
    assert [language for language, _ in blocks].count("python") == 1
    n_commands = sum(
        run(text) for language, text in blocks if language == "console" or shadow(text)
    )
    assert n_commands == 22
    with open_store(DEFAULT_STORE) as store:
        assert store.collections() == ["products", "shop", "shop_v2"]
        assert set(store.info("products").vectors) == {"image"}
        assert set(store.info("shop_v2").vectors) == {"raw", "pca"}
        assert store.aliases() == {"shown": "shop"}


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node, for JavaScript")
@pytest.mark.usefixtures("shops")
def test_the_javascript_block_gives_what_the_projection_gives(rng: np.random.Generator) -> None:
    matrix, offset = rng.normal(size=(D, 3)), rng.normal(size=D) / 9
    made = Projection(matrix, "pca_centered", "clip", "3f9a", offset=offset)
    export_projection(made, Path("map.json"))
    (block,) = re.findall(r"^```js\n(.*?)^```", OPERATIONS.read_text(), re.M | re.S)
    assert len(block.splitlines()) <= 11
    X = rng.normal(size=(4, D)).astype(np.float32)
    asked = f"console.log(JSON.stringify({X.tolist()}.map((v) => [project(v), query(v)])));"
    Path("run.cjs").write_text(block + asked, encoding="utf-8")
    node = ["node", "run.cjs"]
    done = subprocess.run(node, capture_output=True, text=True, check=True, timeout=60)
    for row, (projected, query) in zip(X, json.loads(done.stdout), strict=True):
        # float32 sums of 8 terms, against double precision
        np.testing.assert_allclose(projected, made.apply(row[None])[0], atol=1e-5)
        np.testing.assert_allclose(query, made.query(row[None])[0], atol=1e-5)


def run(block: str) -> int:
    """Run the commands of a block; return how many there are."""
    lines = [shlex.split(line) for line in block.splitlines()]
    for line in lines:
        assert line[0] == "intramodal"
        result = CliRunner().invoke(cli, line[1:])
        assert result.exit_code == 0, f"{shlex.join(line)}\n{result.output}"
    return len(lines)


def shadow(block: str) -> bool:
    """Serve a query as the text's service does, which answers by `image`."""
    names: dict[str, Any] = {}
    exec(compile(block, "operations.md", "exec"), names)
    store = names["store"]
    stored = next(store.scroll("products", vectors=["image"]))
    assert names["served"](stored.vectors["image"][:1])[0] == stored.ids[0]
    store.close()
    return False


@pytest.mark.usefixtures("shops")
def test_what_is_watched_ends_with_the_exit_codes_that_the_text_names() -> None:
    table = OPERATIONS.read_text().split("**5. Watch.**")[1].split("**Back.**")[0]
    commands = [shlex.split(found) for found in re.findall(r"`(intramodal [^`]+)`", table)]
    assert len(commands) == 4
    codes = {line[1]: CliRunner().invoke(cli, line[1:]).exit_code for line in commands}
    assert codes["backfill"] == codes["evaluate"] == codes["doctor"] == 0
    assert codes["compare"] in (0, 3)


def test_no_link_leads_nowhere() -> None:
    text = OPERATIONS.read_text()
    headings = {
        re.sub(r"[^a-z0-9 -]", "", h.lower()).replace(" ", "-")
        for h in re.findall(r"^#+ (.+)$", text, re.M)
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= headings
