"""Hostile and damaged files: every good picture in, every bad one listed, nothing else read.

``INTRAMODAL_HOSTILE_FILES`` says how many are generated (200 by default).
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.faults import hostile
from tests.faults.hostile import Expected, fill_folder, fill_shard

N_FILES = int(os.environ.get("INTRAMODAL_HOSTILE_FILES", "200"))

DEADLINE_S = 60.0 + 0.5 * N_FILES
MOST_GROWN_MB = 150.0
"""Any bomb decoded or huge file read would take 400 MB and more; the good files are tiny."""

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs pipes and symbolic links")


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    folder = tmp_path / "outside"
    folder.mkdir()
    Image.new("RGB", (20, 20), (1, 2, 3)).save(folder / "secret.png")
    return folder


def told(location: str, store: Path) -> dict[str, Any]:
    """Return what a process of its own tells of the ingest."""
    command = [sys.executable, "-m", "tests.faults.hostile", location, str(store)]
    done = subprocess.run(
        command,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def assert_as_expected(found: dict[str, Any], expected: Expected) -> None:
    stored = dict(found["stored"])
    assert len(stored) == len(found["stored"])
    assert stored == {k: hashlib.sha256(v).hexdigest() for k, v in expected.good.items()}
    failures = found["summary"]["failures"]
    assert sorted(f["item"] for f in failures) == sorted(expected.bad)
    assert {f["stage"] for f in failures} <= {"read", "decode"}
    assert all(0 < len(f["reason"]) < 300 for f in failures)
    assert found["summary"]["failed"] == len(expected.bad)


def assert_nothing_else_was_read(found: dict[str, Any], outside: Path, source: Path) -> None:
    secret = hashlib.sha256((outside / "secret.png").read_bytes()).hexdigest()
    assert secret not in {sha256 for _, sha256 in found["stored"]}
    opened = [Path(path) for path in found["opened"]]
    assert any(path.is_relative_to(source) for path in opened)  # the hook does see them
    assert not [path for path in opened if path.is_relative_to(outside)]
    assert Path("/dev/zero") not in opened


def test_a_hostile_folder_gives_its_good_pictures_and_a_reason_for_each_other(
    tmp_path: Path, outside: Path
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    expected = fill_folder(source, outside, N_FILES)
    found = told(str(source), tmp_path / "store")
    assert_as_expected(found, expected)
    assert_nothing_else_was_read(found, outside, source)
    assert found["grown_mb"] < MOST_GROWN_MB
    again = told(str(source), tmp_path / "store")
    assert again["summary"]["written"] == 0
    assert_as_expected(again, expected)


def test_a_hostile_shard_gives_its_good_pictures_and_a_reason_for_each_other(
    tmp_path: Path, outside: Path
) -> None:
    shard = tmp_path / "shard.tar"
    expected = fill_shard(shard, outside, N_FILES, seed=1)
    found = told(str(shard), tmp_path / "store")
    assert_as_expected(found, expected)
    assert_nothing_else_was_read(found, outside, shard)
    assert found["grown_mb"] < MOST_GROWN_MB


def test_a_hostile_list_leads_nowhere(tmp_path: Path, outside: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    expected = fill_folder(source, outside, 40, seed=2)
    expected.bad -= {"./caf\\xe9.png", "escape-folder"}
    names = [*expected.good, *expected.bad]
    led = ["../outside/secret.png", str(outside / "secret.png"), "0/../../outside/secret.png"]
    with (source / "list.jsonl").open("w") as file:
        file.writelines(json.dumps({"path": path}) + "\n" for path in [*names, *led])
    expected.bad |= set(led)
    found = told(str(source / "list.jsonl"), tmp_path / "store")
    assert_as_expected(found, expected)
    assert_nothing_else_was_read(found, outside, source)


def test_the_rule_for_cut_files_tells_whole_pictures_from_parts() -> None:
    # What is bad by construction: less than half of the pixels' bytes.
    for seed in range(30):
        whole = hostile.plain(np.random.default_rng(seed))
        assert hostile.holds_a_picture(whole.data)
        assert not hostile.holds_a_picture(whole.data[: len(whole.data) // 2])
