"""A model of the hub without a network: what is downloaded loads, the rest is one sentence."""

from __future__ import annotations

import logging
import shutil
import socket
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from intramodal.errors import ModelError
from intramodal.ingest.encoders import hub_access
from intramodal.ingest.encoders.hub_access import is_out_of_reach, offline, why_unreachable
from intramodal.ingest.encoders.registry import load_encoder
from tests.model_hub import serving
from tests.tiny_models import Shelf, save_clip

LOCAL = "http://127.0.0.1"


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HF_ENDPOINT", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def silent_server() -> Iterator[int]:
    """Return the port of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


# reaching a server


def test_a_server_that_is_slow_to_answer_counts_as_reachable(silent_server: int) -> None:
    assert why_unreachable(f"{LOCAL}:{silent_server}") is None


def test_a_server_that_refuses_is_named_with_the_reason() -> None:
    said = why_unreachable(f"{LOCAL}:{free_port()}/models")
    assert said is not None
    assert said.startswith("127.0.0.1 cannot be reached (")
    assert "refused" in said.lower()


def test_a_name_server_that_does_not_answer_is_waited_for_5_s_at_most(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert hub_access.PATIENCE_S == 5.0
    monkeypatch.setattr(hub_access, "PATIENCE_S", 0.2)
    over = threading.Event()

    def hang(*_: Any, **__: Any) -> None:
        over.wait(30)
        raise OSError

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    said = why_unreachable("https://hub.example")
    over.set()
    assert said is not None


@pytest.mark.parametrize("is_first", [True, False])
def test_one_address_of_a_server_that_leads_nowhere_does_not_matter(
    silent_server: int, monkeypatch: pytest.MonkeyPatch, is_first: bool
) -> None:
    over = threading.Event()

    def routed(address: Any, timeout: float) -> socket.socket:
        if address[0] == "192.0.2.1":  # reserved for examples
            over.wait(30)
            raise TimeoutError
        connected = socket.socket()
        connected.connect(address)
        return connected

    found = [(0, 0, 0, "", ("192.0.2.1", 443)), (0, 0, 0, "", ("127.0.0.1", silent_server))]
    monkeypatch.setattr(socket, "create_connection", routed)
    addresses = found if is_first else found[::-1]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: addresses)
    assert why_unreachable("https://hub.example") is None
    over.set()


def test_behind_a_proxy_the_proxy_is_connected_to(
    silent_server: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", f"{LOCAL}:{silent_server}")
    assert why_unreachable("https://hub.invalid") is None
    monkeypatch.setenv("https_proxy", f"127.0.0.1:{free_port()}")
    assert str(why_unreachable("https://hub.invalid")).startswith("hub.invalid cannot be reached")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert why_unreachable(f"https://127.0.0.1:{silent_server}") is None


@pytest.mark.parametrize("url", ["", "nonsense", "ftp://hub.example", "https://hub.example:port"])
def test_an_address_that_is_none_is_left_to_the_client(url: str) -> None:
    assert why_unreachable(url) is None


# loading


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for library in ("torch", "open_clip", "transformers"):
        pytest.importorskip(library)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("transformers.utils.hub.TRANSFORMERS_CACHE", str(tmp_path), raising=False)
    return tmp_path / "hub"


@pytest.fixture
def unrepeated(requests: list[str], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return what is asked of the network, all of which fails and none of which is repeated."""
    monkeypatch.setattr("time.sleep", lambda _: pytest.fail("a request is repeated"))
    return requests


@pytest.mark.usefixtures("hub_cache")
@pytest.mark.parametrize(
    "name",
    [
        "hf:openai/clip-vit-base-patch32",
        "open_clip:ViT-B-32:openai",
        "open_clip:ViT-B-16-SigLIP:webli",
        "open_clip:hf-hub:org/name",
    ],
)
def test_a_model_that_is_not_downloaded_is_one_sentence_after_one_attempt(
    name: str, unrepeated: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ModelError) as refused:
        load_encoder(name, device="cpu")
    assert str(refused.value).startswith(
        f"model {name!r} is not completely downloaded, and huggingface.co cannot be reached "
        "(nobody is there); without a network, "
    )
    assert "another exception" not in "".join(traceback.format_exception(refused.value))
    assert "direct cause" not in "".join(traceback.format_exception(refused.value))
    assert len(unrepeated) == 1
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []


def test_a_model_of_which_anything_is_there_is_left_to_its_library(
    hub_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with offline():
        assert is_out_of_reach("org/name")
        (tmp_path / "other/models--org--name").mkdir(parents=True)
        monkeypatch.setenv("TRANSFORMERS_CACHE", str(tmp_path / "other"))
        assert not is_out_of_reach("org/name")
        monkeypatch.delenv("TRANSFORMERS_CACHE")
        (hub_cache / "models--org--name").mkdir(parents=True)
        assert not is_out_of_reach("org/name")


def test_a_downloaded_model_loads_without_a_network_at_once(
    shelf: Shelf, hub_cache: Path, unrepeated: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    root = hub_cache / "models--org--name"
    (root / "refs").mkdir(parents=True)
    (root / "refs/main").write_text("a" * 40)
    folder = shelf.name(save_clip).partition(":")[2]
    shutil.copytree(folder, root / "snapshots" / ("a" * 40))
    with caplog.at_level(logging.INFO, "intramodal.ingest"):
        found = load_encoder("hf:org/name", device="cpu")
    assert found.fingerprint == shelf.encoder(save_clip).fingerprint
    assert len(unrepeated) == 1
    assert "loading hf:org/name" in caplog.text
    assert "only downloaded models are looked at" in caplog.text


@pytest.mark.usefixtures("hub_cache")
def test_a_hub_that_is_switched_off_is_not_connected_to(
    unrepeated: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelError, match="downloaded, and HF_HUB_OFFLINE is set; without"):
        load_encoder("hf:org/name", device="cpu")
    assert unrepeated == []


@pytest.mark.usefixtures("hub_cache")
def test_a_model_is_downloaded_where_the_hub_can_be_reached(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    template = "/{repo_id}/resolve/{revision}/{filename}"
    with serving(Path(shelf.name(save_clip).partition(":")[2]), "org/name") as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        monkeypatch.setattr(constants, "ENDPOINT", url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + template)
        found = load_encoder("hf:org/name", device="cpu")
    assert found.fingerprint == shelf.encoder(save_clip).fingerprint


def test_the_hub_is_silent_until_the_last_of_several_threads_has_loaded() -> None:
    constants = pytest.importorskip("huggingface_hub").constants

    former = constants.HF_HUB_OFFLINE
    entered, leave = threading.Event(), threading.Event()

    def load() -> None:
        with offline():
            entered.set()
            leave.wait(30)

    other = threading.Thread(target=load)
    with offline():
        other.start()
        assert entered.wait(30)
    assert constants.HF_HUB_OFFLINE is True
    leave.set()
    other.join()
    assert former is constants.HF_HUB_OFFLINE
