"""What a command loads before it works: a backfill with nothing to do must end soon."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from intramodal import ImageCollection, Projection, backfill, open_store
from intramodal.store.manifest import VectorOrigin
from tests.faults.wire import WireServer

D = 8
UNUSED = {
    *("torch", "open_clip", "transformers", "sklearn", "scipy", "numba", "pandas", "pyarrow"),
    *("PIL", "jinja2", "matplotlib", "alembic", "tomllib", "fastembed", "onnxruntime"),
    *("intramodal.evaluation", "intramodal.reports", "intramodal.plots", "intramodal.demo"),
    *("intramodal.ingest.adopt", "intramodal.ingest.pipeline", "intramodal.ingest.decode"),
}
OF_SERVERS = {"qdrant_client", "grpc", "httpx", "pydantic"}
COMMAND = """
import gc, json, sys
from intramodal.cli import cli
try:
    cli(sys.argv[1:])
except SystemExit as ended:
    code = ended.code
collector = {"is_on": gc.isenabled(), "n_left_out": gc.get_freeze_count()}
print(json.dumps({"code": code, "modules": list(sys.modules), **collector}), file=sys.stderr)
"""


def seen_after_repeat(store: str, folder: Path) -> dict[str, Any]:
    """Return what a process is like after a backfill that has nothing to do."""
    X = np.random.default_rng(0).normal(size=(20, D)).astype(np.float32)
    projection = Projection(np.eye(D)[:, :4], "pca", "m", "f")
    projection.save(folder / "pca.safetensors")
    with open_store(store) as place:
        shop = ImageCollection.create(place, "shop", {"raw": (D, VectorOrigin("m", "f"))})
        shop.write(list(range(20)), {"raw": X}, [{}] * 20)
        backfill(shop, projection)
    words = ("backfill", "shop", "--store", store, "--projection", folder / "pca.safetensors")
    rest = ("--runs", folder / "runs.db", "--json")
    for _ in range(2):  # the first one makes the runs database
        done = subprocess.run(
            [sys.executable, "-c", COMMAND, *words, *rest],
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=True,
        )
    assert json.loads(done.stdout)["projected"] == 0
    seen: dict[str, Any] = json.loads(done.stderr.splitlines()[-1])
    assert seen["code"] == 0
    return seen


@pytest.fixture(params=["server", "embedded"])
def repeat(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, dict[str, Any]]:
    """Return the kind of store, and what a process is like after a backfill there."""
    if request.param == "embedded":
        return request.param, seen_after_repeat(str(tmp_path / "store"), tmp_path)
    with WireServer(speaks_grpc=True) as server:
        return request.param, seen_after_repeat(server.url, tmp_path)


def test_a_backfill_loads_only_what_it_uses_and_collects_garbage_once_it_works(
    repeat: tuple[str, dict[str, Any]],
) -> None:
    kind, seen = repeat
    unused = UNUSED | ({"qdrant_edge"} if kind == "server" else OF_SERVERS)
    assert not unused & set(seen["modules"])
    # While libraries are imported nothing is collected, and afterwards not looked at again.
    assert seen["is_on"]
    assert seen["n_left_out"] > 50_000


@pytest.mark.parametrize("words", [("--version",), ("no-such-command",)])
def test_the_face_loads_no_numpy(words: tuple[str, ...], tmp_path: Path) -> None:
    """Each completion of a shell waits for it, too."""
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert not {"numpy", "sqlalchemy"} & set(json.loads(done.stderr.splitlines()[-1])["modules"])
