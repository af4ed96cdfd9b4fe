"""A shard of Qdrant Edge that another program has made becomes a collection of the store."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from intramodal.errors import Conflict, InputError, ManifestMismatchError, NotFound, Unsupported
from intramodal.ingest.adopt import AdoptSummary, adopt_collection
from intramodal.model_names import check_dimension
from intramodal.projection.stored_map import StoredMap
from intramodal.runs.run import Run
from intramodal.store.base import Store, VectorSpec
from intramodal.store.checks import check_name
from intramodal.store.collection import ImageCollection
from intramodal.store.directories import recognize
from intramodal.types import Encoder, short_repr


@short_repr
@dataclass(frozen=True)
class ShardPlan:
    """What `adopt_shard` would do.

    Parameters
    ----------
    folder, collection : str
    vectors : dict of str to dict
        "size", "distance", "datatype" and "is_multivector" of each.
    bytes : int
        What a copy takes on the disk.
    """

    folder: str
    collection: str
    vectors: Mapping[str, Mapping[str, Any]]
    bytes: int

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)


@short_repr
@dataclass(frozen=True)
class ShardSummary:
    """What became of a shard.

    Parameters
    ----------
    folder, collection : str
    points : int
    vectors : list of str
    is_moved : bool
        Whether the folder itself is in the store now; else it is as it was.
    adopted : AdoptSummary or None
        Which model was declared for a vector.
    """

    folder: str
    collection: str
    points: int
    vectors: list[str]
    is_moved: bool
    adopted: AdoptSummary | None

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)

    def record(self, run: Run) -> None:
        """Write the number of points to a run."""
        run.log_metric("points", self.points, n=self.points)


def plan_shard(folder: Path, store: Store | None = None, *, collection: str) -> ShardPlan:
    """Return what `adopt_shard` would do; the shard is not opened, and nothing is written.

    Parameters
    ----------
    folder : Path
    store : Store, optional
        None for one that is not there yet.
    collection : str
        Name of the new collection.

    Raises
    ------
    InputError, StoreError, Conflict, Unsupported
        As `adopt_shard`.
    """
    specs, n_bytes = _examined(folder)
    check_name(collection)
    if store is not None and store.exists(collection):
        raise _taken(collection)
    vectors = {name: asdict(spec) for name, spec in specs.items()}
    return ShardPlan(str(folder), collection, vectors, n_bytes)


def adopt_shard(  # noqa: PLR0913  a job has as many knobs as it has
    folder: Path,
    store: Store,
    *,
    collection: str,
    move: bool = False,
    made_by: str | None = None,
    vector: str | None = None,
    pictures: Path | None = None,
    encoder: Encoder | Callable[[str], Encoder] | None = None,
    projection: StoredMap | None = None,
    run: Run | None = None,
) -> ShardSummary:
    """Copy a shard of Qdrant Edge into an embedded store, as a new collection.

    The shard is never opened where it is, as the engine writes to what it opens. Vectors of all
    kinds, payload and payload indexes stay as they are. Killed at any moment, the store and the
    shard are as they were, or all is done.

    Parameters
    ----------
    folder : Path
        The shard; no program may have it open.
    store : Store
        A directory.
    collection : str
        Name of the new collection.
    move : bool
        Rename the folder instead, on the same file system.
    made_by : str, optional
        The model that made a vector: declared as by `adopt_collection`. By default nothing is.
    vector : str, optional
        That vector; may be left out where there is only one.
    pictures, encoder, projection
        As `adopt_collection` takes them.
    run : Run, optional
        Records what was done.

    Raises
    ------
    InputError
        If the folder is no whole shard, of a newer format, or holds anything but files.
    Locked
        If a program has it open.
    Conflict, Unsupported
        If there is such a collection, or the store is no directory.
    ManifestMismatchError
        If the vectors cannot be of that model.
    StoreError
        If the shard cannot be read, or there is not the space.
    """
    run = run or Run()
    specs, _ = _examined(folder)
    chosen = _chosen(specs, vector, folder) if made_by is not None else ""
    if made_by is not None:
        check_dimension(made_by, repr(chosen), specs[chosen].size)
    if store.exists(collection):
        raise _taken(collection)
    n_points = store.take_shard(collection, folder, moves=move)
    adopted = None
    if made_by is not None:
        try:
            adopted = adopt_collection(
                ImageCollection.open(store, collection),
                made_by=made_by,
                vector=chosen,
                pictures=pictures,
                encoder=encoder,
                projection=projection,
                run=run,
            )
        except (ManifestMismatchError, InputError) as error:
            raise type(error)(
                f"{error} ({collection!r} is in the store now, and no model is declared)"
            ) from error
    found = ShardSummary(str(folder), collection, n_points, list(specs), move, adopted)
    run.keep(found)
    return found


def _examined(folder: Path) -> tuple[Mapping[str, VectorSpec], int]:
    """Return the vectors of a shard and its size in bytes; raise where it is none."""
    found = recognize(folder)
    if found is None or found.path != folder:
        raise InputError(f"{folder} is no shard of Qdrant Edge; give the folder of one")
    if found.kind != "shard":
        raise InputError(f"{folder} {found.what}, and is no shard of Qdrant Edge; {found.way}")
    if folder.is_symlink():
        raise InputError(f"{folder} is a link; give the folder itself: {folder.resolve()}")
    try:
        from intramodal.store.edge.arrival import examined
    except ImportError as error:
        raise Unsupported(
            f"the embedded engine (qdrant-edge-py) cannot be loaded here ({error}), and takes no "
            f"shard; use a platform that it runs on"
        ) from error
    shard = examined(folder)
    return shard.vectors, shard.n_bytes


def _taken(collection: str) -> Conflict:
    return Conflict(f"there is a collection or an alias {collection!r} already; give another name")


def _chosen(specs: Mapping[str, VectorSpec], vector: str | None, folder: Path) -> str:
    there = ", ".join(map(repr, sorted(specs))) or "none"
    if vector is None and len(specs) == 1:
        return next(iter(specs))
    if vector is None:
        raise InputError(f"the shard {folder} has the vectors {there}; name the one that is meant")
    if vector not in specs:
        raise NotFound(f"the shard {folder} has no vector {vector!r}; it has {there}")
    return vector
