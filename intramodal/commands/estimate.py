"""What a long read will take, in words, with the cheaper way that a command has."""

from __future__ import annotations

from collections.abc import Collection

from intramodal.commands.printing import note
from intramodal.progress import LongRead

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
    about = f"{read.n:,} points, about {_duration(read.seconds)}"
    if "sample" in options:
        n = min(_LARGEST_SAMPLE, read.n // 10)
        return f"{about}; --sample {n}: about {_duration(read.seconds_for(n))}"
    return f"{about}; --where reads a part of them" if "where" in options else about


def _duration(seconds: float) -> str:
    minutes = max(1, round(seconds / 60))
    if minutes < 90:
        return f"{minutes} minute{'s' if minutes > 1 else ''}"
    return f"{seconds / 3600:.1f} hours"
