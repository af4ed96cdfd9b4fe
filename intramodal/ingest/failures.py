"""Images, rows and points that could not be processed: listed, and at some point too many."""

from __future__ import annotations

from intramodal.errors import InputError
from intramodal.runs.records import FailureRecord
from intramodal.runs.run import Run

MOST_LISTED = 10_000
"""A summary lists no more failures than this; the run has them all."""

_LOGGED_AT_ONCE = 100


class Failures:
    """Failures of one job: told to its run, some at a time; with more than `most` it must stop.

    `n` is how many there are, `listed` the first ones ("item", "stage", "reason"), and `error`
    what stops the job, None while there are no more than `most`.
    """

    def __init__(self, run: Run, most: int | None, things: str = "pictures") -> None:
        if most is not None and most < 0:
            raise InputError(f"max_failures must be at least 0, got {most}")
        self.n = 0
        self.listed: list[dict[str, str]] = []
        self.error: InputError | None = None
        self._run = run
        self._most = most
        self._things = things
        self._unlogged: list[FailureRecord] = []

    def add(self, *failures: FailureRecord) -> None:
        """Take some up."""
        self.n += len(failures)
        self._unlogged += failures
        self.listed += [f.to_dict() for f in failures[: MOST_LISTED - len(self.listed)]]
        if len(self._unlogged) >= _LOGGED_AT_ONCE:
            self.flush()
        if self._most is not None and self.n > self._most and self.error is None:
            self.error = self._too_many(self._most)

    def flush(self) -> None:
        """Tell the run."""
        unlogged, self._unlogged = self._unlogged, []
        self._run.log_failures(unlogged)

    def _too_many(self, most: int) -> InputError:
        first = self.listed[0]
        return InputError(
            f"{self.n:,} {self._things} failed and {most:,} are allowed (the first: "
            f"{first['item']}: {first['reason']}); what was done is kept: repair the source or "
            f"allow more failures, then run the same command again to resume"
        )
