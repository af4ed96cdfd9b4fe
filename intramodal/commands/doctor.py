"""``intramodal doctor``: whether everything is there that the commands need.

It looks only, unless it is asked to repair.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from intramodal import __version__
from intramodal.commands.next_steps import note_again, note_next
from intramodal.commands.printing import print_state, printable, say
from intramodal.commands.session import Access, Session, SessionCommand, session_options
from intramodal.errors import IntramodalError, StoreError

if TYPE_CHECKING:
    from intramodal.runs.database import DatabaseFacts
    from intramodal.store.base import Store

_MOST_REPLICAS, _MOST_NODES = 5, 5
_PATIENCE_S = 5.0
"""How long a server that does not answer is asked by whoever wants to know what is wrong."""


@click.command("doctor", cls=SessionCommand, common=("repair",))
@click.option(
    "--repair",
    is_flag=True,
    help="Repair an embedded store: move an unreadable log aside, and delete folders that belong "
    "to no collection and hold no points.",
)
@session_options
@click.pass_context
def command(ctx: click.Context, /, session: Session, repair: bool) -> None:
    """Check what the commands need: Python, torch, numba, store, runs, models, hub, disk.

    Each line is ok, a warning or a problem, with a remedy; the exit code is 1 if there is a
    problem. Opening the collections completes changes that were interrupted; nothing else is
    created or changed unless --repair is given. Requests to a server are repeated for 5 s, or for
    --deadline; a connection to the model hub is tried for 5 s.
    """
    result = diagnose(session.store, session.runs, repair=repair, access=session.access)
    session.answer(result, partial(_show, has_store=session.has_store()))
    if result["state"] == "problem":
        ctx.exit(1)


def _show(result: dict[str, Any], *, has_store: bool) -> None:
    for row in result["checks"]:
        line = f"{row['name']:<7} {printable(row['detail'], limit=400)}"
        print_state(f"{row['state']:<8}", line)
        if row["remedy"]:
            say(f"{'':<16} -> {printable(row['remedy'], limit=400)}")
    if any(row["remedy"] == _REPAIR for row in result["checks"]):
        note_again("--repair")
    elif not has_store:
        note_next("demo", at=())


State = Literal["ok", "warning", "problem"]

_REPAIR = "intramodal doctor --repair does what is safe; else restore a backup"

_LITTLE_BYTES, _NO_BYTES = 2 * 10**9, 100 * 10**6
"""Free space below which an index or a model may not fit; below which nothing does."""


@dataclass(frozen=True)
class Check:
    """One line of the doctor's answer."""

    name: str
    state: State
    detail: str
    """What was found."""
    remedy: str = ""
    """What to do about it; empty when it is ok."""


def diagnose(
    store: str, runs: str, *, repair: bool = False, access: Access | None = None
) -> dict[str, Any]:
    """Return every check and the worst state among them; JSON values, no secrets.

    With `repair` the store is repaired first, and what was done is among the checks.
    """
    from intramodal.runs.scrub import Scrubber

    access = access or Access()
    if access.deadline is None:
        access = replace(access, deadline=_PATIENCE_S)
    session = Session(store, runs, as_json=False, options={}, access=access)
    scrubber = Scrubber.from_environment(store, runs)
    checks = [
        *(_guarded("repair", lambda: _repair(session)) if repair else []),
        *_guarded("python", _python),
        *_guarded("torch", _torch),
        *_guarded("numba", _numba),
        *_guarded("store", lambda: _store(session)),
        *_guarded("runs", lambda: _runs(runs)),
        *_guarded("models", _models),
        *_guarded("hub", _hub),
        *_guarded("disk", lambda: _disk(store, runs)),
    ]
    worst = max((check.state for check in checks), key=["ok", "warning", "problem"].index)
    rows = [{k: scrubber.text(v) for k, v in asdict(check).items()} for check in checks]
    return {"version": __version__, "state": worst, "checks": rows}


def _guarded(name: str, look: Callable[[], Check | Iterator[Check]]) -> list[Check]:
    """Return what a check found; its own trouble is a problem, and the others go on."""
    checks: list[Check] = []
    try:
        found = look()
        for check in [found] if isinstance(found, Check) else found:
            checks.append(check)  # what was found before the trouble stays
    except IntramodalError as error:
        sentence, _, remedy = str(error).rpartition("; ")
        checks.append(Check(name, "problem", sentence or remedy, remedy if sentence else ""))
    except Exception as error:  # noqa: BLE001  what compilers and drivers raise has no common base
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        checks.append(Check(name, "problem", reason, "the message names the cause"))
    return checks


def _python() -> Check:
    detail = f"{platform.python_version()} on {platform.platform()}; intramodal {__version__}"
    return Check("python", "ok", detail)


