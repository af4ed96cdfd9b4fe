from __future__ import annotations

import os
import platform
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, replace
from importlib import metadata
from inspect import Signature, signature
from pathlib import Path

import pytest

from intramodal.runs.environment import git_state, is_gone, package_versions, this_process
from intramodal.runs.ledger import RecordedRun, RunLedger
from intramodal.runs.liveness import heartbeat
from intramodal.runs.records import FailureRecord, FingerprintRecord
from intramodal.runs.run import Run
from intramodal.store.manifest import VectorOrigin


def use_all_of(run: Run) -> str | None:
    run.log_fingerprint("encoder", "demo", "ab", {"dim": 64})
    run.log_metric("map", 0.5, vector="pca", field="label", interval=(0.4, 0.6), n=3)
    run.log_failure("a.jpg", "read", "gone")
    run.log_failures([FailureRecord("b.jpg", "read", "gone")])
    run.save_artefact("x", b"x", "text/plain")
    run.checkpoint("k", 1)
    return run.id


def test_code_runs_the_same_with_and_without_a_ledger() -> None:
    assert use_all_of(Run()) is None
    with RunLedger.open(":memory:") as ledger, ledger.run("fit") as recorded:
        assert use_all_of(recorded) == recorded.id
        assert len(ledger.failures(recorded.id)) == 2


def public(cls: type) -> dict[str, Signature]:
    methods = {name: value for name, value in vars(cls).items() if not name.startswith("_")}
    return {name: signature(value) for name, value in methods.items() if callable(value)}


def test_nothing_silently_stops_being_recorded() -> None:
    """A method that `RecordedRun` inherits would keep nothing."""
    recorded = public(RecordedRun)
    assert public(Run).keys() >= {"keep", "log_origins", "log_metric", "save_artefact"}
    assert {name: recorded.get(name) for name in public(Run)} == public(Run)


@dataclass(frozen=True)
class Measured:
    value: float

    def record(self, run: Run) -> None:
        run.log_metric("map", self.value)


def test_a_result_records_itself() -> None:
    Run().keep(Measured(0.5))
    with RunLedger.open(":memory:") as ledger, ledger.run("evaluate") as run:
        run.keep(Measured(0.5))
        assert [(m.name, m.value) for m in ledger.metrics(run.id)] == [("map", 0.5)]


ORIGINS = {
    "raw": VectorOrigin("clip", "e" * 64),
    "pca": VectorOrigin("clip", "e" * 64, projection="p" * 64, source="raw", method="pca"),
}


def test_origins_are_recorded_with_what_earlier_runs_knew() -> None:
    Run().log_origins(ORIGINS)
    with RunLedger.open(":memory:") as ledger:
        with ledger.run("fit") as run:
            run.log_fingerprint("projection", "other name", "p" * 64, {"rank": 3})
        with ledger.run("compare") as run:
            run.log_origins(ORIGINS)
        assert ledger.fingerprints(run.id) == [
            FingerprintRecord("encoder", str(ORIGINS["raw"]), "e" * 64, {"vector": "raw"}),
            FingerprintRecord(
                "projection", str(ORIGINS["pca"]), "p" * 64, {"rank": 3, "vector": "pca"}
            ),
        ]


def test_one_origin_is_recorded_with_the_given_facts() -> None:
    Run().log_origin("pca", ORIGINS["pca"])
    with RunLedger.open(":memory:") as ledger, ledger.run("search") as run:
        run.log_fingerprint("projection", "other name", "p" * 64, {"rank": 3})
        run.log_origin("pca", ORIGINS["pca"])
        run.log_origin("raw", ORIGINS["raw"], {"dim": 8})
        facts = {record.name: dict(record.facts) for record in ledger.fingerprints(run.id)}
    assert facts == {
        "other name": {"rank": 3},
        str(ORIGINS["pca"]): {"vector": "pca"},
        str(ORIGINS["raw"]): {"dim": 8, "vector": "raw"},
    }


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


def test_a_run_that_keeps_nothing_needs_no_sql_library() -> None:
    code = (
        "import sys; from intramodal.runs.run import Run; "
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


def test_package_versions_are_those_that_the_packages_declare() -> None:
    versions = package_versions()
    assert versions.pop("python") == platform.python_version()
    assert versions.pop("platform")
    assert {"intramodal", "numpy", "sqlalchemy", "qdrant-client"} <= set(versions)
    assert versions == {name: metadata.version(name) for name in versions}


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


def test_a_heartbeat_beats_until_the_block_ends() -> None:
    beats: list[int] = []
    enough = threading.Event()

    def beat() -> None:
        beats.append(1)
        if len(beats) >= 4:
            enough.set()

    with heartbeat(beat, 0.01):
        assert "run heartbeat" in {thread.name for thread in threading.enumerate()}
        assert enough.wait(timeout=20)
    n_beats = len(beats)
    assert threading.Event().wait(0.05) is False
    assert len(beats) == n_beats


def test_a_heartbeat_survives_a_failing_database_with_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "runs.db"
    with RunLedger.open(path, heartbeat_interval_s=None) as ledger, ledger.run("fit") as run:
        path.rename(tmp_path / "elsewhere.db")
        run.beat()
        run.beat()
        (tmp_path / "elsewhere.db").rename(path)
        before = ledger.get(run.id).heartbeat
        time.sleep(0.002)
        run.beat()
        assert ledger.get(run.id).heartbeat > before
    assert len([r for r in caplog.records if r.levelname == "WARNING"]) == 1


def test_no_interval_means_no_heartbeat() -> None:
    with heartbeat(lambda: pytest.fail("it beat"), None):
        assert "run heartbeat" not in {thread.name for thread in threading.enumerate()}
