from __future__ import annotations

import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from intramodal.errors import LedgerError
from intramodal.runs.environment import git_state, is_gone, this_process
from intramodal.runs.ledger import RunLedger
from intramodal.runs.liveness import Heartbeat, NullHeartbeat, heartbeat
from intramodal.runs.records import FailureRecord
from intramodal.runs.run import NullRun, Run


def use_all_of(run: Run) -> str | None:
    run.log_fingerprint("encoder", "demo", "ab", {"dim": 64})
    run.log_metric("map", 0.5, vector="pca", field="label", interval=(0.4, 0.6), n=3)
    run.log_failure("a.jpg", "read", "gone")
    run.log_failures([FailureRecord("b.jpg", "read", "gone")])
    run.save_artefact("x", b"x", "text/plain")
    run.checkpoint("k", 1)
    return run.id


def test_code_runs_the_same_with_and_without_a_ledger() -> None:
    with NullRun() as run:
        assert use_all_of(run) is None
    with RunLedger.open(":memory:") as ledger, ledger.run("fit") as recorded:
        assert use_all_of(recorded) == recorded.id
        assert len(ledger.failures(recorded.id)) == 2


def test_a_run_takes_entries_from_many_threads(tmp_path: Path) -> None:
    with RunLedger.open(tmp_path / "runs.db") as ledger, ledger.run("ingest") as run:

        def log(thread: int) -> None:
            for i in range(20):
                run.log_failure(f"{thread} {i}", "read", "r")

        threads = [threading.Thread(target=log, args=(t,)) for t in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        expected = {f"{t} {i}" for t in range(8) for i in range(20)}
        stored = [failure.item for failure in ledger.failures(run.id)]
    assert set(stored) == expected
    assert len(stored) == len(expected)


def test_the_null_run_needs_no_sql_library() -> None:
    code = (
        "import sys; from intramodal.runs.run import NullRun, RunRecord; "
        "sys.exit(int('sqlalchemy' in sys.modules or 'alembic' in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_this_process_is_not_gone() -> None:
    assert not is_gone(this_process())


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere only the heartbeat tells")
def test_a_process_that_has_ended_is_gone_even_if_its_number_is_used_again() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    here = this_process()
    assert is_gone(replace(here, pid=child.pid))
    assert is_gone(replace(here, started=f"{here.started}0"))


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere only the heartbeat tells")
def test_a_process_nobody_has_waited_for_yet_is_gone() -> None:
    here = this_process()
    child = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # ended, and still in the table
    started = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[19]
    assert is_gone(replace(here, pid=child.pid, started=started))
    child.wait()


def test_a_process_elsewhere_is_never_called_gone() -> None:
    here = this_process()
    assert not is_gone(replace(here, host="elsewhere", pid=2**30))
    assert not is_gone(replace(here, space="another container", pid=2**30))
    assert not is_gone(replace(here, space="", pid=2**30))


def test_git_state_names_commit_and_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_state() is None
    (tmp_path / "file").write_text("one")
    for words in (
        ["init", "-q", "-b", "trunk"],
        ["add", "file"],
        ["-c", "user.name=n", "-c", "user.email=e@example.org", "commit", "-q", "-m", "one"],
    ):
        subprocess.run(["git", *words], check=True)
    state = git_state()
    assert state is not None
    assert (len(state["commit"]), state["branch"], state["is_dirty"]) == (40, "trunk", False)
    (tmp_path / "file").write_text("two")
    state = git_state()
    assert state is not None
    assert state["is_dirty"] is True


def test_a_heartbeat_beats_until_the_block_ends_and_survives_a_failing_database(
    caplog: pytest.LogCaptureFixture,
) -> None:
    beats: list[int] = []
    enough = threading.Event()

    def beat() -> None:
        beats.append(1)
        if len(beats) >= 4:
            enough.set()
        if len(beats) in {2, 3}:
            raise LedgerError("locked")

    with Heartbeat(beat, 0.01):
        assert enough.wait(timeout=20)
    n_beats = len(beats)
    assert threading.Event().wait(0.05) is False
    assert len(beats) == n_beats
    warned = [r for r in caplog.records if r.levelname == "WARNING"]
    assert [record.getMessage() for record in warned] == ["no heartbeat: locked"]


def test_no_interval_means_no_heartbeat() -> None:
    assert isinstance(heartbeat(lambda: None, None), NullHeartbeat)
    with heartbeat(lambda: pytest.fail("it beat"), None):
        pass
