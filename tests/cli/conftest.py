"""The shop that the tests of ``intramodal evaluate`` read: made once per module."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.evaluated import make_shop


@pytest.fixture(scope="module")
def evaluated_shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_shop(tmp_path_factory.mktemp("shop"))


@pytest.fixture
def in_shop(evaluated_shop: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the current folder, which holds the store, texts and a projection."""
    monkeypatch.chdir(evaluated_shop)
    return evaluated_shop
