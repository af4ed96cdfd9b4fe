from __future__ import annotations

import os
import tomllib
from pathlib import Path

import numpy as np
import pytest

from intramodal import open_store
from intramodal.cli import cli
from intramodal.commands import init
from intramodal.commands.configuration import read_settings
from intramodal.commands.options import DEFAULT_STORE
from intramodal.commands.trusted_folders import trusted_folders
from intramodal.errors import InputError
from intramodal.store.base import VectorSpec
from tests.cli.kit import invoke, make_photos, run

FILE = Path("intramodal.toml")


@pytest.fixture(autouse=True)
def folder(empty_folder: Path) -> Path:
    return empty_folder


def settings() -> list[str]:
    """Return the lines of the file that set something once their # is removed."""
    lines = FILE.read_text().splitlines()
    return [line.removeprefix("# ") for line in lines if " = " in line and not line.endswith(".")]


def test_the_file_is_read_sets_nothing_by_itself_and_its_folder_is_trusted(folder: Path) -> None:
    made = run("init")
    assert (made["file"], trusted_folders()) == (str(folder / FILE), [folder])
    assert tomllib.loads(FILE.read_text()) == {
        **{name: {} for name in ("ingest", "fit", "backfill", "compare", "search")},
        "evaluate": {"retrieval": {}},
    }
    assert set(read_settings(cli)) >= {"compare"}
    assert not Path(".intramodal").exists()


def test_every_line_holds_when_its_mark_is_removed() -> None:
    run("init")
    tables = [f"[{name.replace(' ', '.')}]" for name in init._COMMANDS]
    text = FILE.read_text()
    assert [line for line in text.splitlines() if line.startswith("[")] == tables
    lines = [
        line.removeprefix("# ") if line.startswith("# ") and _is_setting(line) else line
        for line in text.splitlines()
    ]
    FILE.write_text("\n".join(lines))
    read = read_settings(cli)
    assert read["compare"]["margin"] == 0.005
    assert read["compare"]["store"] == DEFAULT_STORE
    assert read["search"]["k"] == 10
    assert read["evaluate"]["retrieval"]["ties"] == "expected"


def _is_setting(line: str) -> bool:
    try:
        return bool(tomllib.loads(line.removeprefix("# ")))
    except tomllib.TOMLDecodeError:
        return False


def test_places_that_are_given_are_set_and_the_store_is_described(
    rng: np.random.Generator,
) -> None:
    make_photos(rng)
    Path(".intramodal").rename("mine")
    result = invoke("init", "--store", "mine/store", "--runs", "mine/runs.db")
    assert result.exit_code == 0, result.output
    text = FILE.read_text()
    assert '\nstore = "mine/store"\nruns = "mine/runs.db"\n' in text
    assert "# photos: vectors pca, raw; fields kind, season, path\n" in text
    assert "its intramodal.toml sets store, runs" in result.stdout
    assert run("search", "photos", "--text", "x", "--vectors", "pca", code=1)["error"]["message"]


def test_a_file_that_is_there_is_never_changed(folder: Path) -> None:
    FILE.write_text("seed = 1\n")
    message = run("init", code=1)["error"]["message"]
    assert message == f"{folder / FILE} is there already; remove or rename it first"
    assert FILE.read_text() == "seed = 1\n"
    assert trusted_folders() == []
    assert [path.name for path in folder.iterdir()] == ["intramodal.toml"]
    FILE.unlink()
    FILE.symlink_to("elsewhere")
    assert invoke("init").exit_code == 1
    assert not Path("elsewhere").exists()


def test_a_folder_that_cannot_be_trusted_keeps_no_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise InputError("no home")

    monkeypatch.setattr(init, "trusted", refuse)
    assert "no home" in run("init", code=1)["error"]["message"]
    assert list(folder.iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="Windows has no such rights")
def test_a_folder_that_all_may_write_to_is_refused(folder: Path) -> None:
    folder.chmod(0o777)
    assert "chmod o-w" in run("init", code=1)["error"]["message"]
    assert list(folder.iterdir()) == []


def test_no_password_gets_into_the_file(folder: Path) -> None:
    for option in ("--store", "--runs"):
        place = (
            "https://me:planted@db:6333" if option == "--store" else "postgresql://m:planted@d/r"
        )
        message = run("init", option, place, code=1)["error"]["message"]
        assert "holds a password" in message
        assert "planted" not in message
    assert list(folder.iterdir()) == []


def test_names_in_the_store_stay_in_comments(rng: np.random.Generator) -> None:
    payload = {'a"\nstore = "http://evil"\n#': 1, "b\x1b[2J\x7f": 2}
    with open_store(DEFAULT_STORE) as store:
        store.create("photos", {"image": VectorSpec(2)})
        store.upsert("photos", [1], {"image": np.ones((1, 2), np.float32)}, [payload])
    run("init")
    assert "store" not in tomllib.loads(FILE.read_text())
    assert "http://evil" in FILE.read_text()


def test_a_store_that_does_not_answer_is_said_and_the_file_written() -> None:
    result = invoke("init", "--store", "http://127.0.0.1:9")
    assert result.exit_code == 0
    assert "what is in the store is left out: " in result.stderr
    assert 'store = "http://127.0.0.1:9"' in FILE.read_text()
