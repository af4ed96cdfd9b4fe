"""What every runs database must do; a backend overrides the one fixture `url`."""

from __future__ import annotations

import hashlib
import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, text, update

from intramodal.errors import InputError, LedgerError
from intramodal.runs import liveness
from intramodal.runs.ledger import RunLedger
from intramodal.runs.records import FailureRecord
from intramodal.runs.schema import SCHEMA, RunRow, database_now

CHILD = """
import sys, time
from intramodal.runs.ledger import RunLedger

with RunLedger.open(sys.argv[1]) as ledger, ledger.run(sys.argv[2], command=["child"]) as run:
    for i in range(int(sys.argv[3])):
        run.log_failure(f"{sys.argv[2]} {i}", "read", "planted")
        run.checkpoint("done", i)
    print(run.id, flush=True)
    time.sleep(float(sys.argv[4]))
"""


def start_child(url: str, kind: str, n: int, wait_s: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", CHILD, url, kind, str(n), str(wait_s)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def end_child(child: subprocess.Popen[str]) -> str:
    out, _ = child.communicate(timeout=60)
    assert child.returncode == 0
    return out.strip()


class LedgerContract:
    """Tests of a runs database."""

    @pytest.fixture
    def url(self) -> str:
        raise NotImplementedError

    @pytest.fixture
    def ledger(self, url: str) -> Iterator[RunLedger]:
        with RunLedger.open(url) as ledger:
            yield ledger

    def test_a_block_that_ends_is_a_complete_run_with_all_that_was_recorded(
        self, ledger: RunLedger
    ) -> None:
        with ledger.run(
            "ingest", parameters={"model": "fake:64"}, seed=7, command=["intramodal", "ingest"]
        ) as run:
            assert ledger.get(run.id).status == "RUNNING"
            assert ledger.get(run.id).finished is None
        record = ledger.get(run.id)
        assert (record.kind, record.status, record.error) == ("ingest", "COMPLETE", None)
        assert (record.seed, record.parameters) == (7, {"model": "fake:64"})
        assert record.command == ("intramodal", "ingest")
        assert record.pid == os.getpid()
        assert record.packages["sqlalchemy"]
        assert record.to_dict() == json.loads(json.dumps(record.to_dict()))

    def test_times_are_utc_aware_and_by_a_clock_near_ours(self, ledger: RunLedger) -> None:
        with ledger.run("fit") as run:
            pass
        record = ledger.get(run.id)
        now = datetime.now(UTC)
        assert record.started.utcoffset() == timedelta(0)
        assert record.finished is not None
        # a server's clock may differ a little from ours
        assert abs(now - record.started) < timedelta(minutes=5)
        assert record.started <= record.finished
        assert record.seconds == (record.finished - record.started).total_seconds()

    def test_a_block_that_raises_is_a_failed_run_and_the_error_goes_on(
        self, ledger: RunLedger
    ) -> None:
        with (
            pytest.raises(InputError, match="seven is no colour"),
            ledger.run("fit") as run,
        ):
            raise InputError("seven is no colour")
        record = ledger.get(run.id)
        assert record.status == "FAILED"
        assert record.error == "InputError: seven is no colour"

    def test_ctrl_c_makes_an_interrupted_run(self, ledger: RunLedger) -> None:
        with pytest.raises(KeyboardInterrupt), ledger.run("fit") as run:
            raise KeyboardInterrupt
        assert ledger.get(run.id).status == "INTERRUPTED"

    @pytest.mark.parametrize(("code", "status"), [(0, "COMPLETE"), (3, "FAILED")])
    def test_an_exit_counts_by_its_code(self, ledger: RunLedger, code: int, status: str) -> None:
        with pytest.raises(SystemExit), ledger.run("fit") as run:
            raise SystemExit(code)
        assert ledger.get(run.id).status == status

    def test_a_finished_run_cannot_change(self, ledger: RunLedger) -> None:
        with ledger.run("fit") as run:
            run.log_metric("map", 0.5)
        before = ledger.get(run.id)
        changes: list[Callable[[], None]] = [
            lambda: run.log_metric("map", 0.9),
            lambda: run.log_failure("x", "read", "late"),
            lambda: run.checkpoint("k", 1),
            lambda: run.finish("FAILED"),
        ]
        for change in changes:
            with pytest.raises(LedgerError, match="COMPLETE and cannot change"):
                change()
        run.beat()
        assert ledger.get(run.id) == before
        assert ledger.metrics(run.id)[0].value == 0.5

    def test_a_run_that_another_process_ended_stays_as_it_is(
        self, ledger: RunLedger, caplog: pytest.LogCaptureFixture
    ) -> None:
        with ledger.run("fit") as run:
            with ledger._database.writing() as session:
                session.execute(update(RunRow).values(status="INTERRUPTED"))
            run.log_metric("map", 0.5)
        assert ledger.get(run.id).status == "INTERRUPTED"
        assert ledger.metrics(run.id) == []
        assert "ended by another process" in caplog.text

    def test_a_metric_keeps_its_interval_and_a_repeat_replaces_it(self, ledger: RunLedger) -> None:
        with ledger.run("evaluate") as run:
            run.log_metric("map", 0.1, vector="pca", field="label")
            run.log_metric("map", 0.25, vector="pca", field="label", interval=(0.2, 0.3), n=40)
            run.log_metric("map", 0.125, vector="raw", field="label")
            run.log_metric("map", math.nan)
        figures = {m.key: m for m in ledger.metrics(run.id)}
        assert len(figures) == len(ledger.metrics(run.id)) == 3
        metric = figures["map", "pca", "label"]
        assert (metric.value, metric.low, metric.high, metric.n) == (0.25, 0.2, 0.3, 40)
        assert figures["map", None, None].value is None

    def test_fingerprints_are_kept_and_of_three_kinds_only(self, ledger: RunLedger) -> None:
        with ledger.run("ingest") as run:
            run.log_fingerprint("encoder", "demo", "ab12", {"revision": "main"})
            run.log_fingerprint("collection", "photos", "cd34")
            with pytest.raises(InputError, match="encoder, projection, collection"):
                run.log_fingerprint("dataset", "x", "y")  # type: ignore[arg-type]
        first, second = ledger.fingerprints(run.id)
        assert (first.kind, first.name, first.fingerprint) == ("encoder", "demo", "ab12")
        assert first.facts == {"revision": "main"}
        assert second.facts == {}

    def test_the_latest_known_facts_of_a_fingerprint_are_found(self, ledger: RunLedger) -> None:
        for facts in ({"rank": 1}, {"rank": 2}, {}):
            with ledger.run("fit") as run:
                run.log_fingerprint("projection", "pca", "ef56", facts)
        assert ledger.facts("ef56") == {"rank": 2}
        assert ledger.facts("unknown") == {}

    def test_artefacts_come_back_byte_for_byte(self, ledger: RunLedger) -> None:
        data = bytes(range(256)) * 400
        with ledger.run("evaluate") as run:
            run.save_artefact("scores.npz", b"old")
            run.save_artefact("scores.npz", data)
            run.save_artefact("result.json", {"map": 0.5, "ids": ("a", 1)})
        assert ledger.artefact(run.id, "scores.npz") == data
        assert json.loads(ledger.artefact(run.id, "result.json")) == {"map": 0.5, "ids": ["a", 1]}
        result, scores = ledger.artefacts(run.id)
        assert (result.name, result.media_type) == ("result.json", "application/json")
        assert (scores.size, scores.sha256) == (len(data), hashlib.sha256(data).hexdigest())
        with pytest.raises(LedgerError, match=r"no artefact 'x'; it has: result\.json, scores"):
            ledger.artefact(run.id, "x")

    def test_failures_come_back_in_order_whatever_their_names_are(self, ledger: RunLedger) -> None:
        names = [
            "a\nb.jpg",
            "nul\0.jpg",
            os.fsdecode(b"half\xff.jpg"),
            "ω/写真 🐈.jpg",
            "x" * 9000,
        ]
        with ledger.run("ingest") as run:
            run.log_failures(FailureRecord(name, "decode", f"bad {name}") for name in names)
            run.log_failure("last", "encode", "<script>alert(1)</script>")
        stored = [failure.item for failure in ledger.failures(run.id)]
        expected = ["a\nb.jpg", "nul\\x00.jpg", "half\\udcff.jpg", names[3], names[4], "last"]
        assert stored == expected
        assert ledger.failures(run.id)[-1].reason == "<script>alert(1)</script>"

    def test_the_last_checkpoint_of_a_key_counts(self, ledger: RunLedger) -> None:
        with ledger.run("backfill") as run:
            for offset in (None, 100, {"next": "abc"}):
                run.checkpoint("offset", offset)
            run.checkpoint("pass", 2)
            with pytest.raises(InputError, match="1 to 255"):
                run.checkpoint("k" * 256, 1)
        assert ledger.checkpoints(run.id) == {"offset": {"next": "abc"}, "pass": 2}

    def test_runs_are_listed_latest_first_and_filtered(self, ledger: RunLedger) -> None:
        for kind in ("ingest", "fit", "ingest"):
            with ledger.run(kind):
                pass
        runs = ledger.runs()
        assert len(runs) == 3
        assert [run.started for run in runs] == sorted((r.started for r in runs), reverse=True)
        assert [run.kind for run in ledger.runs(kind="ingest")] == ["ingest", "ingest"]
        assert ledger.runs(limit=1) == runs[:1]
        assert ledger.runs(status="FAILED") == []
        with pytest.raises(InputError, match="COMPLETE"):
            ledger.runs(status="complet")  # type: ignore[arg-type]

    def test_a_notebook_shows_runs_as_an_escaped_table(self, ledger: RunLedger) -> None:
        pd = pytest.importorskip("pandas")
        with pytest.raises(ValueError, match="script"), ledger.run("fit"):
            raise ValueError("<script>alert(1)</script>")
        frame = ledger.runs().to_frame()
        assert isinstance(frame, pd.DataFrame)
        assert list(frame["status"]) == ["FAILED"]
        html = ledger.runs()._repr_html_()
        assert "&lt;script&gt;" in html
        assert "<script>" not in html

    def test_a_notebook_shows_a_comparison_as_an_escaped_table(self, ledger: RunLedger) -> None:
        pytest.importorskip("pandas")
        ids = []
        for value in (0.25, 0.5):
            with ledger.run("evaluate", parameters={"k": f"<script>{value}"}) as run:
                run.log_metric("mAP", value, vector="pca", field="<script>")
            ids.append(run.id)
        found = ledger.compare(*ids)
        frame = found.to_frame()
        assert frame[["vector", "a", "b", "delta"]].to_numpy().tolist() == [
            ["pca", 0.25, 0.5, 0.25]
        ]
        html = found._repr_html_()
        assert all(text in html for text in (*ids, "&lt;script&gt;0.25", "<td>0.2500</td>"))
        assert "<script>" not in html

    def test_the_ledger_describes_itself(self, ledger: RunLedger) -> None:
        with ledger.run("fit"):
            pass
        facts = ledger.describe()
        assert (facts["n_runs"], facts["schema"]) == (1, SCHEMA)
        assert facts["backend"] in {"sqlite", "postgresql"}
        assert facts["version"][0].isdigit()
        json.dumps(facts)

    def test_a_run_is_found_by_the_beginning_of_its_id(self, ledger: RunLedger) -> None:
        with pytest.raises(LedgerError, match="no runs yet"):
            ledger.get("2026")
        with ledger.run("fit") as one, ledger.run("fit") as two:
            assert one.id is not None
            assert two.id is not None
        n_shared = next(i for i in range(40) if one.id[i] != two.id[i])
        shared, own = one.id[:n_shared], one.id[: n_shared + 1]
        assert ledger.get(own).id == one.id
        with pytest.raises(LedgerError, match="begins more than one run"):
            ledger.get(shared)
        with pytest.raises(LedgerError, match=f"did you mean .*{one.id}"):
            ledger.get("x" + one.id[1:])
        with pytest.raises(LedgerError, match="there is no run '%'"):
            ledger.get("%")
        with pytest.raises(LedgerError):
            ledger.get("")

    def test_a_run_names_the_run_it_resumes(self, ledger: RunLedger) -> None:
        with ledger.run("ingest") as first:
            pass
        with ledger.run("ingest", parent=first.id) as second:
            pass
        assert ledger.get(second.id).parent == first.id
        with (
            pytest.raises(LedgerError, match="there is no run 'nothing'"),
            ledger.run("ingest", parent="nothing"),
        ):
            pytest.fail("the block must not start")

    def test_bad_arguments_of_a_run_are_refused_before_the_block(self, ledger: RunLedger) -> None:
        for arguments in ({"kind": "Ingest!"}, {"kind": "fit", "seed": 2**64}):
            with pytest.raises(InputError), ledger.run(**arguments):
                pytest.fail("the block must not start")
        assert ledger.runs() == []

    def test_compare_shows_what_differs_and_every_figure(self, ledger: RunLedger) -> None:
        with ledger.run("evaluate", parameters={"k": 10, "vector": "raw"}) as a:
            a.log_metric("map", 0.25, field="label")
            a.log_metric("p@1", 0.5)
            a.log_fingerprint("encoder", "demo", "ab")
        with ledger.run("evaluate", parameters={"k": 10, "vector": "pca"}) as b:
            b.log_metric("map", 0.75, field="label")
            b.log_fingerprint("encoder", "demo", "cd")
        result = ledger.compare(a.id, b.id)
        assert result.parameters == {"vector": ("raw", "pca")}
        assert result.packages == {}
        assert result.fingerprints == {"encoder demo": ("ab", "cd")}
        pairs = {(pair.name, pair.field): pair for pair in result.metrics}
        assert pairs["map", "label"].delta == 0.5
        assert (pairs["p@1", None].a, pairs["p@1", None].b) == (0.5, None)
        assert pairs["p@1", None].delta is None
        json.dumps(result.to_dict(), allow_nan=False)

    def test_prune_deletes_what_was_asked_and_never_a_live_run(self, ledger: RunLedger) -> None:
        for kind in ("fit", "ingest", "ingest", "ingest"):
            with ledger.run(kind) as run:
                run.log_metric("n", 1)
        with pytest.raises(InputError, match="which runs to delete"):
            ledger.prune()
        with ledger.run("ingest") as live:
            assert ledger.prune(older_than=timedelta(days=1)) == []
            planned = ledger.prune(kind="ingest", keep=1, dry_run=True)
            assert len(ledger.runs()) == 5
            gone = ledger.prune(kind="ingest", keep=1)
        assert [run.id for run in gone] == [run.id for run in planned]
        assert len(gone) == 2
        left = {run.id for run in ledger.runs()}
        assert live.id in left
        assert len(left) == 3
        with ledger._database.reading() as session:
            # one figure each of the two runs left beside the live one
            assert session.scalar(text("SELECT count(*) FROM metrics")) == 2

    def test_two_processes_that_open_a_new_database_at_once_both_succeed(self, url: str) -> None:
        children = [start_child(url, kind, 20, 0) for kind in ("one", "two", "three")]
        ids = {end_child(child) for child in children}
        with RunLedger.open(url) as ledger:
            assert {run.id for run in ledger.runs(status="COMPLETE")} == ids
        assert len(ids) == 3

    def test_two_processes_writing_at_once_lose_nothing(self, ledger: RunLedger, url: str) -> None:
        n = 150
        children = [start_child(url, kind, n, 0) for kind in ("one", "two")]
        for child, kind in zip(children, ("one", "two"), strict=True):
            run_id = end_child(child)
            items = [failure.item for failure in ledger.failures(run_id)]
            assert items == [f"{kind} {i}" for i in range(n)]
            assert ledger.checkpoints(run_id) == {"done": n - 1}
            assert ledger.get(run_id).status == "COMPLETE"

    @pytest.mark.skipif(sys.platform != "linux", reason="elsewhere only the heartbeat tells")
    def test_a_killed_process_leaves_an_interrupted_run_with_its_checkpoints(
        self, ledger: RunLedger, url: str
    ) -> None:
        child = start_child(url, "ingest", 3, 60)
        assert child.stdout is not None
        run_id = child.stdout.readline().strip()
        assert ledger.get(run_id).status == "RUNNING"
        child.send_signal(signal.SIGKILL)
        child.wait(timeout=30)
        child.stdout.close()
        record = ledger.get(run_id)
        assert record.status == "INTERRUPTED"
        assert record.finished is not None
        assert "ended without finishing" in str(record.error)
        assert ledger.checkpoints(run_id) == {"done": 2}
        with ledger.run("ingest", parent=run_id) as again:
            pass
        assert ledger.get(again.id).status == "COMPLETE"

    def test_a_run_of_another_host_is_given_up_after_three_silent_intervals(
        self, ledger: RunLedger, url: str
    ) -> None:
        with ledger.run("ingest") as run:
            self._pretend(ledger, host="elsewhere", age_s=25)
            assert ledger.get(run.id).status == "RUNNING"
            self._pretend(ledger, host="elsewhere", age_s=31)
            with RunLedger.open(url) as looker:
                (record,) = looker.runs()
            assert record.status == "INTERRUPTED"
            assert "no sign of life from elsewhere for 31 s" in str(record.error)
            assert record.finished == record.heartbeat

    def test_a_run_that_beats_between_the_look_and_the_mark_is_not_given_up(
        self, ledger: RunLedger
    ) -> None:
        with ledger.run("ingest") as run:
            self._pretend(ledger, host="elsewhere", age_s=31)
            with ledger._database.reading() as session:
                seen = session.get(RunRow, run.id)
                assert seen is not None
                session.expunge(seen)
            run.beat()
            assert not liveness._mark(ledger._database, seen, "silent")
        assert ledger.get(run.id).status == "COMPLETE"

    def test_the_heartbeat_keeps_a_run_alive(self, url: str) -> None:
        with RunLedger.open(url, heartbeat_interval_s=0.1) as ledger, ledger.run("fit") as run:
            self._pretend(ledger, host="elsewhere", age_s=0)
            first = ledger.get(run.id).heartbeat
            deadline = datetime.now(UTC) + timedelta(seconds=20)
            while ledger.get(run.id).heartbeat == first:
                assert datetime.now(UTC) < deadline, "no heartbeat within 20 s"
            assert ledger.get(run.id).status == "RUNNING"

    def test_a_run_without_heartbeat_is_never_given_up_from_afar(self, url: str) -> None:
        with RunLedger.open(url, heartbeat_interval_s=None) as ledger, ledger.run("fit") as run:
            self._pretend(ledger, host="elsewhere", age_s=9999)
            assert ledger.get(run.id).status == "RUNNING"

    def test_no_secret_reaches_the_database(
        self, ledger: RunLedger, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        planted = ["q-key-4711", "pg/pass@4712", "opt-4713", "par-4714", "url-4715", "tok-4716"]
        monkeypatch.setenv("QDRANT_API_KEY", planted[0])
        monkeypatch.setenv("INTRAMODAL_RUNS", f"postgresql://me:{planted[1]}@db/runs")
        monkeypatch.setenv("HF_TOKEN", planted[5])
        told = (
            f"refused {planted[0]} and {planted[1]} for https://me:{planted[4]}@host {planted[5]}"
        )
        command = ["intramodal", "--api-key", planted[2], f"--store=http://u:{planted[4]}@q"]
        parameters = {"api_key": planted[3], "nested": [{"password": planted[3]}], "text": told}
        with ledger.run("ingest", command=command, parameters=parameters) as run:
            run.log_failure(told, "read", told)
            run.log_metric(told, 1.0, vector=told, field=told)
            run.log_fingerprint("encoder", told, told, {"told": told})
            run.save_artefact("told.json", {"told": told, "token": planted[3]})
            run.checkpoint("told", told)
        with pytest.raises(RuntimeError), ledger.run("ingest"):
            raise RuntimeError(told)
        dump = repr(self._everything(ledger)) + repr(ledger.artefact(run.id, "told.json"))
        assert "refused ***" in dump
        assert [secret for secret in planted if secret in dump] == []

    def _pretend(self, ledger: RunLedger, *, host: str, age_s: float) -> None:
        with ledger._database.writing() as session:
            now = session.scalar(select(database_now()))
            assert now is not None
            aged = now - timedelta(seconds=age_s)
            session.execute(update(RunRow).values(host=host, heartbeat=aged))

    def _everything(self, ledger: RunLedger) -> list[object]:
        tables = ("runs", "fingerprints", "metrics", "artefacts", "failures", "checkpoints")
        with ledger._database.reading() as session:
            rows = [session.execute(text(f"SELECT * FROM {t}")).all() for t in tables]
        assert all(rows)
        return list(rows)
