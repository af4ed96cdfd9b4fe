"""What ``intramodal.toml`` of a folder may do before its user trusts the folder, and after."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import click
import pytest

from intramodal.cli import cli
from intramodal.commands import trusted_folders
from intramodal.commands.configuration import _kind, read_settings
from intramodal.commands.headings import long_names
from intramodal.commands.options import DEFAULT_RUNS, Preference
from intramodal.commands.trusted_folders import own_file, own_folder
from intramodal.errors import InputError
from intramodal.runs.ledger import RunLedger
from tests.cli.kit import invoke, run, walk
from tests.faults.wire import WireServer

KEY = "planted-4718"
POSIX = pytest.mark.skipif(os.name != "posix", reason="Windows has no such rights")

PREFERENCES = {
    *("all-queries", "average", "batch-size", "best", "bins", "budget", "by", "candidates"),
    *("classes",),
    *("classifiers", "cluster", "cols", "components", "controls", "deadline", "denominator"),
    *("device", "duplicates", "ef", "episodes", "exact", "fail-on", "fit-rows", "fit-share"),
    *("format", "gallery", "guard", "label-weight"),
    *("id", "ignore-quantization", "indexed-only", "intervals", "json", "k", "k-bottom", "k-top"),
    *(
        "kind",
        "known",
        "ks",
        "label",
        "labels",
        "limit",
        "map",
        "margin",
        "max-pairs",
        "max-queries",
    ),
    *("method", "methods", "metric", "min-class-size", "name-field", "normalize-text", "only"),
    *(
        "oversampling",
        "pairs",
        "picture-field",
        "precision",
        "preset",
        "protocol",
        "queries",
        "recipe",
        "rerank",
        "rescore",
    ),
    *("rows", "sample", "searches", "seed", "shots", "shots-from", "sizes", "split", "steps"),
    *("subsets", "task", "template", "test-share", "text", "texts", "throttle", "ties", "timed"),
    *(
        "timeout",
        "upload-streams",
        "validation",
        "vector",
        "vectors",
        "wait",
        "where",
        "wide",
        "word-weight",
        "workers",
    ),
}
"""Whoever adds one has asked: does it name a file, a place, an address or a model, or decide what
is written, deleted or sent? Then it is none."""

NEVER = {
    *("store", "runs", "node", "ca", "out", "report", "html", "junit", "pictures", "to"),
    *("yes", "keep", "older-than", "rollback", "recompute", "prune", "repair", "remove"),
    *(
        "model",
        "projection",
        "query-side",
        "collection",
        "dataset",
        "new-collection",
        "into-shard",
        "shard-key",
    ),
}

EVERY = [
    (path.strip(), long_names(option)[0], option)
    for path, command in walk(cli)
    for option in command.params
    if isinstance(option, click.Option)
]
BEYOND = [(path, name, option) for path, name, option in EVERY
          if not isinstance(option, Preference)]  # fmt: skip


@pytest.fixture(autouse=True)
def folder(empty_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the current folder, which nobody trusts."""
    monkeypatch.setenv("QDRANT_API_KEY", KEY)
    return empty_folder


def write(content: str) -> Path:
    file = Path("intramodal.toml")
    file.write_text(content)
    return file


