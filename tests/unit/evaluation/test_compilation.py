"""Kernels are kept where a folder can be written, and compiled where none can."""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numba
import pytest

from intramodal.evaluation.kernels import classification, cpu, trial
from intramodal.evaluation.kernels.compilation import compiled
from intramodal.evaluation.kernels.trial import try_kernels

IS_POSIX = os.name == "posix"
ENOSPC = OSError(28, "No space left on device")


def doubled(x: int) -> int:
    return 2 * x


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return the folder of temporary files; numba finds no place of its own to keep anything."""
    from numba.core.caching import CacheImpl

    theirs = [kind for kind in CacheImpl._locator_classes if "UserProvided" in kind.__name__]
    monkeypatch.setattr(CacheImpl, "_locator_classes", theirs)
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(RuntimeError, match="no locator"):
        numba.njit(cache=True)(doubled)
    yield tmp_path
    assert numba.config.CACHE_DIR == ""


@pytest.mark.skipif(not IS_POSIX, reason="Windows has a folder of the user")
def test_a_private_temporary_folder_stands_in(temporary: Path) -> None:
    function = compiled()(doubled)
    assert function(21) == 42
    (folder,) = temporary.iterdir()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    again = compiled()(doubled)
    assert again(21) == 42
    assert sum(again.stats.cache_hits.values()) == 1


def missing(folder: Path) -> None:
    folder.rmdir()


def shared(folder: Path) -> None:
    (folder / f"intramodal-kernels-{os.getuid()}").mkdir()
    (folder / f"intramodal-kernels-{os.getuid()}").chmod(0o777)


def linked(folder: Path) -> None:
    (folder / "elsewhere").mkdir(0o700)
    (folder / f"intramodal-kernels-{os.getuid()}").symlink_to(folder / "elsewhere")


@pytest.mark.skipif(not IS_POSIX, reason="Windows has a folder of the user")
@pytest.mark.parametrize("make", [missing, shared, linked])
def test_without_a_folder_that_is_ours_nothing_is_kept_and_all_works(
    temporary: Path, make: Callable[[Path], None]
) -> None:
    make(temporary)
    function = compiled()(doubled)
    assert function(21) == 42
    assert function.stats.cache_path is None
    assert not list(temporary.rglob("*.nbi"))


@pytest.mark.parametrize("step", ["load_overload", "save_overload"])
def test_a_disk_that_is_full_or_gone_costs_the_cache_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))

    def fail(*_: Any) -> None:
        raise ENOSPC

    monkeypatch.setattr(f"numba.core.caching.Cache.{step}", fail)
    with pytest.raises(OSError, match="No space"):
        numba.njit(cache=True)(doubled)(21)
    assert compiled()(doubled)(21) == 42


def test_a_file_that_is_cut_short_is_compiled_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    assert compiled()(doubled)(21) == 42
    for file in tmp_path.rglob("*.nb?"):
        file.write_bytes(file.read_bytes()[:20])
    assert compiled()(doubled)(21) == 42


def mixed(n: int) -> int:
    x = 1
    for _ in range(n):
        x = (x * 1103515245 + 12345) % 2147483647
    return x


def test_other_threads_go_on_while_a_kernel_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    kernel = compiled()(mixed)
    kernel(1)
    worker = threading.Thread(target=kernel, args=(100_000_000,))  # half a second
    worker.start()
    n_turns = 0
    while worker.is_alive():
        time.sleep(0.001)
        n_turns += 1
    assert n_turns > 3


def test_the_kernels_pass_their_trial() -> None:
    found = try_kernels()
    assert found.wrong == ()
    assert found.cache == cpu.rank_rows.stats.cache_path
    assert found.version == numba.__version__


def test_a_kernel_that_gives_another_result_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrong:
        stats = classification.mark_hits.stats

        def __call__(self, *_: Any) -> None:
            pass  # marks nothing

    monkeypatch.setattr(trial.classification, "mark_hits", Wrong())
    assert try_kernels().wrong == ("mark_hits",)