def _torch() -> Check:
    if importlib.util.find_spec("torch") is None:
        return Check(
            "torch",
            "warning",
            "not installed: no model can be loaded; existing vectors can be used all the same",
            "pip install 'intramodal[encoders]' to encode images and texts",
        )
    import torch

    n_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if n_gpus:
        names = {torch.cuda.get_device_name(i) for i in range(n_gpus)}
        return Check("torch", "ok", f"{torch.__version__}; {n_gpus} x {', '.join(sorted(names))}")
    has_cuda = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "a CPU build"
    return Check("torch", "ok", f"{torch.__version__}; no GPU found ({has_cuda}); CPU is used")


def _numba() -> Check:
    from intramodal.evaluation.kernels.trial import try_kernels

    trial = try_kernels()
    if trial.wrong:
        detail = f"{trial.version}; wrong results of {' and '.join(trial.wrong)}"
        return Check("numba", "problem", detail, "install numba again, or another version of it")
    done = "compiled" if trial.n_compiled else "loaded"
    detail = f"{trial.version}; the kernels work, {done} in {trial.seconds:.1f} s"
    if trial.cache is None:
        remedy = "set NUMBA_CACHE_DIR to a folder that can be written"
        return Check("numba", "warning", f"{detail}; every command compiles them anew", remedy)
    return Check("numba", "ok", f"{detail}, kept in {trial.cache}")


def _store(session: Session) -> Iterator[Check]:
    """Yield what the store is, then each collection of it that cannot be opened."""
    from intramodal.store.open import is_directory

    location = session.store
    if is_directory(location) and not Path(location).exists():
        detail = f"{location} is not there yet; the first ingest makes it"
        yield _absent("store", detail, location)
        return
    with session.open_store() as store:
        yield _described(store, location)
        # A server's collections are looked at one by one below: one must not hide the others.
        for reason in ({} if store.indexes_by_itself else store.problems()).values():
            yield Check("store", "problem", reason, _REPAIR)
        yield from _guarded("store", lambda: _nodes(store))
        for name in store.collections():
            yield from _guarded("store", partial(_optimizer, store, name))
            yield from _guarded("store", partial(_replicas, store, name))
            yield from _guarded("store", partial(_incomplete, store, name))


def _nodes(store: Store) -> Iterator[Check]:
    """Yield the nodes of a cluster that the one that is asked cannot reach."""
    remedy = (
        "start the node again if it is down: until a write meets it, the replicas on it are "
        "called active all the same"
    )
    for uri, why in list(store.unreachable_nodes().items())[:_MOST_NODES]:
        yield Check("store", "warning", f"the server cannot reach the node {uri}: {why}", remedy)


def _optimizer(store: Store, name: str) -> Iterator[Check]:
    """Yield why the optimizer of a collection has stopped, if it has."""
    if not store.indexes_by_itself:
        return
    remedy = "remove the cause, mostly disk or memory, then start the server again"
    found = store.info(name)
    if found.status == "red":
        why = found.problem or "status red, without a reason"
        yield Check("store", "problem", f"the optimizer of {name!r} has stopped: {why}", remedy)


def _replicas(store: Store, name: str) -> Iterator[Check]:
    """Yield which replicas of a collection of a cluster are not read, if any."""
    remedy = (
        "start the node again if it is down: the replica is recovered from an active one; until "
        "then what is written reaches the others only"
    )
    found = store.inactive_replicas(name)
    if found:
        some = ", ".join(found[:_MOST_REPLICAS])
        more = f" and {len(found) - _MOST_REPLICAS} more" if len(found) > _MOST_REPLICAS else ""
        yield Check("store", "warning", f"{name!r}: {some}{more}", remedy)


def _incomplete(store: Store, name: str) -> Iterator[Check]:
    """Yield the vectors of a collection that its metadata call incomplete."""
    from intramodal.store.manifest import Manifest, incomplete

    try:
        metadata = store.info(name).metadata
    except StoreError:  # it was named before, or another process works on it
        return
    for vector, origin in Manifest.from_metadata(metadata).vectors.items():
        if not origin.is_complete:
            what, _, remedy = incomplete(name, vector).partition("; ")
            yield Check("store", "warning", what, remedy)


def _described(store: Store, location: str) -> Check:
    from intramodal.store.open import is_directory

    facts = store.describe()
    n = len(store.collections())
    words = [f"{facts['backend']} {facts['version']} at {facts['location']}", f"{n} collections"]
    protocol, why = facts.get("protocol", "none"), facts.get("why_rest")
    protocol += f" (no gRPC: {why})" if why else ""
    words += [] if protocol == "none" else [f"by {protocol}"]
    words += [f"{key.replace('_', ' ')} at most {n:,}" for key, n in facts["limits"].items()]
    detail = ", ".join(words)
    if not facts.get("adds_vectors", True):
        return Check(
            "store",
            "warning",
            f"{detail}; it cannot add a vector to a collection that exists",
            "upgrade the server to 1.18, or backfill into a copy",
        )
    if is_directory(location) and not os.access(location, os.W_OK):
        return Check("store", "problem", f"{detail}; not writable", "allow writing to it")
    return Check("store", "ok", detail)


