"""Every command under every limit of strict mode: it works, or it names the limit, within 5 s.

`works` holds what a command did or said against the same command without a limit. `REFUSED` lists
the cells in which it cannot do what it is for, and says so in one sentence.
"""

from __future__ import annotations

import copy
import json
import time
from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image
from qdrant_client import models

from intramodal.cli import cli
from tests.faults.wire import WireServer, limits
from tests.faults.wire.errors import WireError
from tests.faults.wire.points import Collection

N, N_NEW, N_KINDS, SIDE, DIM = 60, 10, 4, 8, 256
PROMPT_S = 5.0
"""Within which a command says that it cannot work."""

LIMITS: dict[str, dict[str, Any]] = {
    "search_allow_exact": {"search_allow_exact": False},
    "unindexed_filtering_retrieve": {"unindexed_filtering_retrieve": False},
    "unindexed_filtering_update": {"unindexed_filtering_update": False},
    "upsert_max_batchsize": {"upsert_max_batchsize": 7},
    "search_max_batchsize": {"search_max_batchsize": 3},
    "max_query_limit": {"max_query_limit": 7},
    "max_timeout": {"max_timeout": 1},
    "search_max_hnsw_ef": {"search_max_hnsw_ef": 16},
    "search_max_oversampling": {"search_max_oversampling": 1.0},
    "condition_max_size": {"condition_max_size": 5},
    "filter_max_conditions": {"filter_max_conditions": 1},
    "read_rate_limit": {"read_rate_limit": 40},
    "write_rate_limit": {"write_rate_limit": 40},
    "max_collection_vector_size_bytes": {"max_collection_vector_size_bytes": 10},
    "max_collection_payload_size_bytes": {"max_collection_payload_size_bytes": 10},
    "max_points_count": {"max_points_count": 10},
    "max_payload_index_count": {"max_payload_index_count": 0},
    "max_resident_memory_percent": {"max_resident_memory_percent": 50},
}

BY = ("--projection", "pca.safetensors")
TO_PCA = (*BY, "--to", "pca")
EVALUATED = ("photos", "--labels", "kind")
FEW = ("--subsets", "2")
MEASURED = ("--methods", "original", "--runs", ":memory:")  # no cell is kept
CENTRED = ("--components", "16", "-o", "centred.safetensors")
COMMANDS: dict[str, tuple[str, tuple[str, ...]]] = {
    # name: (what is stored, command line)
    "ingest": ("part", ("ingest", "list.jsonl", "--collection", "photos", "--model", "demo")),
    "ingest vectors": ("part", ("ingest", "X.npy", "--collection", "photos", "--made-by", "demo")),
    "backfill": ("raw", ("backfill", "photos", *TO_PCA)),
    "backfill --dry-run": ("raw", ("backfill", "photos", *TO_PCA, "--dry-run")),
    "backfill --verify": ("both", ("backfill", "photos", *TO_PCA, "--verify", "30")),
    "backfill --recompute kind": (
        "stale",
        ("backfill", "photos", *TO_PCA, "--recompute", "kind=k1,k2"),
    ),
    "backfill --recompute year": (
        "stale",
        ("backfill", "photos", *TO_PCA, "--recompute", "year=2001"),
    ),
    "backfill --recompute all": ("stale", ("backfill", "photos", *TO_PCA, "--recompute", "all")),
    "backfill --new-collection": (
        "raw",
        ("backfill", "photos", *TO_PCA, "--new-collection", "photos_v2"),
    ),
    "backfill --rollback": ("both", ("backfill", "photos", "--to", "pca", "--rollback", "--yes")),
    "compare": ("both", ("compare", *EVALUATED, "--no-controls")),
    "compare --where": (
        "both",
        ("compare", *EVALUATED, "--no-controls", "--task", "retrieval", "--where", "year=2001"),
    ),
    "compare unlabelled": ("both", ("compare", "photos")),
    "evaluate retrieval": ("both", ("evaluate", "retrieval", *EVALUATED)),
    "evaluate fewshot": (
        "both",
        ("evaluate", "fewshot", *EVALUATED, "--episodes", "2", "--shots", "1"),
    ),
    "evaluate index": (
        "both",
        ("evaluate", "index", *EVALUATED, "-k", "5", "--timed", "5", "--ef", "16"),
    ),
    "evaluate misalignment": ("both", ("evaluate", "misalignment", *EVALUATED)),
    "evaluate text": ("both", ("evaluate", "text", *EVALUATED)),
    "evaluate recovery": (
        "both",
        ("evaluate", "recovery", "photos", "--anchors", "names.txt", "--sizes", "4", *FEW),
    ),
    "evaluate fewshot-text": (
        "both",
        ("evaluate", "fewshot-text", *EVALUATED, "--episodes", "2", "--shots", "1"),
    ),
    "evaluate oti": ("both", ("evaluate", "oti", *EVALUATED, "--steps", "1")),
    "reproduce": (
        "both",
        ("reproduce", "table3", "--on", "photos", "--label", "kind", *MEASURED),
    ),
    "fit --center": (
        "raw",
        ("fit", "--model", "demo", "--anchors", "names.txt", "--center", "photos:raw", *CENTRED),
    ),
    "search --id": ("both", ("search", "photos", "--id", "{id}", "-k", "5")),
    "search --image": ("both", ("search", "photos", "--image", "0.png", *BY, "-k", "5")),
    "search --text": (
        "both",
        ("search", "photos", "--text", "thing 3", "--vectors", "raw", "-k", "5"),
    ),
    "search --exact": ("both", ("search", "photos", "--id", "{id}", "-k", "5", "--exact")),
    "export": ("both", ("export", "photos", "-o", "out.npy")),
    "adopt": ("foreign", ("adopt", "photos", "--made-by", "demo")),
    "doctor": ("both", ("doctor",)),
    "report": ("both", ("report", "-o", "report.html")),
}

