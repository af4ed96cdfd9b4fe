"""SECURITY.md names only tests that exist, and each of its promises names one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "SECURITY.md").read_text("utf-8")
ROWS = [row for row in re.findall(r"^\| (.+) \|$", PAGE, re.M) if not row.startswith("promise ")]


@pytest.mark.parametrize("row", ROWS, ids=range(len(ROWS)))
def test_a_promise_names_tests_that_exist(row: str) -> None:
    _, _, named = row.rpartition(" | ")
    tests = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", named)
    assert tests
    assert re.sub(r"`tests/[\w/]+\.py::test_\w+`", "", named).strip() == ""
    for path, name in tests:
        assert re.search(rf"^\s*def {name}\(", (ROOT / path).read_text("utf-8"), re.M), name


def test_every_table_is_read() -> None:
    assert len(ROWS) == PAGE.count("\n| ") - PAGE.count("\n| promise ")
    assert len(ROWS) > 15
