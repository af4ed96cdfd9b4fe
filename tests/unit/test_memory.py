from __future__ import annotations

from pathlib import Path

import pytest

from intramodal import memory


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    return tmp_path


def test_a_containers_limit_counts_where_it_is_lower(system: Path) -> None:
    (system / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable:    5000 kB\n")
    assert memory.free_bytes() == 5000 * 1024
    (system / "memory.max").write_text("max\n")
    assert memory.free_bytes() == 5000 * 1024
    (system / "memory.max").write_text("3000\n")
    (system / "memory.current").write_text("1000\n")
    assert memory.free_bytes() == 2000


def test_a_system_that_does_not_say_gives_nothing(system: Path) -> None:
    assert memory.free_bytes() is None
