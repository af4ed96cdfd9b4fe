"""What the pipeline takes from its readers, of images and of ready vectors: steps."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from intramodal.ingest.workers import Threads
from intramodal.runs.records import FailureRecord
from intramodal.types import PointId


@dataclass(frozen=True)
class Tally:
    """What became of some images or rows."""

    written: int = 0
    """Their vectors were."""
    skipped: int = 0
    """They were stored already."""
    updated: int = 0
    """They got other payload only."""
    projected: int = 0
    """They got the projection of their stored vector only."""
    failures: Sequence[FailureRecord] = ()
    points: Sequence[PointId] = ()
    """Those whose vectors were written."""

    def __add__(self, other: Tally) -> Tally:
        """Return the counts of both; failures and points are not kept here."""
        return Tally(
            self.written + other.written,
            self.skipped + other.skipped,
            self.updated + other.updated,
            self.projected + other.projected,
        )


Write = Callable[[], Tally]
"""Writes to the store; called in a thread, while more is read."""


@dataclass(frozen=True)
class Step:
    """What a reader has made of the next images or rows."""

    n_items: int = 0
    """How many are done with, as far as the progress bar goes."""
    tally: Tally = Tally()
    """What is known without a write."""
    writes: Sequence[Write] = ()


class Reader(Protocol):
    """Yields steps in the thread of the pipeline."""

    def steps(self, storing: Threads) -> Generator[Step, None, None]:
        """Yield all, and look up in `storing` what the store holds of them."""
        ...

    def rest(self) -> Iterator[Step]:
        """Yield what waits to be written and needs no encoder, also after steps were left off."""
        ...
