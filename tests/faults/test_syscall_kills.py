"""SIGKILL and SIGTERM at the system calls of every job that writes to an embedded store.

``INTRAMODAL_SYSCALL_KILLS`` says at how many (10 by default); "all" is every distinct pair of a
system call and a file by both signals, and every step of the store layer by SIGKILL.
``INTRAMODAL_RANDOM_KILLS`` says how many more there are at calls drawn from all (6 by default).
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from intramodal.store.base import Filter, Store
from intramodal.store.open import open_store
from intramodal.types import PointId
from tests.cli.kit import invoke
from tests.faults import syscalls
from tests.faults.killed_work import JOBS, N_POINTS, copy_store
from tests.faults.syscalls import Call

KILLS = os.environ.get("INTRAMODAL_SYSCALL_KILLS", "10")
RANDOM_KILLS = int(os.environ.get("INTRAMODAL_RANDOM_KILLS", "6"))

SENSITIVE = ("edge_config.json", "segment.json", "catalogue.json", "catalogue.tmp")
N_TRIES = 5
MOST_MISSED = 0.03

if sys.platform == "win32":
    pytest.skip("needs SIGKILL", allow_module_level=True)

# float32 dot products over 24 terms: by another batch, the sums may round otherwise
ROUNDED = 1e-6


@dataclass(frozen=True)
class Point:
    """What a point holds, to be compared byte by byte."""

    payload: str
    vectors: dict[str, bytes]

    def only(self, names: set[str]) -> Point:
        """Return the point with these vectors alone."""
        return Point(self.payload, {n: row for n, row in self.vectors.items() if n in names})

    def is_like(self, other: Point) -> bool:
        """Return whether the points are the same, the projected vector up to rounding."""
        if self.payload != other.payload or self.vectors.keys() != other.vectors.keys():
            return False
        return all(_is_same(n, row, other.vectors[n]) for n, row in self.vectors.items())


def _is_same(name: str, a: bytes, b: bytes) -> bool:
    if name != "pca":
        return a == b
    X, Y = np.frombuffer(a, np.float32), np.frombuffer(b, np.float32)
    return X.shape == Y.shape and bool(np.abs(X - Y).max() <= ROUNDED)


@dataclass(frozen=True)
class State:
    """What a store holds: of each collection the points and what is known of it; the aliases."""

    points: dict[str, dict[PointId, Point]]
    about: dict[str, dict[str, Any]]
    aliases: dict[str, str]

    @classmethod
    def of(cls, location: Path) -> State:
        """Open a store and every collection in it."""
        with open_store(str(location)) as store:
            names = store.collections()
            points = {name: read_points(store, name) for name in names}
            about = {name: read_about(store, name) for name in names}
            return cls(points, about, store.aliases())


def read_points(store: Store, name: str) -> dict[PointId, Point]:
    """Return all points, and check that the store counts them so, also by its indexes."""
    info = store.info(name)
    pages = store.scroll(name, vectors=list(info.vectors), payload=True)
    points = {i: point for page in pages for i, point in _points(page)}
    assert len(points) == store.count(name)
    for vector in info.vectors:
        n = sum(vector in point.vectors for point in points.values())
        assert store.count(name, Filter(has_vector=vector)) == n, f"{vector} of {name}"
    for key in info.indexes:
        held = Counter(json.loads(point.payload).get(key) for point in points.values())
        for value in held.keys() - {None}:
            assert store.count(name, Filter({key: value})) == held[value], (name, key, value)
    return points


def read_about(store: Store, name: str) -> dict[str, Any]:
    info = store.info(name)
    return {
        "vectors": {vector: str(spec) for vector, spec in info.vectors.items()},
        "indexes": info.indexes,
        "metadata": info.metadata,
        "settings": store.settings(name),
    }


def _points(page: Any) -> Iterator[tuple[PointId, Point]]:
    for row, point in enumerate(page.ids):
        vectors = {
            name: X[row].tobytes() for name, X in page.vectors.items() if np.isfinite(X[row]).all()
        }
        yield point, Point(json.dumps(page.payloads[row], sort_keys=True), vectors)


def check_killed(before: State, killed: State, after: State) -> None:
    """Check that a kill has changed nothing but what the job is about, and that only partly."""
    assert killed.points.keys() >= before.points.keys()
    for name, points in killed.points.items():
        old, new = before.points.get(name, {}), after.points[name]
        missing = (old.keys() & new.keys()) - points.keys()
        assert not missing, f"{name} lost {sorted(missing, key=str)[:5]}"
        strange = points.keys() - old.keys() - new.keys()
        assert not strange, f"{name} got {sorted(strange, key=str)[:5]}"
        for point, found in points.items():
            what = f"point {point} of {name}"
            check_point(what, old.get(point), found, new.get(point))
    for alias, name in killed.aliases.items():
        assert name in (before.aliases.get(alias), after.aliases.get(alias)), (alias, name)
    assert killed.aliases.keys() >= before.aliases.keys()


def check_point(what: str, old: Point | None, found: Point, new: Point | None) -> None:
    if old is None or new is None:  # made or deleted by the job: whole or not at all
        assert any(one is not None and found.is_like(one) for one in (old, new)), f"{what} is half"
        return
    common = old.vectors.keys() & new.vectors.keys()
    if old.only(common) != new.only(common):  # changed by the job
        return
    assert found.only(common) == old.only(common), f"{what} was changed"
    for name in found.vectors.keys() - common:
        whole = (one.vectors[name] for one in (old, new) if name in one.vectors)
        is_whole = any(_is_same(name, found.vectors[name], row) for row in whole)
        assert is_whole, f"{what} has a strange {name}"


def check_end(found: State, after: State) -> None:
    """Check that a store holds what it holds after an uninterrupted run."""
    assert found.aliases == after.aliases
    assert found.about == after.about
    assert found.points.keys() == after.points.keys()
    for name, points in after.points.items():
        assert found.points[name].keys() == points.keys(), name
        for point, whole in points.items():
            assert found.points[name][point].is_like(whole), f"point {point} of {name} differs"


def check_tidy(location: Path) -> None:
    """Check that a store has the folders of its collections, and nothing that a kill has left."""
    catalogue = json.loads((location / "catalogue.json").read_text())
    known = {entry["folder"] for entry in catalogue["collections"].values()}
    assert {path.name for path in location.iterdir() if path.is_dir()} == known
    assert not list(location.glob("catalogue.tmp*"))
    assert not list(location.rglob("intramodal.tmp"))
    assert not catalogue.get("discarded")
    assert not [e for e in catalogue["collections"].values() if e.get("pending")]


@dataclass
class Trials:
    """A job in its world, that is killed again and again in a copy of it.

    Parameters
    ----------
    name : str
    folder : Path
    by : Signals
        SIGTERM goes to the command line, or to what has its handlers.
    is_traced : bool
        Whether the calls are system calls, not steps of the store layer.
    """

    name: str
    folder: Path
    by: signal.Signals
    is_traced: bool = field(default_factory=syscalls.can_trace)

    def __post_init__(self) -> None:
        self.job = JOBS[self.name]
        self.world, self.location = self.folder / "world", self.folder / "store"
        self.world.mkdir()
        self.job.make(self.world)
        self.before = State({}, {}, {})
        if (self.world / "store").exists():
            self._clear()
            self.before = State.of(self.location)
        self._clear()
        log = self.folder / "log"
        if self.is_traced:
            self.calls = syscalls.record(self.command, self.location, log)
        else:
            self.calls = syscalls.record_steps(self.command, log)
        self.after = State.of(self.location)
        assert self._again() == 0
        check_end(State.of(self.location), self.after)

    @property
    def command(self) -> list[str]:
        return self.job.child(self.name, self.by, self.world, self.location)

    def _clear(self) -> None:
        copy_store(self.world, self.location)
        self.location.with_name("runs.db").unlink(missing_ok=True)

    def kill(self, call: Call) -> str | None:
        """Kill the job at a call and check all; returns at which file, None if it was missed."""
        self._clear()
        end = syscalls.kill(self.command, call, self.by, self.location, self.folder / "log")
        if end.hit is None:
            assert end.code == 0, end.complaint
            return None
        assert end.code in self._codes(call), end.complaint
        self.check()
        return end.hit

    def _codes(self, call: Call) -> tuple[int, ...]:
        if call.who == "child":  # the job says that its optimizer has failed
            return (1,)
        # A handler may run after the last thing that the job does.
        return (-signal.SIGKILL,) if self.by == signal.SIGKILL else (143, 0)

    def check(self) -> None:
        """Check a store after a kill, and that the same call completes the job."""
        check_killed(self.before, State.of(self.location), self.after)
        self._again()
        check_end(State.of(self.location), self.after)
        assert self._again() == 0
        check_end(State.of(self.location), self.after)
        check_tidy(self.location)

    def _again(self) -> int:
        """Do the job in this process; returns how much it has written."""
        if self.by == signal.SIGKILL or not self.job.command:
            return self.job.do(self.world, self.location)
        result = invoke(*self.job.arguments(self.world, self.location), "--json")
        assert result.exit_code == 0, result.output
        return int(json.loads(result.stdout)[self.job.counts])


class Campaign:
    """Kills at some calls of a job, and what came of it."""

    def __init__(self, trials: Trials) -> None:
        self._trials = trials
        self.hit: set[tuple[str, str]] = set()
        self.failed: list[str] = []
        self.missed: list[str] = []

    def kill(self, call: Call) -> None:
        """Kill at a call, or where the job never comes to it, at one shortly before."""
        for sooner in range(N_TRIES):
            tried = replace(call, number=max(1, call.number - sooner))
            try:
                file = self._trials.kill(tried)
            except Exception as error:  # noqa: BLE001  all failures are listed at the end
                self.failed.append(f"{tried}: {type(error).__name__}: {error}")
                file = tried.file
            if file is not None:
                self.hit.add(replace(tried, file=file).pair)
                return
        self.missed.append(f"{call}")

    def kill_pairs(self, rng: np.random.Generator) -> None:
        """Kill at every distinct pair; SIGKILL at every call on what says which vectors there are.

        The optimizer has no handlers: to it, SIGTERM is SIGKILL.
        """
        calls = [call for call in self._trials.calls if not call.name.startswith("mkdir")]
        if self._trials.by == signal.SIGKILL:
            for call in filter(is_sensitive, calls):
                self.kill(call)
        else:
            calls = [call for call in calls if call.who != "child"]
        pairs: dict[tuple[str, str], list[Call]] = {}
        for call in calls:
            pairs.setdefault(call.pair, []).append(call)
        for pair, same in pairs.items():
            for _ in range(N_TRIES):  # the engine does some things in another order each time
                if pair not in self.hit:
                    self.kill(same[rng.integers(len(same))])
        self.missed = [f"{pair}" for pair in pairs if pair not in self.hit]
        self.check(len(pairs))

    def kill_steps(self) -> None:
        """Kill before every step of the store layer."""
        calls = [call for call in self._trials.calls if call.name == "before"]
        for call in calls:
            self.kill(call)
        self.check(len(calls))

    def kill_some(self, n: int, rng: np.random.Generator) -> None:
        """Kill at a few of the calls that are most likely to leave something broken."""
        calls = [call for call in self._trials.calls if is_sensitive(call)]
        for row in rng.choice(len(calls), size=min(n, len(calls)), replace=False):
            self.kill(calls[row])
        self.check(n)

    def kill_any(self, n: int, rng: np.random.Generator) -> None:
        """Kill at calls drawn from all of them."""
        for row in rng.integers(len(self._trials.calls), size=n):
            self.kill(self._trials.calls[row])
        self.check(n)

    def check(self, n: int) -> None:
        """Raise if something went wrong, or more than a few kills never came."""
        assert not self.failed, "\n".join(self.failed)
        assert len(self.missed) <= MOST_MISSED * n, "\n".join(["missed:", *self.missed])


def is_sensitive(call: Call) -> bool:
    return call.who == "step" or any(file in call.file for file in SENSITIVE)


KINDS = [(name, by) for by in (signal.SIGKILL, signal.SIGTERM) for name in JOBS]


def spread(n: int, kinds: Sequence[Any]) -> list[tuple[Any, int]]:
    """Return how many of `n` each kind gets, the first ones one more."""
    share, more = divmod(n, len(kinds))
    shares = [share + (row < more) for row in range(len(kinds))]
    return [(kind, k) for kind, k in zip(kinds, shares, strict=True) if k]


def system_calls() -> list[Any]:
    """Return jobs, signals and how many kills, None for one at each distinct pair."""
    every: list[Any] = [(kind, None) for kind in KINDS]
    shares = every if KILLS == "all" else spread(int(KILLS), KINDS)
    return [pytest.param(name, by, n, id=f"{name}, {by.name}") for (name, by), n in shares]


def steps() -> list[tuple[str, int | None]]:
    """Return jobs and before how many steps of the store they are killed, None for all."""
    every: list[tuple[str, int | None]] = [(name, None) for name in JOBS]
    return every if KILLS == "all" else [("rollback", 1), ("prune", 2)]


@pytest.fixture(scope="module")
def trials_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, signal.Signals], Trials]:
    """Return a function whose trials are prepared once."""
    return cache(lambda name, by: Trials(name, tmp_path_factory.mktemp("trials"), by))


TrialsOf = Callable[[str, signal.Signals], Trials]


@pytest.mark.parametrize(("name", "by", "n"), system_calls())
def test_a_job_killed_at_a_system_call_is_completed_by_the_same_call(
    trials_of: TrialsOf, name: str, by: signal.Signals, n: int | None
) -> None:
    campaign = Campaign(trials_of(name, by))
    rng = np.random.default_rng([29, *name.encode(), by])
    if n is None:
        campaign.kill_pairs(rng)
    else:
        campaign.kill_some(n, rng)


@pytest.mark.parametrize(("name", "n"), spread(RANDOM_KILLS, list(JOBS)))
def test_a_job_killed_at_any_call_is_completed_by_the_same_call(
    trials_of: TrialsOf, name: str, n: int
) -> None:
    campaign = Campaign(trials_of(name, signal.SIGKILL))
    campaign.kill_any(n, np.random.default_rng([31, *name.encode()]))


@pytest.mark.parametrize(("name", "n"), steps())
def test_a_job_killed_before_a_step_of_the_store_is_completed_by_the_same_call(
    tmp_path: Path, name: str, n: int | None
) -> None:
    campaign = Campaign(Trials(name, tmp_path, signal.SIGKILL, is_traced=False))
    if n is None:
        campaign.kill_steps()
    else:
        campaign.kill_some(n, np.random.default_rng([37, *name.encode()]))


def test_a_backfill_killed_while_its_index_is_rebuilt_has_it_by_the_same_call(
    trials_of: TrialsOf,
) -> None:
    trials = trials_of("backfill", signal.SIGKILL)
    optimizing = (c for c in trials.calls if c.who == "child" or c.pair == ("before", "optimize"))
    assert trials.kill(next(optimizing)) is not None
    with open_store(str(trials.location)) as store:
        assert store.info("shop").n_indexed == 2 * N_POINTS
