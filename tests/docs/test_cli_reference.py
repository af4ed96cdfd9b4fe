from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from intramodal.cli import COMMANDS, SUBCOMMANDS

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
    subcommands = {f"{group} {name}" for group, names in SUBCOMMANDS.items() for name in names}
    assert documented == {*COMMANDS, *subcommands}
