"""What the Tab key offers, asked as bash asks: it only looks, and says nothing else."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from click.shell_completion import BashComplete

from intramodal import ImageCollection, open_store
from intramodal.cli import COMMANDS, cli
from intramodal.commands import completion
from intramodal.commands.options import DEFAULT_RUNS, DEFAULT_STORE
from intramodal.runs.ledger import RunLedger
from intramodal.store.base import VectorSpec
from tests.cli.kit import invoke, make_photos
from tests.faults.wire import WireServer

CODE = "from intramodal.cli import main; main()"


@pytest.fixture(autouse=True)
def in_tmp(empty_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(completion, "_PATIENCE_S", 60.0)  # it would end this process
    return empty_folder


def offered(words: str) -> list[str]:
    """Return what is offered for the last word of a line."""
    *before, last = words.split(" ")
    found = BashComplete(cli, {}, "intramodal", "").get_completions(before, last)
    return [item.value if item.type == "plain" else item.type for item in found]


def told(words: str, **environment: str) -> list[str]:
    """Return what a new process prints for bash; it says nothing else, whatever happens."""
    line = f"intramodal {words}"
    asked = {"COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        env={**os.environ, **asked, "_INTRAMODAL_COMPLETE": "bash_complete", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return [line.removeprefix("plain,") for line in done.stdout.splitlines() if line]


def names_of(folder: Path) -> Mapping[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_collections_vectors_fields_and_runs_are_offered(
    rng: np.random.Generator, in_tmp: Path
) -> None:
    make_photos(rng)
    with RunLedger.open(DEFAULT_RUNS) as ledger, ledger.run("fit") as run:
        pass
    before = names_of(in_tmp)
    assert offered("compare ph") == ["photos"]
    assert offered("evaluate text p") == ["photos"]
    assert offered("compare photos --vectors ") == ["pca", "raw"]
    assert offered("compare photos --vectors raw,") == ["raw,pca"]
    assert offered("backfill photos --from r") == ["raw"]
    assert offered("runs show 2") == [run.id]
    assert offered("report ") == [run.id]
    assert offered("compare photos --projection ") == ["file"]  # the shell's own
    assert names_of(in_tmp) == before
    # Fields are read from points, and so from an open collection.
    assert offered("compare photos --labels se") == ["season"]
    assert offered("evaluate text photos:raw --labels kind,") == ["kind,season", "kind,path"]
    assert offered("search photos --label k") == ["kind"]


def test_options_of_a_trusted_folder_say_where_to_look(rng: np.random.Generator) -> None:
    with open_store("mine") as store:
        store.create("shop", {"image": VectorSpec(4)})
    Path("intramodal.toml").write_text("store = 'mine'\n")
    assert offered("compare s") == []  # nobody trusts this folder
    assert invoke("trust").exit_code == 0
    assert offered("compare s") == ["shop"]
    assert offered("compare --store elsewhere s") == []
    assert told("compare s") == ["shop"]
    assert told("compare s", INTRAMODAL_STORE="elsewhere") == []


def test_nothing_is_made_where_there_is_nothing(in_tmp: Path) -> None:
    for words in ("compare ", "compare x --labels ", "compare x --vectors ", "runs show "):
        assert offered(words) == []
    assert list(in_tmp.iterdir()) == []
    assert told("nonsense ") == [*COMMANDS]
    assert told("compare x --labels ") == []


def test_a_store_that_another_process_holds_offers_what_its_catalogue_says(
    rng: np.random.Generator,
) -> None:
    make_photos(rng)
    with open_store(DEFAULT_STORE) as store:
        ImageCollection.open(store, "photos")
        assert told("compare photos --labels ") == []
        assert told("compare ") == ["photos"]


def test_a_server_is_asked() -> None:
    with WireServer() as server, open_store(server.url) as store:
        store.create("wired", {"image": VectorSpec(4)})
        payloads = [{"kind": "a"}, {"kind": "b"}]
        store.upsert("wired", [1, 2], {"image": np.eye(2, 4, dtype=np.float32)}, payloads)
        place = f"--store {server.url}"
        assert offered(f"compare {place} w") == ["wired"]
        assert offered(f"compare {place} wired --labels ") == ["kind"]


def test_a_dead_server_is_given_up_at_once() -> None:
    with socket.socket() as listening:  # it takes connections, and never answers
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        port = listening.getsockname()[1]
        for place in (
            f"http://127.0.0.1:{port}",
            "http://127.0.0.1:9",
            "postgresql://127.0.0.1:9/x",
        ):
            started = time.monotonic()
            is_runs = place.startswith("postgresql")
            words = f"runs show --runs {place} " if is_runs else f"compare --store {place} "
            assert told(words) == []
            assert time.monotonic() - started < 30  # two minutes for a command


def test_names_of_strangers_are_offered_only_as_plain_words() -> None:
    payload = {"kind": 1, "a b": 1, "$(touch x)": 1, "`id`": 1, "-rf": 1, "a\x1b[2J": 1, "été": 1}
    with open_store(DEFAULT_STORE) as store:
        store.create("photos", {"image": VectorSpec(2)})
        store.upsert("photos", [1], {"image": np.ones((1, 2), np.float32)}, [payload])
    assert sorted(offered("compare photos --labels ")) == ["kind", "été"]
    for name in ("a;b", "a\nb", "~", "a*", "a'b", "#a", "", "a\u202eb", "a:b", "a=b"):
        assert not completion._IS_WORD(name)
