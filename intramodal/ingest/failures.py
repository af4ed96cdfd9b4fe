"""Pictures that could not be processed: told to the run, listed, and at some point too many."""

from __future__ import annotations

from intramodal.errors import InputError
from intramodal.runs.records import FailureRecord
from intramodal.runs.run import Run

MOST_LISTED = 10_000
"""A summary lists no more failures than this; the run has them all."""

_LOGGED_AT_ONCE = 100


class Failures:
    """Failures of one ingest.

    Parameters
    ----------
    run : Run
        Is told of all of them, some at a time.
    most : int or None
        With more, `are_too_many`.
    things : str
        What fails, for the message.

    Attributes
    ----------
    n : int
        How many there are.
    listed : list of dict
        The first ones: "item", "stage", "reason".
    """

    def __init__(self, run: Run, most: int | None, things: str = "pictures") -> None:
        if most is not None and most < 0:
            raise InputError(f"max_failures must be at least 0, got {most}")
        self.n = 0
        self.listed: list[dict[str, str]] = []
        self._run = run
        self._most = most
        self._things = things
        self._unlogged: list[FailureRecord] = []

    def add(self, failure: FailureRecord) -> None:
        """Take one up."""
        self.n += 1
        self._unlogged.append(failure)
        if len(self.listed) < MOST_LISTED:
            self.listed.append(failure.to_dict())
        if len(self._unlogged) >= _LOGGED_AT_ONCE:
            self.flush()

    def flush(self) -> None:
        """Tell the run."""
        unlogged, self._unlogged = self._unlogged, []
        self._run.log_failures(unlogged)

    def are_too_many(self) -> bool:
        """Return whether the ingest must stop."""
        return self._most is not None and self.n > self._most

    def too_many(self) -> InputError:
        """Return the error that stops it."""
        first = self.listed[0]
        return InputError(
            f"{self.n:,} {self._things} failed and {self._most:,} are allowed (the first: "
            f"{first['item']}: {first['reason']}); what was done is kept: mend the source or "
            f"allow more failures, then run the same command again to go on"
        )
