"""What the optimizer of a collection has still to do, told while somebody waits for it."""

from __future__ import annotations

import logging
from typing import Any

from qdrant_client import models

from intramodal.errors import AccessDenied, InputError, NotFound, StoreError
from intramodal.store.server.client import Caller

log = logging.getLogger(__name__)

_SINCE = (1, 17)
_FIRST_S, _TOLD_EVERY_S = 1.0, 60.0
"""What ends within a second is not asked about; where no bar is drawn, a line a minute is told."""


class Remainder:
    """Tells what is left: on the bar, or in a line a minute where none is drawn.

    Nothing depends on it: a server or a key that does not answer is told about as before,
    not at all.

    Parameters
    ----------
    server : Caller
    name : str
        The collection that is waited for.
    bar : tqdm
        The bar of the wait; `disable` where it is not drawn.
    """

    def __init__(self, server: Caller, name: str, bar: Any) -> None:
        self._server, self._name, self._bar = server, name, bar
        connection = server.connection
        self._is_asked = connection.kind == "server" and connection.version_numbers >= _SINCE
        first = _TOLD_EVERY_S if bar.disable else _FIRST_S
        self._next = server.retry.clock() + first

    def tell(self) -> None:
        """Ask, if it is time, by one request that is not repeated; and tell the answer."""
        now = self._server.retry.clock()
        if not self._is_asked or now < self._next:
            return
        self._next = now + (_TOLD_EVERY_S if self._bar.disable else 0.0)
        try:
            left = left_of(self._asked())
        except (AccessDenied, NotFound):
            self._is_asked = False
        except (StoreError, InputError) as error:
            log.debug("%s", error)
            self._next = now + _TOLD_EVERY_S
        else:
            self._show(left)

    def _asked(self) -> models.OptimizationsResponse:
        return self._server.call_once(
            f"read what is left to optimize in {self._name!r}",
            lambda: self._server.client.get_optimizations(self._name),
        )

    def _show(self, left: str) -> None:
        if self._bar.disable:
            log.warning("the index of %r is still being built: %s", self._name, left)
        else:
            self._bar.set_postfix_str(left)


def left_of(found: models.OptimizationsResponse) -> str:
    """Return how much is queued or under way, and the step that is; a server's answer in words.

    A segment under way is in no queue, and counts as a whole until it is done.
    """
    under_way = [segment for one in found.running for segment in one.segments]
    n_points = found.summary.queued_points + sum(one.points_count for one in under_way)
    n_segments = found.summary.queued_segments + len(under_way)
    steps = [_step(one.progress) for one in found.running]
    what = f"{n_points:,} points in {n_segments:,} segments left"
    return f"{what} ({steps[0]})" if steps and steps[0] else what


def _step(tree: models.ProgressTree) -> str:
    """Return the innermost step that has begun and not ended, with its share where it is known."""
    for child in reversed(tree.children or []):
        if child.started_at is not None and child.finished_at is None:
            return _step(child)
    name = tree.name.replace("_", " ")
    if not name.isprintable():
        return ""
    return f"{name} {tree.done / tree.total:.0%}" if tree.done and tree.total else name
