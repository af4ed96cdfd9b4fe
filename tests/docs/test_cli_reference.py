from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from intramodal.cli import cli
from tests.cli.kit import walk

REFERENCE = Path(__file__).parents[2] / "docs" / "cli.md"
GENERATED = (REFERENCE, REFERENCE.with_name("paper.md"))

pytest.importorskip("cogapp", reason="docs are checked with cog, in intramodal[dev]")


@pytest.mark.parametrize("page", GENERATED, ids=lambda page: page.name)
def test_a_generated_page_is_what_the_package_says(page: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cogapp", "--check", str(page)],
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
