"""What was not run is counted and named at the end of a test run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
TESTS = """
import pytest
@pytest.mark.parametrize("n", range(3))
def test_a(n): pytest.skip("THIS_VARIABLE is not set")
@pytest.mark.skipif(True, reason="that tool is absent")
def test_b(): ...
def test_c(): ...
"""


def test_skipped_tests_are_counted_by_what_would_run_them(tmp_path: Path) -> None:
    (tmp_path / "test_some.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "tests.conftest", "test_some.py"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line.strip() for line in done.stdout.splitlines()]
    title = next(n for n, line in enumerate(lines) if "4 tests skipped" in line)
    assert lines[title + 1 : title + 3] == [
        "3  THIS_VARIABLE is not set",
        "1  that tool is absent",
    ]