# Cells in which the limit forbids what the command is for.
_WRITES = {
    "ingest",
    "ingest vectors",
    "backfill",
    "backfill --recompute kind",
    "backfill --recompute year",
    "backfill --recompute all",
}
SIZES = (
    "max_collection_vector_size_bytes",
    "max_collection_payload_size_bytes",
    "max_points_count",
    "max_resident_memory_percent",
)
REFUSED: dict[str, set[str]] = {
    "search_allow_exact": {"search --exact"},
    # The copy gets the limit with all other settings, and cannot have the indexes then.
    "max_payload_index_count": {"backfill --new-collection"},
    **dict.fromkeys(SIZES, _WRITES),
}

# Limits that commands keep by themselves: in the normal run all at once, each alone when slow.
KEPT = (
    "unindexed_filtering_update",
    "upsert_max_batchsize",
    "search_max_batchsize",
    "max_timeout",
    "search_max_hnsw_ef",
    "search_max_oversampling",
    "max_payload_index_count",
)


@dataclass
class Shop:
    """A server, what it may hold, and what each command answers there without a limit."""

    server: WireServer
    stages: dict[str, dict[str, Collection]]
    answers: dict[str, Any] = field(default_factory=dict)

    def set(self, stage: str, limits: Mapping[str, Any]) -> None:
        """Store a stage anew, under limits."""
        storage = self.server.storage
        storage.collections = copy.deepcopy(self.stages[stage])
        if limits:
            strict = models.StrictModeConfig(enabled=True, **limits)
            storage.update("photos", models.UpdateCollection(strict_mode_config=strict))
        storage.restart()
        self.photos.usage.memory_percent = 50

    def run(self, name: str) -> Result:
        """Run a command as a person would, on what is stored."""
        arguments = [a.format(id=self.first) for a in COMMANDS[name][1]]
        where = [] if name == "report" else ["--store", self.server.url]
        return CliRunner().invoke(cli, [*arguments, *where, "--json"])

    def answer(self, name: str) -> Any:
        """Return what a command says without a limit."""
        if name not in self.answers:
            self.set(COMMANDS[name][0], {})
            result = self.run(name)
            assert result.exit_code == 0, result.output
            self.answers[name] = json.loads(result.stdout)
        return self.answers[name]

    def seconds(self, name: str) -> float:
        """Return how long a command takes without a limit."""
        self.set(COMMANDS[name][0], {})
        started = time.monotonic()
        self.run(name)
        return time.monotonic() - started

    @property
    def first(self) -> str:
        return str(next(iter(self.stages["both"]["photos"].points)))

    @property
    def photos(self) -> Collection:
        return self.server.storage.collections["photos"]


