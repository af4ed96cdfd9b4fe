"""A backfill undone: the vector removed, or clients sent back to what was copied."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from intramodal.errors import Conflict, InputError, NotFound
from intramodal.ingest.backfill.copy import CopyRecord
from intramodal.ingest.backfill.points import absent_ids, in_points
from intramodal.store.base import Filter
from intramodal.store.collection import ImageCollection
from intramodal.store.own_name import under_own_name
from intramodal.types import PointId, short_repr

_READ_AT_ONCE = 1000
_MOST_SHOWN = 3


@short_repr
@dataclass(frozen=True)
class RollbackSummary:
    """What a rollback did, or would do.

    Parameters
    ----------
    collection : str
    vector : str or None
        None if none was named and there is none to remove.
    removed : int
        Points that had the vector, which was removed from the collection; 0 for a copy.
    back_to : str or None
        The old collection, for a copy.
    aliases : list of str
        Those that mean the old collection again.
    only_in_new : int
        Points of the copy that the old collection lacks.
    is_plan : bool
        True if nothing was done yet.
    notes : list of str
        What a person should know before: the harm that the server's version can do.
    reason : str
        Why there is nothing to roll back; empty where there is.
    """

    collection: str
    vector: str | None
    removed: int = 0
    back_to: str | None = None
    aliases: list[str] = field(default_factory=list)
    only_in_new: int = 0
    is_plan: bool = False
    notes: list[str] = field(default_factory=list)
    reason: str = ""

    @property
    def sentence(self) -> str:
        """What a person needs to know."""
        if self.reason:
            return f"nothing to roll back: {self.reason}"
        would = "would be" if self.is_plan else "was"
        if self.back_to is None:
            return (
                f"{self.vector!r} {would} removed from {in_points(self.removed)} of "
                f"{self.collection!r}; everything else stays as it is"
            )
        kept = f"{self.collection!r} is kept until you drop it"
        if not self.aliases:
            return (
                f"no alias was switched to {self.collection!r}, so none is switched back: give "
                f"clients the name {self.back_to!r} again; {kept}"
            )
        moved = ", ".join(repr(alias) for alias in self.aliases)
        means = "would mean" if self.is_plan else "means"
        lost = f", without {in_points(self.only_in_new)} that only {self.collection!r} has"
        return f"{moved} {means} {self.back_to!r} again{lost if self.only_in_new else ''}; {kept}"

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {**asdict(self), "sentence": self.sentence}


def rollback_vector(
    collection: ImageCollection,
    *,
    vector: str | None = None,
    yes: bool = False,
    dry_run: bool = False,
) -> RollbackSummary:
    """Undo a backfill; how it was done is read from the collection itself.

    In place, the projected vector and its entry in the manifest are removed; never a vector that
    a projection has not made. After a copy, the aliases that were switched mean the old collection
    again; neither collection is dropped. Where that was done already, or there was no backfill,
    nothing is done, and the summary has the reason.

    Parameters
    ----------
    collection : ImageCollection
        The collection that has the vector; for a copy, the new one.
    vector : str, optional
        Which vector; by default the only projected one, or that of the copy.
    yes : bool
        Go back although the old collection lacks points that the new one has; remove the vector
        although the server's version can do harm by that (below 1.19).
    dry_run : bool
        Change nothing.

    Raises
    ------
    InputError
        If no projection has made the vector, or it must be said which vector.
    NotFound
        If the old collection is gone.
    Conflict
        If the new collection holds points that the old one lacks, or the server's version can do
        harm by removing a vector, unless `yes`.
    Unsupported
        If the server is too old to remove a vector.
    """
    collection = under_own_name(collection)
    record = CopyRecord.from_metadata(collection.reread().metadata)
    if record is not None and vector in (None, record.vector):
        return _back_to_original(collection, record, yes=yes, dry_run=dry_run)
    name, vector = vector, _projected_vector(collection, vector)
    if vector is None:
        reason = _nothing(collection, name)
        return RollbackSummary(collection.name, name, is_plan=dry_run, reason=reason)
    collection.store.check_adds_vectors()
    has_vector = vector in collection.vectors
    risk = collection.store.risk_of_removing_vectors() if has_vector else ""
    if risk and not (yes or dry_run):
        raise Conflict(
            f"{vector!r} is not removed: {risk}; upgrade the server first, search another vector "
            f"and leave this one where it is, or give `yes`"
        )
    n = collection.count(Filter(has_vector=vector)) if has_vector else 0
    if not dry_run:
        collection.forget(vector)
    notes = [f"this has to be confirmed (yes): {risk}"] if risk and dry_run else []
    notes += _rights(collection) if dry_run else []
    return RollbackSummary(collection.name, vector, removed=n, is_plan=dry_run, notes=notes)


def _rights(collection: ImageCollection) -> list[str]:
    """Return what the key may not do, and who must, as far as key or server tell."""
    lacks = collection.store.lacking_right(collection.name, asks=True)
    return [f"this key may not: {lacks}; it takes a key for the whole server"] if lacks else []


def _projected_vector(collection: ImageCollection, vector: str | None) -> str | None:
    """Return which vector is to be removed; None if there is none, or none any more."""
    projected = _projected(collection)
    if vector is None and len(projected) > 1:
        there = ", ".join(repr(name) for name in projected)
        raise InputError(
            f"{collection.name!r} has several projected vectors; name one of {there} as `vector`"
        )
    if vector is not None and vector not in projected and vector in collection.vectors:
        there = ", ".join(repr(name) for name in projected) or "none"
        raise InputError(
            f"nothing to undo: the vector {vector!r} of {collection.name!r} was not made by a "
            f"projection (those were: {there}), and others are never removed"
        )
    return next((name for name in projected if vector in (None, name)), None)


def _projected(collection: ImageCollection) -> list[str]:
    known = collection.manifest.vectors
    return sorted(name for name, origin in known.items() if origin.projection)


def _nothing(collection: ImageCollection, vector: str | None) -> str:
    if vector is None:
        return f"{collection.name!r} has no vector that a projection has made, as its metadata say"
    there = ", ".join(repr(name) for name in _projected(collection)) or "none"
    return f"{collection.name!r} has no vector {vector!r} (projected vectors: {there})"


def _back_to_original(
    collection: ImageCollection, record: CopyRecord, *, yes: bool, dry_run: bool
) -> RollbackSummary:
    store, new, old = collection.store, collection.name, record.collection
    if old not in store.collections():
        raise NotFound(
            f"{new!r} was copied from {old!r}, which is gone; there is nothing to go back to"
        )
    known = store.aliases()
    aliases = [alias for alias in record.aliases if known.get(alias) == new]
    reason = ""
    if record.aliases and not aliases:
        named = ", ".join(repr(alias) for alias in record.aliases)
        reason = f"no alias of those that were switched to {new!r} ({named}) means it any more"
    only_in_new = _absent_in(ImageCollection.open(store, old), collection) if aliases else []
    if only_in_new and not (yes or dry_run):
        shown = ", ".join(str(point) for point in only_in_new[:_MOST_SHOWN])
        raise Conflict(
            f"{new!r} holds {in_points(len(only_in_new))} that {old!r} lacks (such as {shown}), "
            f"and clients would lose them; write them to {old!r} first, or give `yes`"
        )
    if aliases and not dry_run:
        store.set_aliases(dict.fromkeys(aliases, old))
    return RollbackSummary(
        collection=new,
        vector=record.vector,
        back_to=old,
        aliases=aliases,
        only_in_new=len(only_in_new),
        is_plan=dry_run,
        notes=_rights(collection) if dry_run else [],
        reason=reason,
    )


def _absent_in(old: ImageCollection, new: ImageCollection) -> list[PointId]:
    pages = new.scroll(batch_size=_READ_AT_ONCE)
    return [point for page in pages for point in absent_ids(old, page.ids)]
