"""Per-query scores as a run keeps them, and as trec_eval prints them."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intramodal.errors import LedgerError
from intramodal.types import short_repr

SCORES = "per-query scores"
"""Name of the artefact."""

MEDIA_TYPE = "application/x-npz"

_TREC_NAMES = {
    "ap": "map",
    "mrr": "recip_rank",
    "r_precision": "Rprec",
    "n_relevant": "num_rel",
    "ap@r": "map_cut_R",
}
"""trec_eval's words for ours; it has none for the last, mAP@R."""

_TREC_CUTS = {
    "ap": "map_cut",
    "precision": "P",
    "recall": "recall",
    "hit": "success",
    "ndcg": "ndcg_cut",
}
_COUNTS = ("n_relevant",)


@short_repr
@dataclass(frozen=True, eq=False)
class QueryScores:
    """What every query of one label field scored under one vector."""

    field: str
    vector: str
    query_ids: Sequence[str | int]
    figures: Mapping[str, NDArray[Any]]
    """Each (n_queries,): "ap", "ndcg", "recall@10", ... are fractions, NaN where there is none;
    "n_relevant" is a count."""


def pack_scores(scores: Iterable[QueryScores]) -> bytes:
    """Return scores as the bytes of one compressed ``.npz``; see `unpack_scores`."""
    index: list[dict[str, Any]] = []
    arrays: dict[str, Any] = {}
    for n, entry in enumerate(scores):
        index.append({"field": entry.field, "vector": entry.vector, "names": list(entry.figures)})
        arrays[f"{n}.ids"] = np.array([str(i) for i in entry.query_ids], dtype=np.str_)
        arrays |= {f"{n}.{i}": values for i, values in enumerate(entry.figures.values())}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, index=np.array(json.dumps(index)), **arrays)
    return buffer.getvalue()


def unpack_scores(data: bytes) -> list[QueryScores]:
    """Return what `pack_scores` packed; ids come back as text."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as stored:
            index = json.loads(str(stored["index"]))
            return [_entry(stored, n, about) for n, about in enumerate(index)]
    except (ValueError, KeyError, TypeError, OSError, zipfile.BadZipFile) as error:
        raise LedgerError(
            f"the artefact {SCORES!r} cannot be read ({error}); run the comparison again"
        ) from error


def _entry(stored: Any, n: int, about: Mapping[str, Any]) -> QueryScores:
    figures = {name: stored[f"{n}.{i}"] for i, name in enumerate(about["names"])}
    return QueryScores(about["field"], about["vector"], stored[f"{n}.ids"].tolist(), figures)


def trec_lines(scores: QueryScores, run: str) -> str:
    """Return scores as ``trec_eval -q`` prints them: measure, query, value, tab-separated.

    A block for every query, then the block "all". Figures are ours: equal scores count in
    expectation, where trec_eval orders them by name.

    Examples
    --------
    >>> scores = QueryScores("kind", "pca", [7], {"ap": np.array([0.5])})
    >>> print(trec_lines(scores, "r1"), end="")  # doctest: +NORMALIZE_WHITESPACE
    map                   	7	0.5000
    runid                 	all	r1
    num_q                 	all	1
    map                   	all	0.5000
    """
    columns = {trec_name(name): (name, values) for name, values in scores.figures.items()}
    lines = [
        # A shard key may hold spaces, by which trec_eval tells columns.
        _line(word, "_".join(str(query).split()), _shown(name, values[row]))
        for row, query in enumerate(scores.query_ids)
        for word, (name, values) in columns.items()
    ]
    lines += [_line("runid", "all", run), _line("num_q", "all", str(len(scores.query_ids)))]
    lines += [
        _line(word, "all", _shown(name, values.sum() if name in _COUNTS else values.mean()))
        for word, (name, values) in columns.items()
        if len(values)
    ]
    return "".join(lines)


def trec_name(name: str) -> str:
    """Return trec_eval's word for a figure.

    Examples
    --------
    >>> trec_name("ap"), trec_name("precision@10"), trec_name("ndcg")
    ('map', 'P_10', 'ndcg')
    """
    found = re.fullmatch(r"(\w+)@(\d+)", name)
    if found and found[1] in _TREC_CUTS:
        return f"{_TREC_CUTS[found[1]]}_{found[2]}"
    return _TREC_NAMES.get(name, name)


def _line(word: str, query: object, value: str) -> str:
    return f"{word:<22}\t{query}\t{value}\n"


def _shown(name: str, value: Any) -> str:
    return str(int(value)) if name in _COUNTS else f"{value:.4f}"
