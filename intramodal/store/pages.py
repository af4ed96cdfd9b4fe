"""How many points are read at once, so that a page stays small whatever its points hold."""

from __future__ import annotations

import json
from collections.abc import Sequence

from intramodal.types import Payload

PAGE_BYTES = 32 * 1024 * 1024
"""Of a page in memory, about: 1,000 points of 1,024 dimensions are one."""

_BYTES_A_FLOAT = 32  # as a number of Python's in a list
_BYTES_A_PACKED_FLOAT = 8  # in gRPC's message and in the array
_BYTES_A_POINT = 200
_FIRST_WHOLE = 32
"""Points of the first page with whole payloads, of which nothing is known yet."""
_FIRST_NAMED = 128
"""Points of the first page with some fields of the payload: labels as a rule, rarely more."""
_MOST_GROWTH = 4
_MOST_MEASURED = 64


class PageSize:
    """Points of the next page: as many as fit, judged by the payloads of the last one.

    Parameters
    ----------
    most : int
        Points.
    width : int
        Floats of a point.
    payload : sequence of str or bool
        The fields that are read; they may be large, and whole payloads the more: it begins with a
        small page.
    is_packed : bool
        Whether floats come as bytes, never as numbers of Python.
    n_at_once : int
        How many such pages are read at the same time.
    """

    def __init__(
        self,
        most: int,
        width: int,
        payload: Sequence[str] | bool,
        *,
        is_packed: bool = False,
        n_at_once: int = 1,
    ) -> None:
        self._bytes = PAGE_BYTES / n_at_once
        self._most = most
        first = _FIRST_WHOLE if payload is True else _FIRST_NAMED
        self._ceiling = first if payload else most
        a_float = _BYTES_A_PACKED_FLOAT if is_packed else _BYTES_A_FLOAT
        self._a_point = _BYTES_A_POINT + width * a_float
        self._a_payload = 0.0

    def __call__(self) -> int:
        """Return how many points to ask for."""
        fit = int(self._bytes / (self._a_point + self._a_payload))
        return max(1, min(self._most, self._ceiling, fit))

    def learn(self, payloads: Sequence[Payload]) -> None:
        """Take note of the payloads of a page, by some of them where there are many."""
        if not payloads:
            return
        some = payloads[:: -(-len(payloads) // _MOST_MEASURED)]
        self._a_payload = sum(len(json.dumps(one, default=str)) for one in some) / len(some)
        self._ceiling = min(self._most, _MOST_GROWTH * max(len(payloads), _FIRST_WHOLE))
