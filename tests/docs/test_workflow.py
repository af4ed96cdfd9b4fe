"""The project's own CI: it follows GitHub's schema, and every command and folder in it exists."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from typing import Any

import pytest
from click.testing import CliRunner

from intramodal.cli import cli

ROOT = Path(__file__).parents[2]
FILE = ROOT / ".github" / "workflows" / "ci.yml"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def jobs() -> dict[str, Any]:
    yaml = pytest.importorskip("ruamel.yaml", reason="ruamel.yaml comes with check-jsonschema")
    return dict(yaml.YAML(typ="safe").load(FILE.read_text(encoding="utf-8"))["jobs"])


def commands(jobs: dict[str, Any]) -> list[list[str]]:
    """Return every command of every job, in words."""
    steps = (step for job in jobs.values() for step in job["steps"])
    return [shlex.split(line) for step in steps for line in step.get("run", "").splitlines()]


@pytest.mark.skipif(find_spec("check_jsonschema") is None, reason="check-jsonschema is absent")
def test_the_workflow_follows_the_schema_of_github() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema"]
    found = subprocess.run([*command, "vendor.github-workflows", str(FILE)], capture_output=True)
    assert found.returncode == 0, found.stdout + found.stderr


def test_the_tests_run_on_every_system_and_on_the_oldest_python(jobs: dict[str, Any]) -> None:
    matrix = jobs["test"]["strategy"]["matrix"]
    assert {name.split("-")[0] for name in matrix["os"]} == {"ubuntu", "macos", "windows"}
    assert PROJECT["project"]["requires-python"] == f">={matrix['python-version'][0]}"
    steps = [step for job in jobs.values() for step in job["steps"] if "uses" in step]
    assert len(steps) == 4
    assert all(re.fullmatch(r"actions/[a-z-]+@v\d+", step["uses"]) for step in steps)


def test_every_program_comes_with_what_is_installed(jobs: dict[str, Any]) -> None:
    programs = {words[0] for words in commands(jobs)}
    assert len(programs) == 5
    absent = [name for name in programs if not which(name, path=str(Path(sys.executable).parent))]
    assert absent == []
    modules = [words[2] for words in commands(jobs) if words[:2] == ["python", "-m"]]
    assert sorted(set(modules)) == ["pip", "pytest"]
    (install,) = {words[-1] for words in commands(jobs) if "pip" in words}
    assert re.fullmatch(r"\.\[(\w+)\]", install)[1] in PROJECT["project"]["optional-dependencies"]


def test_every_command_of_the_package_is_one(jobs: dict[str, Any]) -> None:
    ours = [words[1:] for words in commands(jobs) if words[0] == "intramodal"]
    assert len(ours) == 4
    for words in ours:
        result = CliRunner().invoke(cli, [*words, "--help"])
        assert result.exit_code == 0, result.output
        options = {word for word in words if word.startswith("--")}
        assert all(option in result.stdout for option in options)


def test_every_folder_and_mark_of_the_tests_exists(jobs: dict[str, Any]) -> None:
    (words,) = [words for words in commands(jobs) if "pytest" in words]
    folders = [word for word in words if word.startswith("tests/")]
    assert folders
    assert all((ROOT / folder).is_dir() for folder in folders)
    marks = {mark.split(":")[0] for mark in PROJECT["tool"]["pytest"]["ini_options"]["markers"]}
    assert set(re.findall(r"not (\w+)", words[words.index("-m", 3) + 1])) <= marks
