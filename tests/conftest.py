"""Shared fixtures, and a header that says what the run stood on."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest

_PACKAGES = ("numpy", "scikit-learn", "qdrant-client", "qdrant-edge-py", "torch", "sqlalchemy")
_VARIABLES = (
    "INTRAMODAL_REAL_DATA",
    "INTRAMODAL_TEST_QDRANT_URL",
    "INTRAMODAL_TEST_OLD_QDRANT_URL",
    "INTRAMODAL_TEST_CLUSTER_URLS",
    "INTRAMODAL_TEST_DB_URL",
)


def _version(package: str) -> str:
    try:
        return f"{package} {metadata.version(package)}"
    except metadata.PackageNotFoundError:
        return f"{package} absent"


def pytest_report_header() -> list[str]:
    servers = {name: "set" if os.environ.get(name) else "not set" for name in _VARIABLES}
    return [
        "with " + ", ".join(_version(package) for package in _PACKAGES),
        "environment: " + ", ".join(f"{name} {state}" for name, state in servers.items()),
    ]


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say how many tests did not run, and what would run them; sorted by how many."""
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = Counter(_reason(report) for report in skipped)
    if not reasons:
        return
    terminalreporter.section(f"{len(skipped)} tests skipped: what would run them")
    for reason, count in reasons.most_common():
        terminalreporter.write_line(f"{count:>6}  {reason}")


def _reason(report: Any) -> str:
    """Return why a test was skipped; those that need the same thing give the same text."""
    told = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return str(told).removeprefix("Skipped: ")


@pytest.fixture(scope="session", autouse=True)
def own_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Give commands a folder of settings of their own, in which nobody has written anything."""
    folder = tmp_path_factory.mktemp("config")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(folder))
        yield folder / "intramodal"


@pytest.fixture
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the current folder, which is empty and not trusted; there are no settings yet."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture(scope="session")
def real_data() -> Path:
    folder = os.environ.get("INTRAMODAL_REAL_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("INTRAMODAL_REAL_DATA does not name a folder")
    return Path(folder)
