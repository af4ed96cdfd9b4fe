"""How few-shot episodes are drawn and vectors scaled: our protocol, and that of the paper's code.

Facts of github.com/Vision-Kek/Is-CLIP-Really-Misaligned, ``main_few_shots.py``, read there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from intramodal.errors import InputError, MismatchError
from intramodal.evaluation.held_out import fitted_by
from intramodal.evaluation.shots import FewshotTask
from intramodal.evaluation.tasks import Sides, read_labelled
from intramodal.projection.projection import Projection
from intramodal.store.base import Filter
from intramodal.store.collection import ImageCollection
from intramodal.store.manifest import AUGMENTED_VIEW, VectorOrigin
from intramodal.types import FittedVector, Floats, VectorTable

Projections = Sequence[Projection] | Mapping[str, Projection]
"""Projections, or those that made vectors by the names of these."""

Protocol = Literal["nested", "paper"]
"""``"nested"``, ours: many episodes, in each of which fewer shots are the first of more.
``"paper"``: few seeds, and shots drawn anew for every number of them."""

N_SEEDS = 3
"""The paper's: 1, 2 and 3."""


def check_protocol(
    protocol: str, sides: Sides, test_share: float | None, projections: Projections
) -> bool:
    """Return whether it is the paper's; `InputError` unless all that it needs is there."""
    if protocol not in get_args(Protocol):
        raise InputError(f"no protocol {protocol!r}; choose from {', '.join(get_args(Protocol))}")
    if protocol != "paper" and projections:
        raise InputError(
            "projections are for protocol 'paper', which keeps the lengths of projected vectors; "
            "leave them out"
        )
    has_sides = not (sides.queries is None and sides.gallery is None and test_share is None)
    if protocol == "paper" and not has_sides:
        raise InputError(
            "protocol 'paper' draws shots from a train side and tests on a test side; give a "
            "payload field with the values train and test, or the share that is tested"
        )
    return protocol == "paper"


def with_shots(
    source: VectorTable | ImageCollection, shots_from: Mapping[str, str], vectors: Sequence[str]
) -> list[str]:
    """Return vectors, each once, with those that their shots come from.

    Raises `InputError` unless these are views of the same images by the same model.

    The manifest of a collection says so; of a table the sizes alone are compared, later on.
    """
    for name, of in shots_from.items():
        if name not in vectors:
            raise InputError(
                f"shots_from says where the shots of {name!r} come from, and only "
                f"{', '.join(map(repr, vectors))} are compared; leave it out, or name the vector"
            )
        origins = {} if isinstance(source, VectorTable) else source.manifest.vectors
        if name in origins and of in origins and not _are_views(origins[of], origins[name]):
            raise MismatchError(
                f"shots of {name!r}, made by {origins[name]}, cannot come from {of!r}, made by "
                f"{origins[of]}; name a vector of the same model and projection"
            )
    return list(dict.fromkeys([*vectors, *shots_from.values()]))


def _are_views(shots: VectorOrigin, tested: VectorOrigin) -> bool:
    models = {origin.encoder.removesuffix(AUGMENTED_VIEW) for origin in (shots, tested)}
    return len(models) == 1 and shots.projection == tested.projection


def shot_images(task: FewshotTask, table: VectorTable, vector: str, X: Floats) -> Floats:
    """Return `vector` (n, d) of the images that take part, in the space of `X` (n, d)."""
    found = task.images(table, vector)
    if found.shape != X.shape:
        raise MismatchError(
            f"shots come from {vector!r} with {found.shape[1]} dimensions, and the tested vector "
            f"has {X.shape[1]}; name the vector of the same model and projection"
        )
    return found


