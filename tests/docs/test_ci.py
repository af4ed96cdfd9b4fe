"""docs/ci.md: its workflows follow the schemas of GitHub and GitLab, and their commands run."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from intramodal import ImageCollection, open_store
from intramodal.cli import cli
from intramodal.commands.options import DEFAULT_STORE
from intramodal.evaluation.gate import FAIL_ON, fails
from intramodal.store.manifest import VectorOrigin

PAGE = (Path(__file__).parents[2] / "docs" / "ci.md").read_text(encoding="utf-8")
SCHEMAS = ("vendor.github-workflows", "vendor.gitlab-ci")
N = 120


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)


WORKFLOWS = dict(zip(SCHEMAS, blocks("yaml"), strict=True))


def check(schema: str, text: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Hold a workflow against a schema that check-jsonschema carries: nothing is fetched."""
    file = folder / "workflow.yml"
    file.write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, str(file)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.skipif(find_spec("check_jsonschema") is None, reason="check-jsonschema is absent")
@pytest.mark.parametrize("schema", SCHEMAS)
def test_a_workflow_follows_the_schema_of_its_server(schema: str, tmp_path: Path) -> None:
    found = check(schema, WORKFLOWS[schema], tmp_path)
    assert found.returncode == 0, found.stdout + found.stderr
    misspelt = (
        WORKFLOWS[schema].replace("runs-on:", "runs_on:").replace("rules:", "rules: 3\n  x:")
    )
    assert check(schema, misspelt, tmp_path).returncode == 1


def loaded(schema: str) -> dict[str, Any]:
    yaml = pytest.importorskip("ruamel.yaml", reason="ruamel.yaml comes with check-jsonschema")
    return dict(yaml.YAML(typ="safe").load(WORKFLOWS[schema]))


def commands() -> list[str]:
    """Return every command of the page: typed by a person, run by GitHub, run by GitLab."""
    steps = loaded(SCHEMAS[0])["jobs"]["compare"]["steps"]
    lines = [step["run"] for step in steps if "run" in step]
    lines += loaded(SCHEMAS[1])["compare"]["script"]
    found = [line for line in lines if line.startswith("intramodal ")]
    return [*(block.strip() for block in blocks("console")), *found]


@pytest.fixture
def products(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    """Write a collection whose `pca` keeps the category and has lost the vendor."""
    monkeypatch.chdir(tmp_path)
    category, vendor = np.arange(N) % 6, np.arange(N) // 6 % 4
    X = np.hstack([rng.normal(size=(6, 8))[category], rng.normal(size=(4, 8))[vendor]])
    X = (X + rng.normal(size=(N, 16))).astype(np.float32)
    clip = VectorOrigin("clip", "3f9a")
    projected = VectorOrigin("clip", "3f9a", projection="0c1d", source="image")
    payloads = [
        {"category": f"c{c}", "vendor": f"v{v}"} for c, v in zip(category, vendor, strict=True)
    ]
    with open_store(DEFAULT_STORE) as store:
        vectors = {"image": (16, clip), "pca": (8, projected)}
        collection = ImageCollection.create(store, "products", vectors)
        collection.write(list(range(N)), {"image": X, "pca": X[:, :8].copy()}, payloads)


@pytest.mark.usefixtures("products")
def test_every_command_runs_and_writes_what_the_workflow_publishes() -> None:
    assert len(commands()) == 3
    for line in commands():
        result = CliRunner().invoke(cli, shlex.split(line)[1:])
        assert result.exit_code == 3, result.output
        assert result.stderr.splitlines()[-1] == "Gate failed (not-better): vendor is worse."
        for name in ("compare.xml", "compare.html"):
            assert Path(name).stat().st_size > 0
            Path(name).unlink()


def test_both_servers_publish_both_files_also_of_a_gate_that_failed() -> None:
    steps = loaded(SCHEMAS[0])["jobs"]["compare"]["steps"]
    junit, upload = (step for step in steps if "if" in step)
    assert junit["with"]["report_paths"] == "compare.xml"
    assert upload["with"]["path"].split() == ["compare.xml", "compare.html"]
    assert junit["if"] == upload["if"] == "${{ !cancelled() }}"
    artifacts = loaded(SCHEMAS[1])["compare"]["artifacts"]
    assert artifacts["when"] == "always"
    assert artifacts["paths"] == ["compare.html"]
    assert artifacts["reports"] == {"junit": "compare.xml"}


def test_places_and_keys_come_from_secrets_and_reach_one_step_only() -> None:
    workflow = loaded(SCHEMAS[0])
    assert "env" not in workflow
    assert "env" not in workflow["jobs"]["compare"]
    (step,) = (s for s in workflow["jobs"]["compare"]["steps"] if "env" in s)
    assert step["run"].startswith("intramodal compare ")
    for name in ("INTRAMODAL_STORE", "QDRANT_API_KEY", "INTRAMODAL_RUNS"):
        assert re.fullmatch(r"\$\{\{ secrets\.\w+ \}\}", step["env"][name]), name
    assert "variables" not in loaded(SCHEMAS[1])["compare"]


def test_the_table_of_what_fails_is_the_rule() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (\w+) \| (\w+) \|$", PAGE, re.MULTILINE)
    assert len(rows) == 6
    for outcome, *cells in rows:
        expected = ["fails" if fails(outcome, rule) else "passes" for rule in FAIL_ON]
        assert cells == expected, outcome


@pytest.mark.usefixtures("products")
def test_the_documented_keys_are_those_that_are_printed() -> None:
    (block,) = blocks("json")
    documented = json.loads(block)
    asked = ["compare", "products", "--vectors", "image,pca", "--labels", "category"]
    asked += ["--task", "retrieval", "--no-controls", "--json"]
    first = json.loads(CliRunner().invoke(cli, asked).stdout)
    again = [*asked, "--baseline", first["run_id"], "--fail-on", "worse"]
    found = json.loads(CliRunner().invoke(cli, again).stdout)
    assert list(documented) == [key for key in found if key not in first]
    for key, example in documented.items():
        assert list(found[key]) == list(example)
