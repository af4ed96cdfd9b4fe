"""Which vectors are meant where none is named: the encoder's own, and its one projection.

A collection's manifest says which they are. Where it says nothing, or leaves several, the names
that this package gives decide: `raw` and `pca`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from intramodal.errors import InputError
from intramodal.store.collection import ImageCollection
from intramodal.store.manifest import AUGMENTED, TEXT_INVERSION, VectorOrigin
from intramodal.types import VectorMap, VectorTable

RAW = "raw"
"""Name of the encoder's own vector where this package gives it."""

PCA = "pca"

Source = ImageCollection | VectorTable


def own_vector(source: Source, vector: str | None = None) -> str:
    """Return `vector`, or the one that no projection has made.

    Raises
    ------
    InputError
        If that are several and none of them is called `raw`, or none.
    """
    if vector is not None:
        return vector
    origins, there = _origins(source), _names(source)
    declared = [name for name in there if name in origins and _is_own(origins[name])]
    found = _one(declared or [name for name in there if name not in origins], RAW)
    if found is None:
        raise InputError(f"{_called(source)} has {_counted(there)}; name the one to take")
    return found


def projected_vector(source: Source, own: str | None = None) -> str | None:
    """Return the projection of a vector, by default of the encoder's own; None without one.

    Raises
    ------
    InputError
        If that are several and none of them is called `pca`.
    """
    own = own_vector(source, own)
    origins, there = _origins(source), _names(source)
    made = [name for name in there if name in origins and _is_made_of(origins[name], own)]
    found = _one(made or [name for name in there if name == PCA], PCA)
    if found is None and made:
        raise InputError(
            f"{_called(source)} has several projections of {own!r}: {_listed(made)}; name the one "
            f"to take"
        )
    return None if found == own else found


def searched_vectors(
    source: Source, vectors: Sequence[str] | None = None, *, own_only: bool = False
) -> list[str]:
    """Return `vectors`, or the encoder's own and, unless `own_only`, its projection if any."""
    if vectors is not None:
        return list(vectors)
    own = own_vector(source)
    projected = None if own_only else projected_vector(source, own)
    return [own] if projected is None else [own, projected]


def vector_pair(source: Source, a: str | None = None, b: str | None = None) -> tuple[str, str]:
    """Return two vectors to compare: those given, or the encoder's own and its projection.

    Raises
    ------
    InputError
        If `b` is not given and no projection of `a` is there, or several are.
    """
    a = own_vector(source, a)
    b = projected_vector(source, a) if b is None else b
    if b is None:
        raise InputError(
            f"{_called(source)} has {_counted(_names(source))} and no projection of {a!r} to "
            f"compare it with; add one by a backfill, or name both vectors"
        )
    return a, b


def source_and_projection(
    collection: ImageCollection,
    projection: VectorMap,
    source: str | None = None,
    vector: str | None = None,
) -> tuple[str, str]:
    """Return the vector to project and the one to fill.

    By default the encoder's own, and what this projection has made of it already, whatever it is
    called, or would call it.
    """
    source = own_vector(collection, source)
    origins = collection.manifest.vectors
    of_this = (projection.fingerprint, source)
    made = [
        name
        for name in _names(collection)
        if name in origins and (origins[name].projection, origins[name].source) == of_this
    ]
    usual = projection.default_vector
    return source, vector or _one(made, usual) or usual


def ingested_vectors(
    collection: ImageCollection | None, projection: VectorMap | None, vector: str | None = None
) -> tuple[str, str | None]:
    """Return the vector that new points get, and the one for its projection, None without one.

    `vector`, else the encoder's own of the collection, and what this projection has made of it,
    whatever they are called; the names of this package in a collection that is yet to be made
    (None).
    """
    if collection is None:
        own = RAW if vector is None else vector
        return own, None if projection is None else projection.default_vector
    if projection is None:
        return own_vector(collection, vector), None
    return source_and_projection(collection, projection, vector)


def _names(source: Source) -> list[str]:
    """Return the vectors that can be meant, in a fixed order."""
    if isinstance(source, VectorTable):
        return sorted(source.vectors)
    single = (name for name, spec in source.vectors.items() if not spec.is_multivector)
    return sorted(single) or sorted(source.vectors)  # what is refused is refused by its name


def _origins(source: Source) -> dict[str, VectorOrigin]:
    return {} if isinstance(source, VectorTable) else dict(source.manifest.vectors)


def _is_own(origin: VectorOrigin) -> bool:
    return not origin.projection and origin.method != AUGMENTED


def _is_made_of(origin: VectorOrigin, own: str) -> bool:
    return bool(origin.projection) and origin.source == own and origin.method != TEXT_INVERSION


def _one(names: Sequence[str], usual: str) -> str | None:
    """Return the only name, or the usual one among several."""
    if len(names) == 1:
        return names[0]
    return usual if usual in names else None


def _called(source: Source) -> str:
    return "the table" if isinstance(source, VectorTable) else f"collection {source.name!r}"


def _counted(names: Sequence[str]) -> str:
    if not names:
        return "no vector"
    return f"the vector{'s' if len(names) > 1 else ''} {_listed(names)}"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))
