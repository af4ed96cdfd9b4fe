"""The library names its parameters; what an option is called, commands alone know."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner

import intramodal
from intramodal import ImageCollection, Projection, backfill, open_store
from intramodal.commands.options import DEFAULT_STORE, CheckedCommand
from intramodal.errors import InputError
from tests.cli.kit import make_photos, run

PACKAGE = Path(intramodal.__file__).parent
ABOVE = ("commands", "cli.py", "__main__.py")
FLAG = re.compile(r"(?<![\w-])--[a-z][\w-]+")
OF_OTHER_PROGRAMS = {"--abbrev-ref", "--porcelain", "--untracked-files", "--upgrade"}


def texts(file: Path) -> Iterator[str]:
    """Yield the texts of a module but its docstrings."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    nodes = list(ast.walk(tree))
    about = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    for node in nodes:
        is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
        if is_text and id(node) not in about:
            yield str(ast.literal_eval(node))


def test_no_text_of_the_library_names_an_option() -> None:
    below = [f for f in PACKAGE.rglob("*.py") if f.relative_to(PACKAGE).parts[0] not in ABOVE]
    assert len(below) > 200
    found = {
        (file.name, flag)
        for file in below
        for text in texts(file)
        if "intramodal " not in text  # a whole command line
        for flag in FLAG.findall(text)
    }
    assert {one for one in found if one[1] not in OF_OTHER_PROGRAMS} == set()


@pytest.mark.parametrize(
    ("sentence", "said"),
    [
        ("give another `vector`", "give another --to"),
        ("or give `yes`", "or give --yes"),
        ("one of `map`", "one of --map"),
        ("it has no `path`", "it has no `path`"),
    ],
)
def test_a_command_names_the_option_of_a_parameter(sentence: str, said: str) -> None:
    @click.command(cls=CheckedCommand)
    @click.option("--to", "vector")
    @click.option("-y", "--yes", is_flag=True)
    @click.option("--map", "maps", multiple=True)
    def command(**_: object) -> None:
        raise InputError(sentence)

    result = CliRunner().invoke(command, [])
    assert isinstance(result.exception, InputError)
    assert str(result.exception) == said


def test_an_error_of_the_library_reaches_a_user_with_the_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    monkeypatch.chdir(tmp_path)
    make_photos(rng)
    half = Projection(np.eye(16, 8, dtype=np.float32), "pca", "clip", "3f9a")
    half.save("pca.safetensors")
    with open_store(DEFAULT_STORE) as store, pytest.raises(InputError, match="another `vector`"):
        backfill(ImageCollection.open(store, "photos"), half, vector="raw")
    said = run("backfill", "photos", "--projection", "pca.safetensors", "--to", "raw", code=1)
    assert "name another --to" in said["error"]["message"]
