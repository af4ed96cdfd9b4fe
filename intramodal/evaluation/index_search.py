"""One way to search the store: which vectors rank, and how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intramodal.errors import InputError
from intramodal.evaluation.tasks import (
    FieldFilter,
    Sides,
)
from intramodal.projection.projection import Projection
from intramodal.store.base import Filter, Hits
from intramodal.store.collection import ImageCollection
from intramodal.store.queries import Weights, check_weights
from intramodal.store.query_side import QuerySide
from intramodal.types import VectorTable, short_repr

CANDIDATES_AN_ANSWER = 4


def _unquoted(name: str) -> str:
    """Return the name of a vector as it is; ``''`` is how one without a name is written."""
    return "" if name in ("''", '""') else name


def _weighed(text: str) -> tuple[str, float | None]:
    """Return a name and the number after its last ``=``; what is no number is of the name."""
    name, _, weight = text.rpartition("=")
    try:
        return (name, float(weight)) if name else (text, None)
    except ValueError:
        return text, None


@short_repr
@dataclass(frozen=True)
class IndexSearch:
    """How the store is asked.

    Parameters
    ----------
    vector : str
        Ranks the answers.
    prefetch : str, optional
        Two stages: this vector gives the candidates, `vector` ranks them.
    fuse : str, optional
        The rankings by `vector` and by this one are fused by their places.
    weights : tuple of float, optional
        How much the rankings by `vector` and by `fuse` count, each above 0; alike by default.
    candidates : int, optional
        Length of the lists of a two-stage or fused search; four times `k` by default.
    exact : bool
        Without the index.
    params : dict
        Search parameters: ``hnsw_ef``, ``indexed_only``, ``quantization``.
    where : Filter, optional
        Which points may answer.
    query_side : Projection, optional
        The stored `vector` is searched with projected queries; see `Projection.query`.
    rerank : int, optional
        So many first results of the query side are fetched with their vectors and put in the
        order of their projected cosines.
    """

    vector: str
    _: KW_ONLY
    prefetch: str | None = None
    fuse: str | None = None
    weights: Weights | None = None
    candidates: int | None = None
    exact: bool = False
    params: Mapping[str, Any] = field(default_factory=dict)
    where: Filter | None = None
    query_side: Projection | None = None
    rerank: int | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be asked."""
        if self.prefetch is not None and self.fuse is not None:
            raise InputError("a search is either fused or has a prefetch; give one of the two")
        if self.side is not None and (self.prefetch is not None or self.fuse is not None):
            raise InputError("a query side searches one vector; leave prefetch and fuse out")
        if self.weights is not None:
            if self.fuse is None:
                raise InputError("weights are of the two rankings of a fused search; give fuse")
            check_weights(self.weights)

    @classmethod
    def parse(cls, text: str) -> IndexSearch:
        """Read ``V``, ``FIRST:V`` (two stages) or ``V+W`` (fused); ``''`` is without a name.

        A number after a fused vector is its weight, ``V=3+W``; without one it is 1.

        Examples
        --------
        >>> IndexSearch.parse("pca:raw").name
        'pca > raw'
        >>> IndexSearch.parse("raw=3+pca").name
        'raw=3 + pca=1'
        """
        first, colon, second = text.partition(":")
        one, plus, other = text.partition("+")
        if colon and first and second and not plus:
            return cls(_unquoted(second), prefetch=_unquoted(first))
        if plus and one and other and not colon:
            return cls._parse_fused(one, other)
        if colon or plus or not text:
            raise InputError(
                f"a search is a vector, FIRST:SECOND in two stages, or ONE+OTHER fused, got "
                f"{text!r}"
            )
        return cls(_unquoted(text))

    @classmethod
    def _parse_fused(cls, one: str, other: str) -> IndexSearch:
        (vector, first), (fuse, second) = _weighed(one), _weighed(other)
        is_weighed = first is not None or second is not None
        weights = (1.0 if first is None else first, 1.0 if second is None else second)
        return cls(
            _unquoted(vector), fuse=_unquoted(fuse), weights=weights if is_weighed else None
        )

    @cached_property
    def side(self) -> QuerySide | None:
        """The projection of its queries; None where the stored vectors themselves ask."""
        return QuerySide.of(self.query_side, [self.vector], self.rerank)

    @property
    def ranked_as(self) -> str:
        """The vector of the table whose exact ranking its answers are measured against."""
        return self.vector if self.side is None else self.side.name

    @property
    def name(self) -> str:
        """What the search is called in tables."""
        if self.side is not None:
            return self.side.name
        vector, prefetch, fuse = (
            name or ("''" if name == "" else None)
            for name in (self.vector, self.prefetch, self.fuse)
        )
        if prefetch:
            return f"{prefetch} > {vector}"
        if self.weights is not None:
            first, second = self.weights
            return f"{vector}={first:g} + {fuse}={second:g}"
        return f"{vector} + {fuse}" if fuse else str(vector)

    @property
    def vectors(self) -> list[str]:
        """The vectors it compares, the one that ranks first."""
        named = (self.vector, self.prefetch, self.fuse)
        return [name for name in named if name is not None]

    def within(self, where: Filter | None) -> IndexSearch:
        """Return the search among the points that match a filter, its own one included."""
        if where is None:
            return self
        return replace(self, where=where if self.where is None else self.where & where)

    def ask(
        self, collection: ImageCollection, table: VectorTable, rows: NDArray[np.intp], k: int
    ) -> Hits:
        """Return the k answers to each of the table's rows, never the row itself."""
        if self.side is not None:
            return self.side.search(
                collection,
                table.vectors[self.vector][rows],
                k=k,
                exact=self.exact,
                exclude=[table.ids[row] for row in rows],
                where=self.where,
                params=self.params,
            )
        return collection.store.query_batch(  # `search` would ask for the vectors' names each time
            collection.name,
            table.vectors[self.vector][rows],
            using=self.vector,
            k=k,
            exact=self.exact,
            exclude=[table.ids[row] for row in rows],
            where=collection.sendable(self.where),
            params={**self.params, **self._stages(table, rows, k)},
        )

    def n_candidates(self, k: int) -> int:
        """Return the length of a list of candidates for `k` answers; 0 in a single stage."""
        if self.rerank is not None:
            return max(k, self.rerank)
        is_staged = self.prefetch is not None or self.fuse is not None
        return (self.candidates or k * CANDIDATES_AN_ANSWER) if is_staged else 0

    def with_candidates(self, n: int) -> IndexSearch:
        """Return the search with lists of `n` candidates."""
        if self.rerank is not None:
            return replace(self, rerank=n)
        return replace(self, candidates=n)

    @property
    def n_reads(self) -> int:
        """How many reads a server counts for one search: each stage, and each condition of it."""
        n_stages = 1 + 2 * (self.fuse is not None) + (self.prefetch is not None)
        # Its own id is excluded in each; values of another type are conditions of their own.
        n_conditions = 1 + (0 if self.where is None else len(self.where.conditions))
        return n_stages * (1 + n_conditions) + (self.rerank or 0)

    def _stages(self, table: VectorTable, rows: NDArray[np.intp], k: int) -> dict[str, Any]:
        other = self.fuse if self.prefetch is None else self.prefetch
        if other is None:
            return {}
        stage = {"using": other, "limit": self.n_candidates(k), "Q": table.vectors[other][rows]}
        if self.prefetch is not None:
            return {"prefetch": stage}
        return {"fuse": stage if self.weights is None else {**stage, "weights": self.weights}}


def in_gallery(search: IndexSearch, sides: Sides) -> IndexSearch:
    """Return the search with the filter of the gallery, unless it has one of its own."""
    if search.where is None and isinstance(sides.gallery, FieldFilter):
        return replace(search, where=sides.gallery.where)
    return search
