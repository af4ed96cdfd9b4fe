"""Shared fixtures, and a header that says what the run stood on."""

from __future__ import annotations

import os
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

_PACKAGES = ("numpy", "scikit-learn", "qdrant-client", "qdrant-edge-py", "torch", "sqlalchemy")
_VARIABLES = ("INTRAMODAL_REAL_DATA", "INTRAMODAL_TEST_QDRANT_URL", "INTRAMODAL_TEST_DB_URL")


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


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture(scope="session")
def real_data() -> Path:
    folder = os.environ.get("INTRAMODAL_REAL_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("INTRAMODAL_REAL_DATA does not name a folder")
    return Path(folder)
