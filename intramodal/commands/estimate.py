"""What a long read will take, in words, with the cheaper way that a command has."""

from __future__ import annotations

from collections.abc import Collection

from intramodal.commands.printing import note
from intramodal.progress import LongRead, about

_LARGEST_SAMPLE = 200_000


class Estimate:
    """Notes the first long read of a command on stderr.

    Parameters
    ----------
    options : collection of str
        The parameters of the command: ``"sample"`` and ``"where"`` read less.
    """

    def __init__(self, options: Collection[str]) -> None:
        self._options = options
        self._is_said = False

    def __call__(self, read: LongRead) -> None:
        """Note what a read takes, once."""
        if not self._is_said:
            self._is_said = True
            note(sentence(read, self._options))


def sentence(read: LongRead, options: Collection[str]) -> str:
    """Return what a read takes, and how to read less.

    Examples
    --------
    >>> sentence(LongRead(12_000_000, 2400), ["sample", "where"])
    '12,000,000 points, about 40 minutes; --sample 200000: about 1 minute'
    >>> sentence(LongRead(12_000_000, 9000), ["where"])
    '12,000,000 points, about 2.5 hours; --where reads a part of them'
    """
    all_of_it = f"{read.n:,} points, {about(read.seconds)}"
    if "sample" in options:
        n = min(_LARGEST_SAMPLE, read.n // 10)
        return f"{all_of_it}; --sample {n}: {about(read.seconds_for(n))}"
    return f"{all_of_it}; --where reads a part of them" if "where" in options else all_of_it