class Keys(WireServer):
    """Keeps the keys that it is given."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.keys: list[str] = []

    def answer(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, Any, dict[str, str]]:
        self.keys.append({name.lower(): of for name, of in headers.items()}.get("api-key", ""))
        return super().answer(method, target, headers, body)


def test_an_option_is_a_preference_only_if_somebody_says_so() -> None:
    assert {name for _, name, option in EVERY if isinstance(option, Preference)} == PREFERENCES
    assert not NEVER & PREFERENCES
    assert {name for _, name, _ in BEYOND} >= NEVER
    assert not isinstance(click.Option(["--new"]), Preference)


def test_no_preference_names_a_file() -> None:
    paths = [name for _, name, option in EVERY if isinstance(option.type, click.Path)]
    assert paths
    assert not set(paths) & {n for _, n, option in EVERY if isinstance(option, Preference)}


@pytest.mark.parametrize(
    ("path", "name", "option"), BEYOND, ids=[f"{path} {name}" for path, name, _ in BEYOND]
)
def test_a_strange_folder_sets_nothing_beyond_preferences(
    path: str, name: str, option: click.Option
) -> None:
    shown = f"[{path.replace(' ', '.')}]"
    write(f"{shown}\n{name} = {_kind(option).example}\n")
    with pytest.raises(InputError) as refused:
        read_settings(cli)
    assert f"intramodal.toml sets {shown} {name}, which" in str(refused.value)
    assert "`intramodal trust`" in str(refused.value)
    assert str(own_file()) in str(refused.value)


def test_a_strange_folder_sets_preferences() -> None:
    write("[compare]\nmargin = 0.02\nlabels = ['kind']\n")
    assert read_settings(cli)["compare"] == {"margin": 0.02, "labels": ["kind"]}


def test_what_is_a_preference_for_some_commands_only_says_for_which_it_is_not() -> None:
    write("vector = 'raw'\n")
    with pytest.raises(InputError, match=r"sets vector \(for ingest, adopt, reproduce\), which"):
        read_settings(cli)
    write("[export]\nvector = 'raw'\n")
    assert read_settings(cli)["export"] == {"vector": "raw"}


@pytest.mark.parametrize("name", ["store", "node"])
def test_a_key_goes_to_no_address_of_a_strange_folder(folder: Path, name: str) -> None:
    with Keys() as stranger, Keys() as own:
        table = "" if name == "store" else "[ingest]\n"
        write(f"{table}{name} = '{stranger.url}'\n")
        place = () if name == "store" else ("--store", own.url)
        words = ("ingest", "x.npy", "--collection", "c", *place)
        result = invoke(*words)
        assert result.exit_code == 1
        assert "is trusted" in result.stderr
        assert stranger.keys == own.keys == []


def test_a_key_goes_to_the_address_of_ones_own_file_and_of_a_trusted_folder() -> None:
    with Keys() as server:
        write(f"store = '{server.url}'\n")
        added = invoke("trust")
        assert f"QDRANT_API_KEY is sent to: {server.url}" in added.stdout
        assert server.keys == []
        invoke("search", "photos", "--id", "1")
        assert set(server.keys) == {KEY}
        assert invoke("trust", "--remove").exit_code == 0
        server.keys.clear()
        assert "is trusted" in invoke("search", "photos", "--id", "1").stderr
        assert server.keys == []
        own = own_file()
        assert own is not None
        Path("intramodal.toml").rename(own)
        invoke("search", "photos", "--id", "1")
        assert set(server.keys) == {KEY}


def test_a_strange_folder_deletes_no_runs() -> None:
    with RunLedger.open(DEFAULT_RUNS) as ledger, ledger.run("fit"):
        pass
    write("[runs.prune]\nkeep = 0\nyes = true\n")
    assert invoke("runs", "prune", "--kind", "fit").exit_code == 1
    Path("intramodal.toml").unlink()
    assert len(run("runs", "list")["runs"]) == 1


def test_trust_is_for_the_folder_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("trust")["trusted"] == [str(folder)]
    below = folder / "below"
    below.mkdir()
    monkeypatch.chdir(below)
    write("store = 'elsewhere'\n")
    with pytest.raises(InputError, match="is trusted"):
        read_settings(cli)


def test_trust_names_what_it_is_about_and_no_password(folder: Path) -> None:
    write("runs = 'postgresql://me:planted@db/runs'\nstore = 'https://me:planted@db'\nseed = 1\n")
    added = run("trust", str(folder))
    assert (added["folder"], added["sets"]) == (str(folder), ["runs", "store"])
    assert added["addresses"] == ["https://me:***@db"]
    assert run("trust", "--list")["trusted"] == [str(folder)]
    assert invoke("trust", "--list").stdout == f"{folder}\n"
    assert run("trust", "--remove") == {"removed": str(folder), "trusted": []}
    assert "was not trusted" in run("trust", "--remove", code=1)["error"]["message"]


def test_a_folder_that_is_gone_is_distrusted(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("trust")
    monkeypatch.chdir(folder.parent)
    folder.rmdir()
    assert run("trust", "work", "--remove")["trusted"] == []
    assert "there is no folder" in run("trust", "work", code=1)["error"]["message"]


def test_folders_that_are_trusted_at_the_same_time_are_all_kept(tmp_path: Path) -> None:
    places = [tmp_path / str(n) for n in range(16)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(trusted_folders.trust, places))
    assert set(trusted_folders.trusted_folders()) == set(places)


def give_away(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a path belong to another user: it to somebody, or this process to somebody else."""
    if os.geteuid() == 0:
        os.chown(path, 12_345, -1)
    else:
        own = os.getuid()
        monkeypatch.setattr(os, "getuid", lambda: own + 1)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no owners of this kind")
