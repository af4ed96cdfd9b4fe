"""What a collection's metadata says about its vectors: which encoder and projection made each.

The manifest lives in the collection itself, so that it travels with snapshots and is seen by
every client. It is read as hostile input: only the declared keys, only strings and numbers.

Each vector has a top-level key of its own. A store merges these keys and replaces each of them
whole, so that two writers who declare different vectors at the same time lose nothing. Version 1
kept all vectors below one key: the first change writes its own vector's key and leaves the others
where they are, because whoever copied them would overwrite what another has just changed. A key
of a vector's own is newer than its entry there. Versions of intramodal that know only version 1
refuse what was changed since (its version is not theirs).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar
from uuid import uuid4

from intramodal.errors import ManifestMismatchError
from intramodal.fit_rows import LabelFit
from intramodal.types import Distance, encoders_agree

T = TypeVar("T")

METADATA_KEY = "intramodal"
"""Top-level key of the collection metadata that says the version and the data set."""

VECTOR_KEY = f"{METADATA_KEY}:"
"""Beginning of the top-level keys of single vectors; the vector's name follows."""

CLAIM_KEY = f"{METADATA_KEY}_claim:"
"""Beginning of the top-level keys of those who are about to declare a vector; the vector's name
and a word of their own follow. See `ImageCollection.add_vector`."""

TEXT_INVERSION = "oti"
"""Method of a vector that holds texts which stand for pictures."""

AUGMENTED = "augmented"
"""Method of a vector that holds augmented views of the images."""

AUGMENTED_VIEW = " (augmented view)"
"""What the name of its encoder ends in: it is no longer the model's own preprocessing."""

_VERSION = 2
_VERSION_OF_ONE_KEY = 1
_REMOVED_BY = "removed_by"
_GONE = {"is_gone": True}
"""What the key of a removed vector holds whose entry of version 1 is left where it is."""


@dataclass(frozen=True)
class VectorOrigin:
    """How one named vector was made.

    Parameters
    ----------
    encoder, encoder_fingerprint : str
        Name and identity of the encoder; the fingerprint of a model that was only declared by its
        owner starts with ``"declared:"``.
    precision : str
        ``"fp32"``, ``"bf16"`` or ``""`` when unknown; recorded, never compared.
    projection : str
        Fingerprint of the projection; empty for the encoder's own output.
    source : str
        The named vector that was projected; empty for the encoder's own output.
    method : str
        Name of the projection's method, for people.
    is_complete : bool
        False while a backfill is filling the vector, after one that has left points without it
        (a writer that does not know the vector brought them meanwhile), and after an ingest that
        has changed labels which the vector holds.
    distance : {"Cosine", "Dot"}
        By what vectors of this origin are compared, whatever the collection ranks by.
    labels : LabelFit or None
        The labels that its projection has seen.
    """

    encoder: str
    encoder_fingerprint: str
    precision: str = ""
    projection: str = ""
    source: str = ""
    method: str = ""
    is_complete: bool = True
    distance: Distance = "Cosine"
    labels: LabelFit | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values; what most vectors do not have is left out where they have not."""
        found = {one.name: getattr(self, one.name) for one in fields(self)}
        found["labels"] = self.labels and self.labels.to_dict()
        usual = {"distance": "Cosine", "labels": None}
        return {key: value for key, value in found.items() if usual.get(key, ...) != value}

    def agrees_with(self, other: VectorOrigin) -> bool:
        """Return whether vectors of both origins may be compared with each other."""
        same_encoder = encoders_agree(
            (self.encoder, self.encoder_fingerprint), (other.encoder, other.encoder_fingerprint)
        )
        return same_encoder and self.projection == other.projection

    def __str__(self) -> str:
        """Return what a sentence needs to tell two origins apart."""
        made_by = f"{self.encoder} ({self.encoder_fingerprint[:12]})"
        if not self.projection:
            return made_by
        of_labels = f" of {self.labels.field!r}" if self.labels else ""
        return f"{made_by} through {self.method or 'projection'}{of_labels} {self.projection[:12]}"


@dataclass(frozen=True)
class Manifest:
    """Origins of all known vectors of a collection.

    Parameters
    ----------
    vectors : dict of str to VectorOrigin
        Vectors that nobody declared are absent.
    dataset : str
        Name under which point ids were made; empty for adopted collections.
    """

    vectors: Mapping[str, VectorOrigin] = field(default_factory=dict)
    dataset: str = ""
    removed: Mapping[str, str] = field(default_factory=dict)
    """Vectors that were removed by a server whose version makes their names unsafe to use again,
    or are being removed by it; with the version."""
    is_stored: bool = field(default=False, compare=False)
    """Whether it was read in the form of now, so that a change writes only what it changes."""
    of_one_key: Mapping[str, VectorOrigin] = field(default_factory=dict, compare=False)
    """Vectors as version 1 kept them, which nobody changes any more."""

    def with_vector(self, name: str, origin: VectorOrigin) -> Manifest:
        """Return a manifest that also knows `name`; raises if it is known to be something else."""
        self.check(name, origin)
        return replace(
            self, vectors={**self.vectors, name: origin}, removed=_without(self.removed, name)
        )

    def without_vector(self, name: str) -> Manifest:
        """Return a manifest that no longer knows `name`, but whether it was removed unsafely."""
        return replace(self, vectors=_without(self.vectors, name))

    def with_removed(self, name: str, version: str) -> Manifest:
        """Return a manifest that remembers which server removes `name`, unsafely."""
        return replace(self, removed={**self.removed, name: version})

    def check(self, name: str, origin: VectorOrigin) -> None:
        """Raise `ManifestMismatchError` if `name` is known to be made otherwise."""
        known = self.vectors.get(name)
        if known is not None and not known.agrees_with(origin):
            raise ManifestMismatchError(
                f"vector {name!r} was made by {known}, not by {origin}; "
                f"use the same model and projection, or write to another vector name or collection"
            )

    def to_metadata(self) -> dict[str, Any]:
        """Return the collection metadata that holds this manifest."""
        head = {"version": _VERSION, "dataset": self.dataset}
        entries: dict[str, dict[str, Any]] = {v: o.to_dict() for v, o in self.vectors.items()}
        for vector, version in self.removed.items():
            entries[vector] = {**entries.get(vector, {}), _REMOVED_BY: version}
        return {METADATA_KEY: head, **{VECTOR_KEY + v: entry for v, entry in entries.items()}}

    def change_of(self, vector: str) -> dict[str, Any]:
        """Return what a changed vector changes in the metadata; None is a key that is removed."""
        whole = self.to_metadata()
        key = VECTOR_KEY + vector
        change = {key: whole.get(key, _GONE if vector in self.of_one_key else None)}
        if self.is_stored:
            return change
        kept = {name: origin.to_dict() for name, origin in self.of_one_key.items()}
        return {METADATA_KEY: whole[METADATA_KEY] | ({"vectors": kept} if kept else {}), **change}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any]) -> Manifest:
        """Read a manifest back; metadata without our keys gives an empty one.

        Raises `ManifestMismatchError` if one of our keys is there but not in our form, or written
        by a newer version.
        """
        with _in_our_form(METADATA_KEY):
            dataset, of_one_key, is_stored = _head(metadata.get(METADATA_KEY))
        vectors, removed = dict(of_one_key), dict[str, str]()
        for key, stored in metadata.items():
            if key.startswith(VECTOR_KEY) and stored is not None:
                vector = key.removeprefix(VECTOR_KEY)
                vectors.pop(vector, None)
                with _in_our_form(key):
                    if _REMOVED_BY in stored:
                        removed[vector] = _text(stored[_REMOVED_BY], _REMOVED_BY)
                    if stored != _GONE and (_REMOVED_BY not in stored or "encoder" in stored):
                        vectors[vector] = _origin(stored)
        return cls(vectors, dataset, removed, is_stored, of_one_key)


def incomplete(collection: str, vector: str) -> str:
    """Return what it means that a vector is incomplete, and what completes it."""
    return (
        f"{vector!r} of {collection!r} is incomplete: points may lack it, or hold a code of a "
        f"label that has changed; run its backfill again"
    )


def foreign_metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata that is no manifest's."""
    return {
        key: value
        for key, value in metadata.items()
        if key != METADATA_KEY and not key.startswith((VECTOR_KEY, CLAIM_KEY))
    }


