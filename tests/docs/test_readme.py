"""Every command and every block of the README, run in order in one folder.

The model that the README names is downloaded; here the shipped one takes its place.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from intramodal import ImageCollection, open_store
from intramodal.cli import cli
from intramodal.commands.options import DEFAULT_STORE
from tests.docs.conftest import N_CODE_POINTS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SHOWN_MODEL = "open_clip:ViT-B-32:openai"

pytest.importorskip("open_clip", reason="the README's commands need intramodal[encoders]")


def blocks(language: str) -> list[str]:
    """Return the fenced blocks of a language, the shipped model in place of the shown one."""
    found = re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)
    return [block.replace(SHOWN_MODEL, "demo") for block in found]


def commands() -> list[str]:
    lines = [line for block in blocks("console") for line in block.splitlines()]
    return [line.split("#")[0].strip() for line in lines if line.strip()]


def test_the_readme_shows_two_make_commands_that_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    made = [command.split()[1] for command in commands() if command.startswith("make ")]
    assert made == ["demo", "test"]
    assert all(re.search(rf"^{target}:", makefile, flags=re.MULTILINE) for target in made)


def test_the_readme_shows_a_picture_of_the_report_that_is_there() -> None:
    pictures = re.findall(r"!\[[^]]*\]\(([^)]+)\)", README)
    assert pictures
    assert all(0 < (ROOT / picture).stat().st_size < 150_000 for picture in pictures)


def test_every_command_and_block_of_the_readme_runs(
    shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shop)
    lines = [shlex.split(line) for line in commands() if line.startswith("intramodal ")]
    before = next(i for i, line in enumerate(lines) if line[1] == "ingest")
    for line in lines[:before]:
        run(line)
    names: dict[str, Any] = {}
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), names)  # the reader would paste it
    for line in lines[before:]:
        run(line)
    assert (shop / "report.html").stat().st_size > 10_000
    assert names["hits"].ids[0][0] == 0  # the query is the picture of the first point
    with open_store(DEFAULT_STORE) as store:
        products = ImageCollection.open(store, "products")
        assert products.count() == len(products.table(["image", "pca"])) == 4 * N_CODE_POINTS + 1


def run(line: list[str]) -> None:
    result = CliRunner().invoke(cli, line[1:])
    assert result.exit_code == 0, f"{shlex.join(line)}\n{result.stderr}"


def test_the_table_of_places_names_folders_that_are_there() -> None:
    table = README[README.index("| place |") :]
    places = re.findall(r"^\| (`[^|]+) \|", table, flags=re.MULTILINE)
    names = [name for cell in places for name in re.findall(r"`([^`]+)`", cell)]
    assert names
    assert all((ROOT / name).is_dir() for name in names)


def test_no_file_of_the_demo_is_left_behind() -> None:
    """`make demo` writes into a folder that git ignores."""
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    out = re.search(r"intramodal demo --out (\S+)", makefile)
    assert out is not None
    assert f"/{out[1]}/" in ignored


def test_the_readme_is_short_and_its_links_lead_somewhere() -> None:
    assert len(README.splitlines()) <= 200
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", README):
        path, _, heading = target.partition("#")
        assert (ROOT / path).exists(), target
        titles = (
            re.findall(r"^#+ (.+)$", (ROOT / path).read_text("utf-8"), re.M) if heading else []
        )
        assert not heading or heading in [t.lower().replace(" ", "-") for t in titles], target
