"""Which rows a map that saw labels was fitted on, so that none of them ever judges it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from dataclasses import field as dataclass_field
from functools import cached_property
from hashlib import blake2b
from typing import Any

from intramodal.errors import InputError

_PERSON = b"intramodal fit"
_ID = re.compile(r"\d+|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
MOST_IDS = 20_000
"""Ids that a map and a manifest carry; more are told by a rule."""

N_WITNESSES = 12
"""Rows by which the others are known again."""
_WITNESS = b"intramodal seen"

FEW_ROWS = 10
"""A class of fewer labelled rows is hardly known."""
_MOST_NAMED = 5


@dataclass(frozen=True)
class FitRows:
    """Points that are for fitting: a share of all, those of a filter, or some ids.

    A share is drawn by a hash of the id, so that it can be told for ever, of points that come
    later, too: the point is for fitting if the first 8 bytes of BLAKE2b (personalised with
    ``intramodal fit``) of the id's text, as a fraction of 2**64, are below the share. A larger
    share holds the smaller one.

    Parameters
    ----------
    share : float, optional
        In (0, 1].
    where : (str, tuple), optional
        A payload field and values, one of which a point has.
    ids : tuple of str or int, optional
        As the collection writes them.

    Examples
    --------
    >>> rows = FitRows(share=0.5)
    >>> sum(map(rows.holds, range(10_000)))
    5077
    """

    share: float | None = None
    where: tuple[str, tuple[Any, ...]] | None = None
    ids: tuple[str | int, ...] | None = None

    def __post_init__(self) -> None:
        """Raise `InputError` unless it is one of the three, and can be kept."""
        if sum(part is not None for part in (self.share, self.where, self.ids)) != 1:
            raise InputError("fit rows are a share, a filter or ids; give one of the three")
        if self.share is not None and not 0 < self.share <= 1:
            raise InputError(f"the share of fit rows is above 0 and up to 1, got {self.share}")
        if self.ids is not None and not 0 < len(self.ids) <= MOST_IDS:
            raise InputError(
                f"{len(self.ids):,} ids of fit rows; a map keeps 1 to {MOST_IDS:,}: give a share, "
                f"or a filter by a payload field"
            )

    @property
    def field(self) -> str | None:
        """The payload field that must be read to tell them."""
        return None if self.where is None else self.where[0]

    def holds(self, point: str | int) -> bool:
        """Return whether a point is for fitting, by its id; filters are for who reads payload.

        Where a shard key is part of its name, the id in that shard decides: a collection may be
        read with and without these keys.
        """
        if self.share is None:
            return point in self._known or self._is_otherwise_known(point)
        digest = blake2b(bare_id(point).encode(), digest_size=8, person=_PERSON).digest()
        return int.from_bytes(digest, "big") < self.share * 2**64

    @cached_property
    def _known(self) -> frozenset[str | int]:
        return frozenset(self.ids or ())

    def _is_otherwise_known(self, point: str | int) -> bool:
        """Return whether its id is known with the key of a shard, or without where it has one."""
        own = getattr(point, "point", None)
        return str(point) in self._tails if own is None else own in self._known

    @cached_property
    def _tails(self) -> frozenset[str]:
        parts = (str(point).rpartition("/") for point in self.ids or ())
        return frozenset(tail for _, slash, tail in parts if slash and _ID.fullmatch(tail))

    def __str__(self) -> str:
        """Return the rule as a person reads it."""
        if self.share is not None:
            return f"a share of {self.share:g} by the hash of the id"
        if self.ids is not None:
            return f"{len(self.ids):,} ids"
        return f"{self.field}={','.join(map(str, self.where[1] if self.where else ()))}"

    def __repr__(self) -> str:
        """Return the rule, but at most the number of the ids."""
        return f"FitRows({self!s:.200})"


def bare_id(point: str | int) -> str:
    """Return the text of a point's id, without the key of its shard.

    Examples
    --------
    >>> bare_id(7), bare_id("cats/7.jpg")
    ('7', 'cats/7.jpg')
    """
    return str(getattr(point, "point", point))


def witnesses(points: Iterable[str | int]) -> list[str | int]:
    """Return a few of some points, drawn by a hash of their ids."""

    def drawn(point: str | int) -> bytes:
        return blake2b(bare_id(point).encode(), digest_size=8, person=_WITNESS).digest()

    return sorted(points, key=drawn)[:N_WITNESSES]


@dataclass(frozen=True)
class LabelFit:
    """Which labels a map has seen.

    Parameters
    ----------
    field : str
        The payload field, or the column of a file.
    rows : FitRows
    counts : dict of str to int
        Labelled rows of each class, by its name.
    known : bool
        Whether vectors hold the label itself where the payload of a point knows it.
    witnesses : dict of str to str
        A few of the rows: by the text of the id what tells the vector again, in hexadecimal. They
        show whether the rows are still those for fitting, and whether images of another
        collection are the same.
    """

    field: str
    rows: FitRows
    counts: Mapping[str, int] = dataclass_field(default_factory=dict)
    known: bool = False
    witnesses: Mapping[str, str] = dataclass_field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values; what the rows are not told by is left out."""
        rows = {name: value for name, value in asdict(self.rows).items() if value is not None}
        more: dict[str, Any] = {"known": True} if self.known else {}
        more |= {"witnesses": dict(self.witnesses)} if self.witnesses else {}
        return {"field": self.field, "rows": rows, "counts": dict(self.counts), **more}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> LabelFit:
        """Read it back; `TypeError`, `LookupError` or `ValueError` for another form."""
        rows = dict(stored["rows"])
        if "where" in rows:
            name, values = rows["where"]
            rows["where"] = _text(name), _values(values)
        if "ids" in rows:
            rows["ids"] = _values(rows["ids"])
        if "share" in rows:
            rows["share"] = float(rows["share"])
        counts = {_text(name): int(n) for name, n in dict(stored["counts"]).items()}
        known = stored.get("known") is True
        told = {_text(k): _text(v) for k, v in dict(stored.get("witnesses") or {}).items()}
        for signature in told.values():
            bytes.fromhex(signature)
        return cls(_text(stored["field"]), FitRows(**rows), counts, known, told)

    @property
    def n_rows(self) -> int:
        """Number of labelled rows."""
        return sum(self.counts.values())

    def warnings(self) -> list[str]:
        """Return what a user should know of the classes; usually nothing."""
        few = [name for name, n in self.counts.items() if n < FEW_ROWS]
        if not few:
            return []
        named = ", ".join(repr(name) for name in few[:_MOST_NAMED])
        rest = "" if len(few) <= _MOST_NAMED else f" and {len(few) - _MOST_NAMED:,} more"
        return [
            f"{len(few):,} of {len(self.counts):,} classes of {self.field!r} have fewer than "
            f"{FEW_ROWS} labelled images ({named}{rest}): the map says little of them"
        ]

    def __str__(self) -> str:
        """Return field and classes as a person reads them."""
        return f"{self.field!r}, {len(self.counts):,} classes"


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.40} is no text")
    return value


def _values(values: Sequence[Any]) -> tuple[Any, ...]:
    """Return plain values; a text is no list of its letters."""
    if isinstance(values, str) or not all(isinstance(v, str | int | float) for v in values):
        raise TypeError(f"{values!r:.40} is no list of texts and numbers")
    return tuple(values)