def _repair(session: Session) -> Iterator[Check]:
    with session.open_store() as store:
        done = store.repair()
    if not done:
        yield Check("repair", "ok", "nothing is to be repaired")
    for sentence, is_well in done.items():
        remedy = "restore it from a backup, or delete it if nothing is missing"
        state: State = "ok" if is_well else "problem"
        yield Check("repair", state, sentence, "" if is_well else remedy)


def _runs(url: str) -> Check:
    from intramodal.runs.database import file_of, look_at, parse_url
    from intramodal.store.directories import check_outside

    file = file_of(parse_url(url))
    if file is not None:
        check_outside(file, "the runs database")
    facts = look_at(url)
    what = f"{facts.backend} {facts.version} at {facts.url}".replace("  ", " ")
    if facts.state == "absent":
        detail = f"{facts.url} is not there yet; the first run makes it"
        return _absent("runs", detail, facts.folder or Path())
    return _schema(facts, what)


def _schema(facts: DatabaseFacts, what: str) -> Check:
    if facts.state == "current":
        detail = f"{what}, schema {facts.schema} is up to date, {facts.n_runs:,} runs"
        return Check("runs", "ok", detail)
    if facts.state == "empty":
        return Check("runs", "ok", f"{what} is empty; the first run makes its tables")
    if facts.state == "older":
        words = f"{what} has schema {facts.schema}, of an earlier version"
        return Check("runs", "warning", words, "the next command that uses it upgrades it")
    if facts.state == "newer":
        words = f"{what} has schema {facts.schema}, newer than this version knows"
        return Check("runs", "problem", words, "upgrade intramodal, or give another --runs")
    words = f"{what} holds a table 'runs' that is not intramodal's"
    return Check("runs", "problem", words, "give the runs a database or schema of their own")


def _absent(name: str, detail: str, path: str | Path) -> Check:
    above = _existing(Path(path))
    if above.is_dir() and os.access(above, os.W_OK):
        return Check(name, "ok", detail)
    why = f"{above} is not writable" if above.is_dir() else f"{above} is not a folder"
    return Check(name, "problem", f"{detail}, but {why}", f"give another --{name}")


def _models() -> Check:
    from intramodal.ingest.encoders.hub_access import is_switched_off

    folder = model_cache()
    size = f"{_size(folder) / 1e9:.1f} GB in" if folder.is_dir() else "nothing yet in"
    detail = f"{size} {folder}"
    if is_switched_off():
        return Check("models", "ok", f"{detail}; HF_HUB_OFFLINE is set, nothing is downloaded")
    if not os.access(_existing(folder), os.W_OK):
        remedy = "set HF_HOME to a folder that can be written"
        return Check("models", "warning", f"{detail}, not writable", remedy)
    return Check("models", "ok", detail)


def _hub() -> Iterator[Check]:
    """Yield whether models can be downloaded, where any could be loaded."""
    from intramodal.ingest.encoders.hub_access import (
        hub_address,
        is_switched_off,
        why_unreachable,
    )

    if is_switched_off() or importlib.util.find_spec("torch") is None:
        return
    address = hub_address()
    reason = why_unreachable(address)
    if reason is None:
        yield Check("hub", "ok", f"{address} can be reached")
        return
    yield Check(
        "hub",
        "warning",
        f"{reason}: models that are not downloaded yet cannot be loaded; all else works",
        "set HTTPS_PROXY to a proxy or HF_ENDPOINT to a mirror of the hub, or name a model on "
        "disk (local-dir:PATH)",
    )


def model_cache() -> Path:
    """Return where downloaded models lie: what the hub's own client would answer."""
    if hub := os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE"):
        return Path(hub).expanduser()
    caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("HF_HOME") or f"{caches}/huggingface"
    return Path(home).expanduser() / "hub"


def _size(folder: Path) -> int:
    """Return the bytes of the files below; links, which the hub uses for names, count nothing."""
    total = 0
    for where, _, names in os.walk(folder):
        for name in names:
            path = Path(where) / name
            if not path.is_symlink():
                total += path.stat().st_size if path.exists() else 0
    return total


def _disk(store: str, runs: str) -> Iterator[Check]:
    """Yield the free space where the store and the runs lie, one line a file system."""
    from intramodal.runs.database import folder_of

    places = [Path(store)] if "://" not in store and store != ":memory:" else []
    folder = folder_of(runs)
    places += [folder] if folder is not None else []
    devices: dict[int, Path] = {}
    for place in places:
        above = _existing(place)
        devices.setdefault(above.stat().st_dev, above)
    for above in devices.values():
        yield _free(above)


def _free(folder: Path) -> Check:
    free = shutil.disk_usage(folder).free
    detail = f"{free / 1e9:.1f} GB free in {folder.resolve()}"
    remedy = "free some space, or name another --store and --runs"
    if free < _NO_BYTES:
        return Check("disk", "problem", detail, remedy)
    return (
        Check("disk", "warning", detail, remedy)
        if free < _LITTLE_BYTES
        else Check("disk", "ok", detail)
    )


def _existing(path: Path) -> Path:
    """Return the nearest folder or file above that is there."""
    path = path.absolute()
    return next(place for place in (path, *path.parents) if place.exists())