def new_claim(vector: str) -> str:
    """Return a key that says who is about to declare a vector; the smaller one goes first."""
    return f"{CLAIM_KEY}{vector}:{uuid4().hex}"


def claims(metadata: Mapping[str, Any], vector: str, origin: VectorOrigin) -> tuple[set[str], ...]:
    """Return who is about to declare a vector: with this origin, and with another one."""
    same: set[str] = set()
    other: set[str] = set()
    for key, stored in metadata.items():
        if stored is not None and key.rpartition(":")[0] == CLAIM_KEY + vector:
            try:
                agrees = _origin(stored).agrees_with(origin)
            except (
                LookupError,
                TypeError,
                AttributeError,
                ValueError,
            ):  # it is read as hostile input
                agrees = False
            (same if agrees else other).add(key)
    return same, other


def _head(stored: Any) -> tuple[str, dict[str, VectorOrigin], bool]:
    """Return data set, the vectors of version 1, and whether it is of the version of now."""
    if stored is None:
        return "", {}, False
    dataset, is_of_now = str(stored.get("dataset", "")), stored["version"] == _VERSION
    if not is_of_now and stored["version"] != _VERSION_OF_ONE_KEY:
        raise ValueError(f"version {stored['version']!r:.40}")
    kept = stored.get("vectors") or {} if is_of_now else stored["vectors"]
    return dataset, {str(k): _origin(v) for k, v in kept.items()}, is_of_now


def _without(entries: Mapping[str, T], name: str) -> dict[str, T]:
    return {known: entry for known, entry in entries.items() if known != name}


@contextmanager
def _in_our_form(key: str) -> Iterator[None]:
    """Refuse what a key holds in another form."""
    try:
        yield
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise ManifestMismatchError(
            f"the collection's metadata key {key!r:.200} is not a manifest of version {_VERSION} "
            f"or older ({error!s:.200}); upgrade intramodal, or repair or remove that key"
        ) from error


def _text(value: Any, key: str) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{key} is {value!r:.40}, which is no text")
    return value


def _origin(stored: Mapping[str, Any]) -> VectorOrigin:
    texts = {
        key: str(stored.get(key, "")) for key in ("precision", "projection", "source", "method")
    }
    return VectorOrigin(
        encoder=str(stored["encoder"]),
        encoder_fingerprint=str(stored["encoder_fingerprint"]),
        is_complete=stored.get("is_complete", True) is True,  # "false" is a text, and true
        distance="Dot" if stored.get("distance") == "Dot" else "Cosine",
        labels=LabelFit.from_dict(labels) if (labels := stored.get("labels")) else None,
        **texts,
    )