def _invoke(*arguments: str) -> None:
    result = CliRunner().invoke(cli, list(arguments))
    assert result.exit_code == 0, result.output


def write_pictures() -> None:
    """Write pictures of `N_KINDS` colours, and their lists."""
    rng = np.random.default_rng(3)
    rows = []
    for n in range(N):
        pixels = rng.integers(0, 256, size=(SIDE, SIDE, 3), dtype=np.uint8)
        kind = n % N_KINDS
        if kind < 3:
            pixels[..., kind] = 192 + pixels[..., kind] // 4
        Image.fromarray(pixels).save(f"{n}.png")
        rows.append({"path": f"{n}.png", "kind": f"k{kind}", "year": 2000 + n % 3})
    for name, some in (("list.jsonl", rows), ("part.jsonl", rows[:-N_NEW])):
        Path(name).write_text("".join(json.dumps(row) + "\n" for row in some))
    Path("names.txt").write_text("".join(f"thing {n}\n" for n in range(40)))
    np.save("X.npy", rng.normal(size=(N, DIM)).astype(np.float32))


@pytest.fixture(scope="module", params=["rest", pytest.param("grpc", marks=pytest.mark.slow)])
def shop(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("strict")
    with (
        pytest.MonkeyPatch.context() as patch,
        WireServer(speaks_grpc=request.param == "grpc") as server,
    ):
        patch.chdir(folder)
        write_pictures()
        anchors = ("--anchors", "names.txt", "--components", "16", "-o", "pca.safetensors")
        _invoke("fit", "--model", "demo", *anchors)
        server.storage.minute_s = 1.0
        yield Shop(server, _stages(server))


def _stages(server: WireServer) -> dict[str, dict[str, Collection]]:
    stages = {}
    store = ("--store", server.url)
    into = ("--collection", "photos", "--model", "demo", *store)
    for stage, arguments in {
        "part": ("ingest", "part.jsonl", *into),
        "raw": ("ingest", "list.jsonl", *into),
        "both": ("backfill", "photos", *TO_PCA, *store),
    }.items():
        _invoke(*arguments)
        stages[stage] = copy.deepcopy(server.storage.collections)
    _invoke("compare", *EVALUATED, "--no-controls", *store)  # for the report
    stages["foreign"] = copy.deepcopy(stages["raw"])
    stages["foreign"]["photos"].metadata.clear()
    stages["stale"] = copy.deepcopy(stages["both"])
    for point in stages["stale"]["photos"].points.values():
        point.vectors["pca"] = np.roll(point.vectors["pca"], 1)
    return stages


# What must have happened


def _same(shop: Shop, name: str, found: Any) -> None:
    assert _lasting(found) == _lasting(shop.answer(name))


_PASSING = ("run_id", "latenc", "_ms", "_s", "created", "duration", "per_second", "version")
_PASSING += ("seconds", "is_kept", "n_new")  # cells and texts of an earlier call are kept


def _lasting(found: Any) -> Any:
    """Return an answer without what differs from run to run."""
    if isinstance(found, dict):
        return {
            key: _lasting(value)
            for key, value in found.items()
            if not any(key.endswith(p) or key.startswith(p) for p in _PASSING)
        }
    return [_lasting(one) for one in found] if isinstance(found, list) else found


def _n_points(n: int) -> Callable[[Shop, str, Any], None]:
    def check(shop: Shop, name: str, found: Any) -> None:
        points = shop.photos.points.values()
        assert [len(points), sum("raw" in point.vectors for point in points)] == [n, n]

    return check


def _projected(is_due: Callable[[Mapping[str, Any]], bool]) -> Callable[[Shop, str, Any], None]:
    """Return the check that points of some payload have the right `pca`, all others the old."""

    def check(shop: Shop, name: str, found: Any) -> None:
        right, stored = shop.stages["both"]["photos"].points, shop.photos.points
        before = shop.stages[COMMANDS[name][0]]["photos"].points
        for point, now in stored.items():
            then = right if is_due(now.payload) else before
            # float32 sums of 256 products, in batches of another size
            np.testing.assert_allclose(
                now.vectors["pca"], then[point].vectors["pca"], rtol=0, atol=1e-6
            )
        assert len(stored) == N

    return check


def _unchanged(shop: Shop, name: str, found: Any) -> None:
    before = shop.stages[COMMANDS[name][0]]["photos"]
    assert shop.photos.points.keys() == before.points.keys()
    assert shop.photos.vectors == before.vectors
    assert shop.photos.metadata == before.metadata


def _copied(shop: Shop, name: str, found: Any) -> None:
    """Fail unless the copy has everything and the right `pca`, and the old one is unchanged."""
    _unchanged(shop, name, found)
    right = shop.stages["both"]["photos"].points
    new = shop.server.storage.collections["photos_v2"].points
    assert new.keys() == right.keys()
    for point, now in new.items():
        assert now.payload == right[point].payload
        for vector, x in right[point].vectors.items():  # as in `_projected`
            np.testing.assert_allclose(now.vectors[vector], x, rtol=0, atol=1e-6)


def _rolled_back(shop: Shop, name: str, found: Any) -> None:
    assert list(shop.photos.vectors) == ["raw"]


def _adopted(shop: Shop, name: str, found: Any) -> None:
    assert shop.photos.metadata


def _exported(shop: Shop, name: str, found: Any) -> None:
    assert np.load("out.npy").shape == (N, 16)


EFFECTS: dict[str, Callable[[Shop, str, Any], None]] = {
    "ingest": _n_points(N),
    "ingest vectors": _n_points(N - N_NEW + N),
    "backfill": _projected(lambda payload: True),
    "backfill --dry-run": _unchanged,
    "backfill --recompute kind": _projected(lambda payload: payload["kind"] in ("k1", "k2")),
    "backfill --recompute year": _projected(lambda payload: payload["year"] == 2001),
    "backfill --recompute all": _projected(lambda payload: True),
    "backfill --new-collection": _copied,
    "backfill --rollback": _rolled_back,
    "export": _exported,
    "adopt": _adopted,
    "doctor": lambda shop, name, found: None,
    "report": lambda shop, name, found: None,
}


def _without_searches(limit: str, shop: Shop, name: str, found: Any, said: str) -> None:
    """Fail unless everything is the same but the measured searches, which a warning leaves out."""
    measured = ("latency_ms_p50", "latency_ms_p95", "recall_at_10")
    for cost in found["cost"].values():
        assert [cost[figure] for figure in measured] == [None] * 3
    _same_but_searches(limit, shop, name, found, said)


def _fewer_queries(limit: str, shop: Shop, name: str, found: Any, said: str) -> None:
    """Fail unless everything is the same but the searches, by few queries, as a warning says."""
    assert [cost["n_probes"] for cost in found["cost"].values()] == [5] * 3
    _same_but_searches(limit, shop, name, found, said)


def _same_but_searches(limit: str, shop: Shop, name: str, found: Any, said: str) -> None:
    assert shop.photos.indexes == shop.stages["both"]["photos"].indexes
    expected = copy.deepcopy(shop.answer(name))
    assert limit in said
    # What the store was asked for; all else is of the vectors that were read.
    for answer in (found, expected):
        answer["cost"] = answer.get("agreement", {})["disagreements"] = None
    assert _lasting(found) == _lasting(expected)


def _as_told(limit: str, shop: Shop, name: str, found: Any, said: str) -> None:
    """Fail unless everything is the same, and a warning says how long it takes."""
    assert limit in said
    assert "minutes" in said
    _same(shop, name, found)


def _fewer_candidates(limit: str, shop: Shop, name: str, found: Any, said: str) -> None:
    """Fail unless the searches without candidates are the same, and a warning tells of others."""
    rows, expected = (_lasting(one)["rows"] for one in (found, shop.answer(name)))
    assert [row["search"] for row in rows] == [row["search"] for row in expected]
    for now, then in zip(rows, expected, strict=True):
        assert ">" in now["search"] or now == then
    assert limit in said


LESS: dict[tuple[str, str], Callable[[str, Shop, str, Any, str], None]] = {
    **{
        ("max_query_limit", name): _without_searches
        for name in ("compare", "compare --where", "compare unlabelled")
    },
    **{
        ("read_rate_limit", name): _fewer_queries
        for name in ("compare", "compare --where", "compare unlabelled")
    },
    # What only judges writes nothing, no index either.
    ("unindexed_filtering_retrieve", "compare --where"): _without_searches,
    ("filter_max_conditions", "compare --where"): _without_searches,
    ("max_query_limit", "evaluate index"): _fewer_candidates,
    ("read_rate_limit", "evaluate index"): _as_told,
}
"""Cells in which a command does less than without the limit, and says so."""


def works(shop: Shop, name: str, result: Result, limit: str = "", said: str = "") -> None:
    """Fail unless a command did, or said, what it does without a limit, or warned of less."""
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    if (limit, name) in LESS:
        LESS[limit, name](limit, shop, name, found, said)
    else:
        EFFECTS.get(name, _same)(shop, name, found)


def is_refused(shop: Shop, name: str, limit: str, result: Result, took_s: float) -> None:
    """Fail unless a command said at once, in one sentence, which limit forbids it."""
    assert result.exit_code == 1, result.output
    sentence = json.loads(result.stdout)["error"]["message"]
    assert limit in sentence
    assert sentence.count("\n") == 0
    # On a busy machine, within that of the time that the command takes anyway.
    assert took_s < PROMPT_S or took_s < PROMPT_S + shop.seconds(name)


# Beside `compare` these say something of their own under few limits only.
OWN = {
    "compare --where": {"unindexed_filtering_retrieve", "filter_max_conditions"},
    "compare unlabelled": {"max_query_limit"},
    "search --image": {"search_allow_exact"},
    "search --text": {"search_allow_exact"},
    "evaluate text": {"max_query_limit"},
    "evaluate recovery": {"max_query_limit"},
    "evaluate fewshot-text": {"max_query_limit"},
    "evaluate oti": {"max_query_limit"},
    "reproduce": {"max_query_limit"},
    "fit --center": {"max_query_limit"},
    "report": {"search_allow_exact"},
}


def _marks(limit: str, name: str) -> list[Any]:
    """Return what a cell is marked with: those that say little more than others are slow."""
    only_reads = name not in _WRITES | {"backfill --rollback", "adopt"}
    only_reads |= name == "backfill --new-collection"  # the copy is far from a size of the old one
    is_slow = (
        limit in KEPT
        or (only_reads and limit in (*SIZES, "write_rate_limit"))
        or limit not in OWN.get(name, {limit})
        or (limit, name) == ("read_rate_limit", "evaluate index")  # it waits for its reads
    )
    return [pytest.mark.slow] if is_slow else []


CELLS = [
    pytest.param(limit, name, marks=_marks(limit, name)) for limit in LIMITS for name in COMMANDS
]


@pytest.mark.parametrize(("limit", "name"), CELLS)
def test_a_command_works_under_a_limit_or_names_it(
    shop: Shop, limit: str, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    shop.set(COMMANDS[name][0], LIMITS[limit])
    started = time.monotonic()
    result = shop.run(name)
    took_s = time.monotonic() - started
    if name in REFUSED.get(limit, ()):
        is_refused(shop, name, limit, result, took_s)
    else:
        works(shop, name, result, limit, caplog.text)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_keeps_the_limits_that_it_can_keep(shop: Shop, name: str) -> None:
    kept = [LIMITS[limit] for limit in KEPT if name not in REFUSED.get(limit, ())]
    shop.set(COMMANDS[name][0], dict(ChainMap(*kept)))
    works(shop, name, shop.run(name))


def test_an_ingest_goes_on_without_an_index_that_is_one_too_many(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    shop.set("part", {"max_payload_index_count": 0})
    shop.photos.indexes.clear()
    works(shop, "ingest", shop.run("ingest"))
    assert shop.photos.indexes == {}
    assert "max_payload_index_count" in caplog.text


@pytest.mark.parametrize("key", ["full", "points"])
def test_a_recomputation_makes_the_index_that_its_filter_needs_if_the_key_may(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, key: str
) -> None:
    """Without it the field of every point is read, and compared here."""
    name = "backfill --recompute kind"
    shop.set("stale", LIMITS["unindexed_filtering_retrieve"])
    shop.photos.indexes.pop("kind", None)

    def refused(collection: Collection, field: str) -> None:
        raise WireError(403, "Forbidden: Write access to collection photos is required")

    if key == "points":
        monkeypatch.setattr(limits, "check_index", refused)
    works(shop, name, shop.run(name))
    assert ("kind" in shop.photos.indexes) is (key == "full")
    assert ("made a payload index on 'kind' (keyword)" in caplog.text) is (key == "full")
