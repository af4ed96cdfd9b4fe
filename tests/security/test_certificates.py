"""An authority of one's own, by REST and by gRPC; and what is said where TLS does not fit."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from intramodal.cli import cli
from intramodal.errors import InputError, StoreError, StoreUnavailable
from intramodal.store.base import VectorSpec
from intramodal.store.open import open_store
from tests.faults.authority import Authority
from tests.faults.wire import WireServer

pytestmark = pytest.mark.serial  # connecting gives up after so many seconds

KEY = "planted-4718"
SPEC = {"raw": VectorSpec(4)}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.made(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def server(authority: Authority) -> Iterator[WireServer]:
    with WireServer(speaks_grpc=True, certificate=authority.sign("localhost")) as running:
        running.storage.clear()
        yield running


def protocol(server: WireServer, **options: object) -> tuple[str, str]:
    with open_store(server.url, **options) as store:  # type: ignore[arg-type]
        if not store.exists("photos"):
            store.create("photos", SPEC)
        assert store.collections() == ["photos"]
        facts = store.describe()
    return facts["protocol"], facts["why_rest"]


def test_an_authority_of_ones_own_is_trusted_by_rest_and_by_grpc(
    server: WireServer, authority: Authority
) -> None:
    assert protocol(server, ca=authority.ca) == ("grpc", "")


def test_the_authority_of_the_environment_holds_for_grpc_too(
    server: WireServer, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca))
    monkeypatch.delenv("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", raising=False)
    assert protocol(server) == ("grpc", "")


def test_grpc_that_trusts_others_is_said_and_rest_is_used(
    server: WireServer,
    authority: Authority,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    other = Authority.made(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca))
    # gRPC reads this one once in a process: our own word for the same must be given to it.
    monkeypatch.setattr("intramodal.store.server.tls.roots", lambda ca: other.ca.read_bytes())
    with caplog.at_level(logging.WARNING):
        found, why = protocol(server)
    assert found == "rest"
    assert "its certificate cannot be verified" in why
    assert "REST is used" in caplog.text


def test_a_certificate_that_cannot_be_verified_is_said_at_once_with_the_way_out(
    server: WireServer,
) -> None:
    started = time.perf_counter()
    with pytest.raises(StoreError, match="certificate cannot be verified") as refused:
        open_store(server.url, api_key=KEY)
    assert time.perf_counter() - started < 3.0
    assert not isinstance(refused.value, StoreUnavailable)
    assert "INTRAMODAL_CA" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_certificate_for_another_name_is_called_that(authority: Authority) -> None:
    with WireServer(certificate=authority.sign("db.example")) as other:
        with pytest.raises(StoreError, match=r"Hostname mismatch.*by a name that") as refused:
            open_store(other.url, ca=authority.ca)
        assert "INTRAMODAL_CA" not in str(refused.value)


def test_http_on_a_tls_port_names_the_right_address(server: WireServer) -> None:
    wrong = server.url.replace("https", "http")
    with pytest.raises(StoreError, match=f"speaks TLS; write {server.url}$") as refused:
        open_store(wrong)
    assert not isinstance(refused.value, StoreUnavailable)


def test_https_on_a_plain_port_names_the_right_address() -> None:
    with WireServer() as plain:
        wrong = plain.url.replace("http", "https")
        with pytest.raises(StoreError, match=f"does not speak TLS; write {plain.url}$"):
            open_store(wrong)


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_file_without_a_certificate_is_refused_before_anything_is_sent(
    server: WireServer, tmp_path: Path, content: str | None
) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=r"ca\.pem cannot be used.*give a PEM file"):
        open_store(server.url, ca=path)


def doctor(server: WireServer, tmp_path: Path, *options: str) -> str:
    runs = str(tmp_path / "runs.db")
    words = ["doctor", "--store", server.url, "--runs", runs, "--json", *options]
    checks = json.loads(CliRunner().invoke(cli, words).stdout)["checks"]
    return next(row["detail"] for row in checks if row["name"] == "store")


def test_the_command_line_takes_the_authority_and_the_doctor_says_why_rest(
    server: WireServer, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "by grpc" in doctor(server, tmp_path, "--ca", str(authority.ca))
    monkeypatch.setenv("INTRAMODAL_CA", str(authority.ca))
    assert "by grpc" in doctor(server, tmp_path)
    with WireServer(certificate=authority.sign("localhost")) as without:
        assert "by rest (no gRPC: " in doctor(without, tmp_path)
