from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from intramodal.cli import cli
from tests.cli.kit import walk

REFERENCE = Path(__file__).parents[2] / "docs" / "cli.md"

pytest.importorskip("cogapp", reason="docs/cli.md is checked with cog, in intramodal[dev]")


def test_the_command_reference_is_what_the_commands_say() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cogapp", "--check", str(REFERENCE)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"run `make docs`: {done.stdout}{done.stderr}"


def test_every_command_is_documented() -> None:
    documented = set(re.findall(r"^## intramodal (.+)$", REFERENCE.read_text(), re.MULTILINE))
    names = {name.strip() for name, _ in walk(cli)}
    groups = {name.split()[0] for name in names if " " in name}
    assert documented == names | groups
