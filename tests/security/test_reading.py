"""What only judges and searches writes nothing, and speaks with nobody but its store."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
import numpy as np
import pytest
from PIL import Image

from intramodal import open_store
from intramodal.cli import cli
from intramodal.commands.options import DEFAULT_STORE
from intramodal.store.base import VectorSpec
from tests.cli.kit import run, walk
from tests.security.kit import fill, read_only_server

ROOT = Path(__file__).parents[2]
SIDE = ("--query-side", "pca.safetensors", "--rerank", "20")
LABELS = ("--labels", "kind")
READING: dict[str, tuple[str, ...]] = {
    "compare": ("compare", "photos", "--labels", "kind", "--projection", "pca.safetensors"),
    "compare without labels": ("compare", "photos"),
    "report": ("compare", "photos", "--labels", "kind", "-o", "report.html"),
    "retrieval": ("evaluate", "retrieval", "photos", "--labels", "kind"),
    "fewshot": ("evaluate", "fewshot", "photos", "--labels", "kind", "--episodes", "2"),
    "misalignment": ("evaluate", "misalignment", "photos", "--labels", "kind"),
    "index": ("evaluate", "index", "photos", "--labels", "kind", "-k", "5"),
    "text": ("evaluate", "text", "photos", "--labels", "kind", "--text-vectors", "T.npy"),
    "fewshot-text": (
        *("evaluate", "fewshot-text", "photos", "--labels", "kind", "--text-vectors", "T.npy"),
        *("--shots", "1", "--episodes", "1", "--validation", "0", "--methods", "zero-shot,lda"),
    ),
    "recovery": (
        *("evaluate", "recovery", "photos", "--text-vectors", "A.npy", "--anchors", "names.txt"),
        *("--pairs", "50"),
    ),
    "search": ("search", "photos", "--id", "7", "--html", "page.html"),
    "search by the query side": ("search", "photos", "--id", "7", *SIDE),
    "retrieval by the query side": ("evaluate", "retrieval", "photos", *LABELS, *SIDE),
    "index by the query side": ("evaluate", "index", "photos", *LABELS, "-k", "5", *SIDE),
    "compare the query side": ("compare", "photos", *LABELS, "-o", "side.html", *SIDE),
    "export": ("export", "photos", "--vector", "pca", "-o", "rows.npy"),
    "doctor": ("doctor",),
    "verify": ("backfill", "photos", "--projection", "pca.safetensors", "--verify", "10"),
    "plan": ("backfill", "photos", "--projection", "pca.safetensors", "--dry-run"),
}

SILENT = [command for command in READING.values() if command != ("doctor",)]

# Runs commands in a process whose every connection, look-up and listening socket is told.
WATCHED = """
import json, socket, sys
seen = []
def hook(event, args):
    if event in ("socket.connect", "socket.sendto"):
        if isinstance(args[1], tuple):  # no path of a Unix socket
            seen.append([event, args[1][0], args[1][1]])
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        seen.append([event, str(args[0]), 0])
sys.addaudithook(hook)
def listen(self, *backlog):
    seen.append(["socket.listen", *map(str, self.getsockname()[:2])])
socket.socket.listen = listen
from click.testing import CliRunner
from intramodal.cli import cli
codes = [CliRunner().invoke(cli, command).exit_code for command in json.loads(sys.argv[1])]
print(json.dumps([codes, seen]))
"""


def watched(*commands: tuple[str, ...], **variables: str) -> tuple[list[int], list[Any]]:
    """Return exit codes, and the address of every connection that was tried."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, json.dumps(commands)],
        env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    codes, seen = json.loads(done.stdout.splitlines()[-1])
    return codes, seen


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", READING)
def test_a_key_that_may_only_read_is_enough(folder: Path, name: str) -> None:
    with read_only_server() as server:
        answer = run(*READING[name], "--store", server.url)
        assert server.refused == []
    assert answer


@pytest.mark.parametrize("vector", ["raw", ""], ids=["named", "unnamed"])
def test_an_older_server_and_a_key_that_may_only_read_are_enough_for_the_query_side(
    folder: Path, vector: str
) -> None:
    X = np.random.default_rng(2).normal(size=(30, 16)).astype(np.float32)
    payloads = [{"kind": f"k{n % 3}"} for n in range(30)]
    named = ("--vectors", vector or "''")
    with read_only_server(version="1.16.2") as server:
        server.refused = None
        with open_store(server.url) as store:  # as other programs write
            store.create("foreign", {vector: VectorSpec(16)})
            store.upsert("foreign", list(range(30)), {vector: X}, payloads)
        server.refused = []
        found = run("compare", "foreign", *LABELS, *named, *SIDE, "--store", server.url)
        shown = run("search", "foreign", "--id", "7", *named, *SIDE, "--store", server.url)
        assert server.refused == []
    assert found["vectors"] == [vector, "pca@query:20"]
    assert len(shown["vectors"]["pca@query:20"]) == 10