def maps_of(
    source: VectorTable | ImageCollection,
    vectors: Sequence[str],
    projections: Projections,
) -> dict[str, Projection]:
    """Return the projections that made vectors, by vector.

    Of a collection as its manifest says; of a table by the names that are given, or else those
    that projections give vectors. Raises `InputError` for a projection that made none of them.
    """
    if isinstance(projections, Mapping):
        named, projections = projections, list(projections.values())
    else:
        named = {p.default_vector: p for p in projections}
    if isinstance(source, VectorTable):
        found = {name: p for name, p in named.items() if name in vectors}
    else:
        origins = source.manifest.vectors
        made = {name: origins[name].projection for name in vectors if name in origins}
        found = {n: p for n, by in made.items() for p in projections if p.fingerprint == by}
    for projection in projections:
        if not any(projection is one for one in found.values()):
            raise InputError(
                f"{projection.place or repr(projection)} ({projection.fingerprint[:12]}) made "
                f"none of the vectors {', '.join(map(repr, vectors))}; leave it out, or name its "
                f"vector"
            )
    return found


@dataclass(frozen=True, eq=False)
class Lengths:
    """Which vectors the paper's code compares: unit ones, and their projections as they come out.

    A table that was given is taken to hold these already.
    """

    vectors: tuple[str, ...]
    sources: Mapping[str, str]
    """Of a collection's projected vectors, what each is projected from; empty for a table."""
    maps: Mapping[str, Projection]
    """The projections of these."""
    is_table: bool

    @classmethod
    def of(
        cls,
        source: VectorTable | ImageCollection,
        vectors: Sequence[str],
        projections: Projections,
    ) -> Lengths:
        """Find what made the vectors; `InputError` where a stored one's projection is missing."""
        maps = maps_of(source, vectors, projections)
        if isinstance(source, VectorTable):
            return cls(tuple(vectors), {}, maps, is_table=True)
        origins = source.manifest.vectors
        made = {v: origins[v].source for v in vectors if v in origins and origins[v].projection}
        for name in made:
            if name not in maps:
                raise InputError(
                    f"protocol 'paper' does not rescale projected vectors, and {name!r} of "
                    f"{source.name!r} is stored with unit length; give its projection, too, or "
                    f"leave out the vector"
                )
        return cls(tuple(vectors), made, maps, is_table=False)

    @property
    def read(self) -> list[str]:
        """The stored vectors that are needed."""
        return list(dict.fromkeys(self.sources.get(name, name) for name in self.vectors))

    @property
    def fitted(self) -> dict[str, FittedVector]:
        """Those of the projected vectors whose maps have seen labels: their rows never judge."""
        found: dict[str, FittedVector] = {}
        for name, of in self.sources.items():
            found |= fitted_by([self.maps[name]], [name], of)
        return found

    def of_table(self, table: VectorTable) -> VectorTable:
        """Return the table with the vectors of these lengths, of one that holds `read`."""
        if self.is_table:
            return table
        stored = (name for name in self.vectors if name not in self.sources)
        made = {name: table.unit(name) for name in stored if name in table.vectors}
        for name, of in self.sources.items():
            made[name] = self.maps[name].apply_to_unit(table.unit(of))
        gone = table.held_out
        if gone is not None:
            gone = replace(gone, rows=self.of_table(gone.rows))
        # What maps were fitted on is their source, which what stands beside them needs; rows for
        # fitting may have that alone.
        return replace(table, vectors={**table.vectors, **made}, held_out=gone)


@dataclass(frozen=True, eq=False)
class TakingPart:
    """The images of a few-shot evaluation, at the lengths that its protocol asks for."""

    table: VectorTable
    """As they were read."""
    read: Sequence[str]
    """The named vectors that were."""
    rows: VectorTable
    """Those that take part."""
    split: list[str] | None
    """The side of each; None where all may be shots and tested."""

    @classmethod
    def of(
        cls,
        source: VectorTable | ImageCollection,
        vectors: Sequence[str],
        fields: Sequence[str],
        *,
        sides: Sides,
        where: Filter | None,
        scaled: Lengths | None,
    ) -> TakingPart:
        """Read labelled images once."""
        read = scaled.read if scaled else vectors
        how: Any = {"where": where, "fitted": scaled.fitted if scaled else None}
        table = read_labelled(source, read, [*fields, *sides.fields], **how)
        rows, split = sides.named(scaled.of_table(table) if scaled else table)
        return cls(table, read, rows, split)
