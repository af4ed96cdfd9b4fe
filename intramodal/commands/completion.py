"""What a shell offers at the Tab key: collections, vectors, fields and runs that are there.

It only looks. What does not answer at once, is held by another process or is not there offers
nothing, and so does a name that would be more than a word to the shell.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import click

Complete = Callable[[click.Context, click.Parameter, str], list[str]]
Look = Callable[[], Sequence[str]]

_PATIENCE_S = 1.0

_IS_WORD = re.compile(r"[\w./%@+][\w./%@+-]*").fullmatch
"""Nothing that a shell expands, splits or runs, and no option: others have chosen these names."""


def _offering(prepare: Callable[[click.Context], Look], *, of_list: bool = False) -> Complete:
    """Return what completes a name, or the last one of a comma-separated list.

    `prepare` loads what is needed and returns the look itself, which alone is short of time.
    """

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",") if of_list else ("", "", incomplete)
        taken = before.split(",") if comma else []
        found: list[str] = []
        # The border: a shell has no use for an error.
        with _silence(), contextlib.suppress(Exception):
            found = _at_once(prepare(ctx))
        names = (name for name in found if name.startswith(last) and name not in taken)
        return [f"{before}{comma}{name}" for name in names if _IS_WORD(name)]

    return complete


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    former = logging.root.manager.disable
    logging.disable()
    try:
        with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(former)


def _at_once(look: Look) -> list[str]:
    """Return what is found within `_PATIENCE_S`; else end the process, which exists for that."""
    found: list[str] = []

    def run() -> None:
        with contextlib.suppress(Exception):
            found.extend(look())

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(_PATIENCE_S)
    if thread.is_alive():
        os._exit(0)  # an exit in good order would wait for the client's own threads
    return found


def _store(ctx: click.Context) -> tuple[str, dict[str, Any]]:
    """Return the store and how it is spoken to, once its libraries are loaded."""
    from intramodal.store.open import is_directory

    location = str(ctx.params["store"])
    if not is_directory(location):
        import intramodal.store.server.store  # noqa: F401  half a second
    return location, {"timeout_s": 1, "deadline_s": 0.0, "ca": ctx.params.get("ca")}


def _collection(ctx: click.Context) -> str:
    """Return the collection that other words name."""
    # Where the line ends in an option without its value, click leaves the arguments unread.
    given = ctx.params.get("on") or ctx.params.get("collection") or ctx.args[0]
    return str(given).partition(":")[0]  # COLLECTION:VECTOR


def _collections(ctx: click.Context) -> Look:
    from intramodal.store.outline import collection_names

    location, access = _store(ctx)
    return partial(collection_names, location, **access)


def _vectors(ctx: click.Context) -> Look:
    from intramodal.store.outline import vector_names

    location, access = _store(ctx)
    return partial(vector_names, location, _collection(ctx), **access)


def _fields(ctx: click.Context) -> Look:
    from intramodal.store.outline import field_names

    location, access = _store(ctx)
    return partial(field_names, location, _collection(ctx), **access)


def _runs(ctx: click.Context) -> Look:
    from intramodal.runs.database import latest_ids

    return partial(latest_ids, str(ctx.params["runs_url"]))


collections = _offering(_collections)
vector = _offering(_vectors)
vectors = _offering(_vectors, of_list=True)
field = _offering(_fields)
fields = _offering(_fields, of_list=True)
runs = _offering(_runs)
