"""Metadata, names and payload of a collection are somebody else's words: read, never obeyed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from intramodal import open_store
from intramodal.commands.options import DEFAULT_STORE
from intramodal.errors import ManifestMismatchError
from intramodal.store.manifest import METADATA_KEY, VECTOR_KEY, Manifest
from tests.cli.kit import invoke
from tests.security.kit import fill

MB = 2**20
SCRIPT = '<script>alert("planted")</script><img src=x onerror=alert(1)>'
TERMINAL = "\x1b]0;owned\x07\x1b[2J\x1b[31mred\r\nforged line"
COMPARE = ("compare", "photos", "--labels", "kind", "--no-controls")


def origin(**changes: Any) -> dict[str, Any]:
    return {"encoder": "clip", "encoder_fingerprint": "3f9a", **changes}


def labels(**changes: Any) -> dict[str, Any]:
    return {"field": "gender", "rows": {"share": 0.5}, "counts": {"Men": 3}, **changes}


def manifest(raw: Any, **more: Any) -> dict[str, Any]:
    return {"version": 1, "vectors": {"raw": raw, "pca": origin()}, **more}


REFUSED: dict[str, Any] = {
    "text": "manifest",
    "number": 7,
    "list": [1, 2],
    "no version": {"vectors": {}},
    "newer version": {"version": 99, "vectors": {}},
    "version of 10 MB": {"version": "9" * 10 * MB, "vectors": {}},
    "no vectors": {"version": 1},
    "vectors in a list": {"version": 1, "vectors": [origin()]},
    "vectors as text": {"version": 1, "vectors": "raw"},
    "origin as text": manifest("clip"),
    "origin as a list": manifest(["clip", "3f9a"]),
    "origin is null": manifest(None),
    "no encoder": manifest({"encoder_fingerprint": "3f9a"}),
    "no fingerprint": manifest({"encoder": "clip"}),
    "labels as text": manifest(origin(labels="gender")),
    "labels without rows": manifest(origin(labels={"field": "gender", "counts": {}})),
    "labels with a count of text": manifest(origin(labels=labels(counts={"Men": "many"}))),
    "labels of an unknown rule": manifest(origin(labels=labels(rows={"regex": "(a+)+$"}))),
    "labels of 10 MB": manifest(origin(labels=labels(rows={"share": "9" * 10 * MB}))),
}

TAKEN: dict[str, Any] = {
    "numbers for names": manifest(origin(encoder=7, method=1.5, is_complete="no")),
    "nested": manifest(origin(encoder={"a": ["b"] * 100}, precision=[None])),
    "other keys": manifest(origin(__class__="os.system", more=1), extra={"a": 1}),
    "10 MB": manifest(origin(encoder="x" * 10 * MB)),
    "markup": manifest(origin(encoder=SCRIPT, method=SCRIPT)),
    "terminal": manifest(origin(encoder=TERMINAL, method=TERMINAL)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_metadata_in_another_form_is_refused_in_one_short_sentence(name: str) -> None:
    with pytest.raises(ManifestMismatchError) as refused:
        Manifest.from_metadata({METADATA_KEY: REFUSED[name]})
    assert 0 < len(str(refused.value)) < 1000


@pytest.mark.parametrize("name", TAKEN)
def test_whatever_a_manifest_says_is_read_as_short_texts(name: str) -> None:
    read = Manifest.from_metadata({METADATA_KEY: TAKEN[name]})
    assert set(read.vectors) == {"raw", "pca"}
    for key, value in vars(read.vectors["raw"]).items():
        assert isinstance(value, bool | str) or (key, value) == ("labels", None)
    assert len(str(read.vectors["raw"])) < 20 * MB


@pytest.mark.parametrize("stored", ["clip", ["clip", "3f9a"], {"encoder": "clip"}, 7])
def test_a_vectors_own_key_in_another_form_is_refused_in_one_short_sentence(stored: Any) -> None:
    with pytest.raises(ManifestMismatchError) as refused:
        Manifest.from_metadata({VECTOR_KEY + "x" * MB: stored})
    assert 0 < len(str(refused.value)) < 1000


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    with open_store(DEFAULT_STORE) as store:
        fill(store, **{"path": SCRIPT, "kind": f"kind {TERMINAL}{SCRIPT}"})
        ids = list(range(0, 80, 2))
        store.set_payload("photos", ids, {"kind": "another", "path": "../../../etc/passwd"})
    return tmp_path


def describe(metadata: Any, *, form: int = 1) -> None:
    """Let a stranger say what the vectors are, in the form of a version."""
    own: dict[str, Any] = {VECTOR_KEY + name: None for name in ("raw", "pca")}
    if form > 1:
        own |= {VECTOR_KEY + name: told for name, told in metadata["vectors"].items()}
        metadata = {**metadata, "version": form, "vectors": None}
    with open_store(DEFAULT_STORE) as store:
        store.set_metadata("photos", {METADATA_KEY: metadata, **own})


@pytest.mark.parametrize("name", REFUSED)
def test_commands_refuse_such_a_collection(photos: Path, name: str) -> None:
    describe(REFUSED[name])
    result = invoke(*COMPARE)
    assert (result.exit_code, result.stdout) == (1, "")
    assert len(result.stderr) < 2000
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("form", [1, 2])
@pytest.mark.parametrize("name", ["other keys", "10 MB", "markup", "terminal"])
def test_names_of_strangers_stay_text_in_the_terminal_and_on_the_page(
    photos: Path, name: str, form: int
) -> None:
    describe(TAKEN[name], form=form)
    result = invoke(*COMPARE, "-o", "report.html")
    assert result.exit_code == 0, result.output[-2000:]
    assert_plain(result.output)
    assert_no_markup((photos / "report.html").read_text("utf-8"))


def test_labels_and_paths_of_strangers_stay_text_on_a_page_of_answers(photos: Path) -> None:
    result = invoke("search", "photos", "--id", "7", "--html", "page.html")
    assert result.exit_code == 0, result.output
    assert_plain(result.output)
    page = (photos / "page.html").read_text("utf-8")
    assert_no_markup(page)
    assert "root:" not in page  # ../../../etc/passwd is no picture of ours


def assert_plain(output: str) -> None:
    assert len(output) < 200_000
    assert not re.findall(r"[\x00-\x08\x0b-\x1f\x7f]", output)
    assert "\nforged line" not in output


def assert_no_markup(page: str) -> None:
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert len(page) < 5 * MB