@pytest.mark.parametrize("what", ["folder", "file"])
def test_a_folder_that_another_user_has_replaced_is_no_longer_trusted(
    folder: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    write("store = 'elsewhere'\n")
    run("trust")
    assert read_settings(cli)["search"]["store"] == "elsewhere"
    give_away(folder if what == "folder" else folder / "intramodal.toml", monkeypatch)
    with pytest.raises(InputError, match="is trusted"):
        read_settings(cli)
    run("trust")  # whoever trusts another user's folder says so once
    assert read_settings(cli)["search"]["store"] == "elsewhere"
    assert run("trust", "--list")["trusted"] == [str(folder)]


def test_a_file_of_variables_in_a_strange_folder_is_not_read(folder: Path) -> None:
    (folder / ".env").write_text(
        "QDRANT_API_KEY=planted\nINTRAMODAL_STORE=https://planted.example\nHTTPS_PROXY=planted\n"
    )
    (folder / ".netrc").write_text("default login me password planted\n")
    told = invoke("doctor")
    assert "planted" not in told.stdout + told.stderr


def test_a_link_is_trusted_only_with_the_folders_of_both_its_ends(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "intramodal.toml").write_text("store = 'mine'\n")
    trusted_folders.trust(own)
    Path("intramodal.toml").symlink_to(own / "intramodal.toml")
    with pytest.raises(InputError, match="is trusted"):
        read_settings(cli)
    trusted_folders.trust(Path.cwd())
    assert read_settings(cli)["search"]["store"] == "mine"


@POSIX
@pytest.mark.parametrize("which", ["folder", "file"])
def test_what_every_user_may_write_to_is_not_trusted(folder: Path, which: str) -> None:
    file = write("store = 'mine'\n").absolute()
    run("trust")
    place = {"folder": folder, "file": file}[which]
    place.chmod(0o777)
    for refused in (run("trust", code=1), run("runs", "list", code=1)):
        assert f"run: chmod o-w {place}" in refused["error"]["message"]
    place.chmod(0o755)
    assert "no runs database" in run("runs", "list", code=1)["error"]["message"]


@POSIX
def test_ones_own_file_is_not_followed_once_every_user_may_write_to_it() -> None:
    own = own_file()
    assert own is not None
    own.parent.mkdir(parents=True)
    own.write_text("store = 'mine'\n")
    own.chmod(0o666)
    with pytest.raises(InputError, match="chmod o-w"):
        read_settings(cli)


@pytest.mark.parametrize("content", ["[", '{"a": 1}', "[1]"])
def test_a_damaged_list_trusts_nothing_and_is_named(content: str) -> None:
    own = own_folder()
    assert own is not None
    own.mkdir(parents=True)
    (own / "trusted.json").write_text(content)
    write("store = 'x'\n")
    for words in (("runs", "list"), ("trust",), ("trust", "--list")):
        assert str(own / "trusted.json") in run(*words, code=1)["error"]["message"]
    assert (own / "trusted.json").read_text() == content


@POSIX
def test_without_a_home_nothing_of_the_folder_is_taken_for_ones_own(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What `~` and a relative variable would lead to in a hostile folder.
    for place in ("~/.config", "config", "."):
        own = folder / place / "intramodal"
        own.mkdir(parents=True)
        (own / "intramodal.toml").write_text("store = 'http://127.0.0.1:1'\n")
        (own / "trusted.json").write_text(json.dumps([str(folder)]))
    write("store = 'http://127.0.0.1:1'\n")
    relative = Path("~/.config/intramodal")  # of older releases of platformdirs
    monkeypatch.setattr("platformdirs.user_config_path", lambda *_, **__: relative)
    with pytest.raises(InputError, match="is trusted"):
        read_settings(cli)
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    for variables in ({"XDG_CONFIG_HOME": "config"}, {"HOME": "."}, {"HOME": ""}):
        monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(InputError, match="is trusted"):
            read_settings(cli)


def test_a_user_without_a_home_is_told_to_set_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trusted_folders, "own_folder", lambda: None)
    assert "set HOME" in run("trust", code=1)["error"]["message"]
    assert run("trust", "--list")["trusted"] == []
    write("seed = 1\n")
    assert read_settings(cli)["compare"] == {"seed": 1}