def test_every_evaluation_is_among_them() -> None:
    asked = {command[1] for command in READING.values() if command[0] == "evaluate"}
    # Texts are inverted by a model's text tower, which this folder's collection has none of; what
    # it keeps it keeps in a file, unless it is told the name of a vector.
    assert asked == {name.split()[1] for name, _ in walk(cli) if name.startswith(" evaluate")} - {
        "oti"
    }


def test_a_write_would_have_been_noticed(folder: Path) -> None:
    with read_only_server() as server:
        refused = run("backfill", "photos", "--rollback", "--store", server.url, code=1)
        assert refused["error"]["type"] == "AccessDenied"
        assert server.refused


def test_nobody_but_the_store_is_spoken_to(folder: Path) -> None:
    with read_only_server() as server:
        commands = [(*command, "--store", server.url) for command in SILENT]
        codes, seen = watched(*commands)
        address = urlsplit(server.url)
    assert codes == [0] * len(commands)
    there = {
        ("socket.connect", address.hostname, address.port),
        # Whether the same server also speaks gRPC is asked on the port after it.
        ("socket.connect", address.hostname, (address.port or 0) + 1),
        ("socket.getaddrinfo", address.hostname, 0),
    }
    assert {tuple(one) for one in seen} <= there
    assert ("socket.connect", address.hostname, address.port) in {tuple(one) for one in seen}


def test_with_an_embedded_store_nobody_is_spoken_to_at_all(folder: Path) -> None:
    with open_store(DEFAULT_STORE) as store:
        fill(store)
    codes, seen = watched(*SILENT)
    assert (codes, seen) == ([0] * len(SILENT), [])


@pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="without torch doctor asks no hub"
)
def test_doctor_alone_looks_whether_the_hub_is_there_unless_that_is_forbidden(
    folder: Path,
) -> None:
    with open_store(DEFAULT_STORE) as store:
        fill(store)
    hub = "http://127.0.0.1:9"
    codes, seen = watched(("doctor",), HF_ENDPOINT=hub, HF_HUB_OFFLINE="", NO_PROXY="*")
    assert codes == [0]
    assert {host for _, host, _ in seen} == {"127.0.0.1"}
    assert watched(("doctor",), HF_ENDPOINT=hub, HF_HUB_OFFLINE="1") == ([0], [])


def test_pictures_are_ingested_and_a_projection_is_fitted_without_a_connection(
    folder: Path,
) -> None:
    pytest.importorskip("open_clip", reason="the shipped model needs intramodal[encoders]")
    (folder / "pictures").mkdir()
    for n in range(4):
        pixels = np.full((30, 30, 3), 60 * n, np.uint8)
        Image.fromarray(pixels).save(folder / "pictures" / f"{n}.png")
    (folder / "names.txt").write_text("".join(f"thing {n}\n" for n in range(300)))
    codes, seen = watched(
        ("ingest", "pictures", "--collection", "few", "--model", "demo"),
        ("fit", "--model", "demo", "--anchors", "names.txt", "-o", "few.safetensors"),
        ("search", "few", "--vectors", "raw", "--text", "a thing"),
    )
    assert (codes, seen) == ([0, 0, 0], [])


def test_no_command_takes_a_key_where_others_can_see_it() -> None:
    def options(command: click.Command, path: str) -> list[str]:
        found = [f"{path} {o}" for p in command.params for o in p.opts]
        if isinstance(command, click.Group):
            ctx = click.Context(command)
            for name in command.list_commands(ctx):
                inner = command.get_command(ctx, name)
                assert inner is not None
                found += options(inner, f"{path} {name}")
        return found

    everything = options(cli, "")
    assert " evaluate retrieval --store" in everything
    # The name of a part of a collection, no secret.
    everything = [option for option in everything if not option.endswith(" --shard-key")]
    for word in ("key", "password", "token", "secret"):
        assert not [option for option in everything if word in option.rpartition(" ")[2]]
