"""A file of certificates that cannot be used: a sentence, and no matter where none is needed."""

from __future__ import annotations

from pathlib import Path

import pytest

from intramodal.errors import InputError
from intramodal.store.open import open_store
from tests.cli.kit import invoke
from tests.faults.wire import WireServer


@pytest.fixture(params=["absent", "junk"])
def named(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "ca.pem"
    if request.param == "junk":
        path.write_text("junk")
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    return path


def test_a_server_without_tls_needs_no_certificates(named: Path) -> None:
    with WireServer() as server, open_store(server.url) as store:
        assert store.collections() == []


def test_a_file_of_the_environment_that_cannot_be_used_is_named(named: Path) -> None:
    with pytest.raises(InputError, match=r"ca\.pem cannot be used as the certificate"):
        open_store("https://127.0.0.1:1")


def test_a_list_in_the_configuration_is_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("intramodal.toml").write_text('ca = ["a"]')
    result = invoke("doctor", "--store", "http://127.0.0.1:1", "--runs", ":memory:")
    assert result.exit_code == 1
    assert "sets ca to a list of text, but it takes text in quotes" in result.stderr
