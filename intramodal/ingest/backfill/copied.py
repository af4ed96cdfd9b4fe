"""A copy of a collection: what it is called there, and what the new one remembers of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

from intramodal.errors import Conflict, InputError, ManifestMismatchError, Unsupported
from intramodal.ingest.backfill.origins import check_projectable, projected_origin
from intramodal.projection.artifact import Projection
from intramodal.store.base import VectorSpec
from intramodal.store.checks import check_name
from intramodal.store.collection import ImageCollection
from intramodal.store.manifest import Manifest, VectorOrigin

COPY_KEY = "intramodal_copy"
"""Top-level key of the new collection's metadata that says where it came from."""

_VERSION = 1
_NAME_OF_UNNAMED = "raw"


@dataclass(frozen=True)
class CopyRecord:
    """Where a collection was copied from, so that the copy can go on and be undone.

    Parameters
    ----------
    collection : str
        The old collection.
    vector, projection : str
        The projected vector, and the fingerprint of what made it.
    source : str
        Name of the projected vector's source in the old collection.
    aliases : tuple of str
        Aliases that were switched.
    is_complete : bool
        Whether all was copied and compared.
    """

    collection: str
    source: str
    vector: str
    projection: str
    aliases: tuple[str, ...] = field(default=())
    is_complete: bool = False

    def to_metadata(self) -> dict[str, Any]:
        """Return the collection metadata that holds this record."""
        return {COPY_KEY: {"version": _VERSION, **asdict(self), "aliases": list(self.aliases)}}

    def is_of(self, other: CopyRecord) -> bool:
        """Return whether both records are of the same copy, however far it is."""
        return replace(self, aliases=(), is_complete=False) == replace(
            other, aliases=(), is_complete=False
        )

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any]) -> CopyRecord | None:
        """Read a record back; None where there is none.

        Raises
        ------
        ManifestMismatchError
            If our key is there but not in our form.
        """
        stored = metadata.get(COPY_KEY)
        if stored is None:
            return None
        try:
            if stored["version"] != _VERSION:
                raise ValueError(f"version {stored['version']!r}")
            texts = {key: str(stored[key]) for key in ("collection", "source", "vector")}
            return cls(
                **texts,
                projection=str(stored["projection"]),
                aliases=tuple(str(alias) for alias in stored["aliases"]),
                is_complete=bool(stored["is_complete"]),
            )
        except (LookupError, TypeError, AttributeError, ValueError) as error:
            raise ManifestMismatchError(
                f"the collection's metadata key {COPY_KEY!r} does not say in version {_VERSION} "
                f"where it was copied from ({error}); upgrade intramodal, or repair or remove it"
            ) from error


@dataclass(frozen=True)
class Copy:
    """A collection, and the new one that gets everything of it and the projected vector.

    Parameters
    ----------
    collection : ImageCollection
        The old one.
    projection : Projection
    new_name : str
    source, vector : str
        Names in the old collection, and of the new vector.
    """

    collection: ImageCollection
    projection: Projection
    new_name: str
    source: str
    vector: str

    @cached_property
    def renamed(self) -> dict[str, str]:
        """New names of the vectors that are copied: all but the projected one, if it is there."""
        names = self.collection.info().vectors
        return {old: old or _NAME_OF_UNNAMED for old in names if old != self.vector}

    @property
    def new_source(self) -> str:
        """Name of the source vector in the new collection."""
        return self.source or _NAME_OF_UNNAMED

    @property
    def record(self) -> CopyRecord:
        """What the new collection remembers when it begins."""
        return CopyRecord(
            self.collection.name, self.source, self.vector, self.projection.fingerprint
        )

    def specs(self) -> dict[str, VectorSpec]:
        """Return the vectors of the new collection."""
        old = self.collection.info().vectors
        copied = {new: old[name] for name, new in self.renamed.items()}
        return {**copied, self.vector: VectorSpec(self.projection.dim_out)}

    def settings(self) -> dict[str, Any]:
        """Return how the new collection is set up; the new vector as its source."""
        found = self.collection.store.settings(self.collection.name)
        own = found.pop("vectors", {})
        vectors = {new: own[old] for old, new in self.renamed.items() if old in own}
        if self.source in own:
            vectors[self.vector] = own[self.source]
        return {**found, "vectors": vectors} if vectors else found

    def manifest(self) -> Manifest:
        """Return what is known of the new collection's vectors; the new one is incomplete."""
        old = self.collection.manifest
        known = {
            new: replace(origin, source=self.renamed.get(origin.source, origin.source))
            if origin.projection
            else origin
            for name, new in self.renamed.items()
            if (origin := old.vectors.get(name)) is not None
        }
        return Manifest(known, old.dataset)

    def origin(self) -> VectorOrigin:
        """Return the origin of the new vector; incomplete."""
        known = self.collection.origin(self.source)
        return replace(
            projected_origin(self.projection, known, self.new_source), is_complete=False
        )

    def new_count(self) -> int | None:
        """Return how many points the new collection holds; None if it is not there."""
        store = self.collection.store
        return store.count(self.new_name) if store.exists(self.new_name) else None

    def aliases(self) -> list[str]:
        """Return the aliases that mean the old collection now, sorted."""
        known = self.collection.store.aliases()
        return sorted(alias for alias, name in known.items() if name == self.collection.name)


