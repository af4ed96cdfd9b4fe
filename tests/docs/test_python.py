"""Every block of docs/python.md, run in order in one folder; the table names every job.

The model that the page names is downloaded; here the shipped one takes its place.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import intramodal
from intramodal import open_store
from intramodal.cli import COMMANDS
from intramodal.commands.options import DEFAULT_STORE
from tests.cli.test_jobs import JOBS
from tests.docs.conftest import N_CODE_POINTS

PAGE = (Path(__file__).parents[2] / "docs" / "python.md").read_text(encoding="utf-8")
SHOWN_MODEL = "open_clip:ViT-B-32:openai"
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
WITHOUT_JOB = {"demo", "anchors", "runs", "models", "doctor", "trust", "init"}
"""Commands that show or set up something; in Python `load_anchors`, `RunLedger` and others."""


def test_every_block_of_the_page_runs(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shop)
    names: dict[str, Any] = {}
    for block in BLOCKS:
        exec(compile(block.replace(SHOWN_MODEL, "demo"), "python.md", "exec"), names)
    assert names["summary"].projected == 4 * N_CODE_POINTS
    assert set(names["found"].fields) == {"category", "vendor"}
    assert names["hits"].vectors["pca"][0]["id"] == 0  # the query is the image of the first point
    assert names["preference"].n_b == 5
    with open_store(DEFAULT_STORE) as store:
        assert store.count("photos") == 1
        assert set(store.info("products").vectors) == {"image", "pca"}
    assert all((shop / page).stat().st_size > 5_000 for page in ("report.html", "search.html"))


def test_the_page_names_every_job_and_every_command_that_has_one() -> None:
    jobs = {job.job.partition(":")[2] for job in JOBS.values()}
    assert {job for job in jobs if job not in PAGE} == set()
    assert {name for name in COMMANDS if f"`{name}" not in PAGE} <= WITHOUT_JOB


def test_the_page_names_every_public_function() -> None:
    functions = {name for name in intramodal.__all__ if name[0].islower()}
    assert {name for name in functions if not re.search(rf"\b{name}\b", PAGE)} == set()


def test_every_name_that_a_block_imports_is_public() -> None:
    found = re.findall(r"^from intramodal import (\([^)]*\)|[^\n]*)", "\n".join(BLOCKS), re.M)
    names = {name for part in found for name in re.findall(r"\w+", part)}
    assert names <= set(intramodal.__all__)