def under_own_name(collection: ImageCollection) -> ImageCollection:
    """Return the collection under its own name: an alias may mean another one in a moment."""
    own = collection.store.aliases().get(collection.name)
    return collection if own is None else ImageCollection.open(collection.store, own)


def original_of(collection: ImageCollection, new_name: str) -> ImageCollection:
    """Return the collection that is copied: after the switch, an alias of it means the copy."""
    collection = under_own_name(collection)
    known = CopyRecord.from_metadata(collection.info().metadata)
    if collection.name != new_name or known is None:
        return collection
    if not collection.store.exists(known.collection):
        raise InputError(
            f"{new_name!r} is the copy of {known.collection!r}, which is gone; leave out "
            f"--new-collection to fill what it lacks"
        )
    return ImageCollection.open(collection.store, known.collection)


def is_switched(copy: Copy) -> bool:
    """Return whether clients were sent to the complete copy by an alias, and still are."""
    store = copy.collection.store
    known = CopyRecord.from_metadata(store.info(copy.new_name).metadata)
    meant = set(store.aliases().values())
    is_meant = copy.new_name in meant and copy.collection.name not in meant
    return known is not None and known.is_complete and is_meant


def check_copyable(copy: Copy) -> None:
    """Raise unless the copy can be made without losing anything.

    Raises
    ------
    Unsupported
        If the collection has what arrays cannot carry, or shards chosen by key.
    Conflict
        If the new name is taken by anything but this copy.
    InputError, ManifestMismatchError
        As in `backfill`.
    """
    collection = copy.collection
    check_name(copy.new_name)
    check_projectable(collection, copy.projection, copy.source, copy.vector)
    if copy.vector in collection.info().vectors:
        collection.origin(copy.vector)  # known to be of this projection, or it would be lost
    names = [*copy.renamed.values(), copy.vector]
    if len(set(names)) != len(names):
        raise InputError(
            f"the unnamed vector of {collection.name!r} becomes {_NAME_OF_UNNAMED!r}, which is "
            f"another vector's name already; give that one another name first, or --to another"
        )
    _check_carried(copy)
    _check_new_name(copy)


def _check_carried(copy: Copy) -> None:
    collection = copy.collection
    settings = collection.store.settings(collection.name)
    multi = [name for name, spec in collection.info().vectors.items() if spec.is_multivector]
    lost = sorted([*multi, *settings.get("sparse_vectors", {})])
    if lost:
        raise Unsupported(
            f"{collection.name!r} has the sparse or multi vector {lost[0]!r}, which a copy would "
            f"lose; upgrade the server to 1.18.2 or later and backfill in place"
        )
    if settings.get("sharding_method") == "custom":
        raise Unsupported(
            f"{collection.name!r} puts points into shards by key, which a copy would lose; "
            f"upgrade the server to 1.18.2 or later and backfill in place"
        )


def _check_new_name(copy: Copy) -> None:
    store, new = copy.collection.store, copy.new_name
    if new == copy.collection.name:
        raise InputError(f"{new!r} cannot be copied into itself; give another --new-collection")
    if not store.exists(new):
        return
    known = CopyRecord.from_metadata(store.info(new).metadata)
    if new in store.aliases() or known is None or not known.is_of(copy.record):
        raise Conflict(
            f"there is a collection or an alias {new!r} already, and it is not a copy of "
            f"{copy.collection.name!r} with {copy.vector!r} through this projection; give another "
            f"--new-collection, or drop that one"
        )
