"""``intramodal backfill`` in all its ways, as a person types it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from intramodal import ImageCollection, Projection, open_store
from intramodal.commands.options import DEFAULT_STORE
from intramodal.commands.trusted_folders import trust
from intramodal.store.base import UNNAMED, VectorSpec
from tests.cli.kit import invoke, run

N, D, MODEL = 40, 16, "some model"
PLACE = ("backfill", "photos", "--projection", "pca.safetensors")


@pytest.fixture(autouse=True)
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    """Leave a projection file, and `photos` with an adopted vector, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    matrix = np.linalg.qr(rng.normal(size=(D, D // 2)))[0]
    Projection(matrix, "pca", MODEL, f"declared:{MODEL}").save("pca.safetensors")
    X = rng.normal(size=(N, D)).astype(np.float32)
    with open_store(DEFAULT_STORE) as store:
        store.create("photos", {"raw": VectorSpec(D)})
        payloads = [{"kind": "ab"[n % 2], "n": n} for n in range(N)]
        store.upsert("photos", list(range(N)), {"raw": X}, payloads)
    run("adopt", "photos", "--made-by", MODEL)


def change_raw(*ids: int) -> None:
    with open_store(DEFAULT_STORE) as store:
        store.update_vectors("photos", "raw", list(ids), -np.eye(len(ids), D, dtype=np.float32))


def state() -> dict[str, Any]:
    with open_store(DEFAULT_STORE) as store:
        infos = {name: store.info(name) for name in store.collections()}
        return {"collections": infos, "aliases": store.aliases()}


def test_the_json_of_a_backfill_and_of_a_repeat() -> None:
    with open_store(DEFAULT_STORE) as store:
        store.upsert("photos", [99], {"raw": np.zeros((1, D), np.float32)}, [{}])
    done = run(*PLACE)
    assert (done["projected"], done["skipped"], done["unprojectable"]) == (N, 0, 1)
    assert done["failures"] == [
        {"item": "99", "stage": "project", "reason": "its vector 'raw' is zero"}
    ]
    assert (done["collection"], done["source"], done["vector"]) == ("photos", "raw", "pca")
    assert done["run_id"]
    assert done["seconds"] >= 0
    assert run(*PLACE)["sentence"] == "nothing to do, 1 point cannot be projected"
    said = invoke(*PLACE)
    assert "nothing to do, 1 point cannot be projected" in said.stdout
    assert "project: 99: its vector 'raw' is zero" in said.stderr


def test_a_stale_vector_is_reported_by_the_exit_code_and_mended() -> None:
    run(*PLACE)
    fine = run(*PLACE, "--verify", "1000")
    assert (fine["checked"], fine["stale"], fine["stale_ids"]) == (N, 0, [])
    change_raw(3, 5)
    before = state()
    found = run(*PLACE, "--verify", "1000", code=1)
    assert (found["checked"], found["stale"], found["stale_ids"]) == (N, 2, [3, 5])
    said = invoke(*PLACE, "--verify", "1000")
    assert said.exit_code == 1
    assert "2 of 40 points are stale" in said.stdout
    assert state() == before
    planned = run(*PLACE, "--recompute", "id=3,5", "--dry-run")
    assert planned["n_matching"] == 2
    assert run(*PLACE, "--recompute", "id=3,5")["projected"] == 2
    assert run(*PLACE, "--verify", "1000")["stale"] == 0
    assert run(*PLACE, "--recompute", "kind=a", "--recompute", "n=0,1,2")["projected"] == 2
    assert run(*PLACE, "--recompute", "all")["projected"] == N


def test_checking_needs_no_runs_database() -> None:
    run(*PLACE)
    checked = run(*PLACE, "--verify", "5", "--runs", "never/there.db")
    assert checked["checked"] == 5
    assert not Path("never").exists()


def test_a_copy_is_planned_made_switched_and_undone_by_its_alias() -> None:
    with open_store(DEFAULT_STORE) as store:
        store.set_alias("shown", "photos")
    place = ("backfill", "shown", "--projection", "pca.safetensors", "--new-collection", "new")
    before = state()
    plan = run(*place, "--dry-run")
    assert (plan["collection"], plan["aliases"]) == ("photos", ["shown"])
    assert "pause the writers" in invoke(*place, "--dry-run").stdout
    assert state() == before
    done = run(*place)
    assert (done["copied"], done["projected"], done["aliases"]) == (N, N, ["shown"])
    assert run(*place)["copied"] == 0
    assert run("search", "shown", "--id", "1", "--vectors", "pca", "-k", "2")["vectors"]["pca"]
    assert run("backfill", "shown", "--rollback", "--dry-run")["is_plan"]
    undone = run("backfill", "shown", "--rollback")
    assert (undone["back_to"], undone["aliases"]) == ("photos", ["shown"])
    assert state()["aliases"] == {"shown": "photos"}


def test_points_left_behind_need_a_yes() -> None:
    with open_store(DEFAULT_STORE) as store:
        store.set_alias("shown", "photos")
    run(*PLACE, "--new-collection", "new")
    with open_store(DEFAULT_STORE) as store:
        store.upsert("new", [777], {"raw": np.ones((1, D), np.float32)}, [{}])
    refused = run("backfill", "new", "--rollback", code=1)
    assert "--yes" in refused["error"]["message"]
    assert run("backfill", "new", "--rollback", "--yes")["only_in_new"] == 1


def test_a_backfill_in_place_is_undone() -> None:
    run(*PLACE)
    assert run("backfill", "photos", "--rollback")["removed"] == N
    assert run("backfill", "photos", "--rollback")["sentence"].startswith("nothing to roll back")
    kinds = [row["kind"] for row in run("runs", "list")["runs"]]
    assert kinds == [*["backfill"] * 3, "adopt"]


def test_the_new_vector_is_stored_as_it_is_wanted() -> None:
    wanted = ("--on-disk", "--quantize", "scalar", "--datatype", "float16")
    assert run(*PLACE, *wanted, "--dry-run")["bytes_added"] == 2 * N * D // 2
    run(*PLACE, *wanted)
    run(*PLACE, *wanted, "--new-collection", "new")
    for name in ("photos", "new"):
        info = state()["collections"][name]
        assert info.vectors["pca"] == VectorSpec(D // 2, datatype="float16")
        assert info.settings["vectors"] == {
            "pca": {
                "on_disk": True,
                "quantization_config": {"scalar": {"type": "int8", "always_ram": True}},
            }
        }
    refused = run(*PLACE, "--datatype", "float32", code=1)
    assert "stored as float16 already" in refused["error"]["message"]


def test_an_unnamed_vector_is_filled_compared_and_searched_beside_a_named_one(
    rng: np.random.Generator,
) -> None:
    with open_store(DEFAULT_STORE) as store:
        store.create("shop", {UNNAMED: VectorSpec(D)})
        X = rng.normal(size=(N, D)).astype(np.float32)
        payloads = [{"kind": "ab"[n % 2]} for n in range(N)]
        store.upsert("shop", list(range(N)), {UNNAMED: X}, payloads)
    place = ("backfill", "shop", "--projection", "pca.safetensors", "--from", "")
    made_by = ("--made-by", MODEL)
    assert run(*place, *made_by, "--dry-run")["n_missing"] == N
    assert run(*place, *made_by, "--new-collection", "new")["projected"] == N
    with open_store(DEFAULT_STORE) as store:
        assert set(ImageCollection.open(store, "new").info().vectors) == {"raw", "pca"}
    assert run(*place)["projected"] == N
    assert run(*place, "--verify", "9")["stale"] == 0
    both = ("shop", "--vectors", "'',pca")
    found = run("search", *both, "--id", "1", "-k", "2")["vectors"]
    assert {name: len(hits) for name, hits in found.items()} == {UNNAMED: 2, "pca": 2}
    said = invoke("search", *both, "--id", "1")
    assert "'': score" in said.stdout
    for command in (("compare",), ("evaluate", "retrieval"), ("evaluate", "fewshot")):
        said = invoke(*command, *both, "--labels", "kind")
        assert said.exit_code == 0, said.output
    index = run(
        "evaluate", "index", "shop", "--searches", "'',pca,pca:'',pca+''", "--labels", "kind"
    )
    assert [row["search"] for row in index["rows"]] == ["''", "pca", "pca > ''", "pca + ''"]
    run("export", "shop", "--vector", "", "-o", "all.npy")
    assert np.load("all.npy").shape == (N, D)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--verify", "5", "--rollback"], "one of --verify and --rollback"),
        (["--verify", "5", "--recompute", "all"], "one of --verify and --recompute"),
        (["--verify", "5", "--dry-run"], "--verify takes no --dry-run"),
        (["--verify", "5", "--new-collection", "new"], "--verify takes no --new-collection"),
        (["--verify", "0"], "x>=1"),
        (["--verify", "5", "--on-disk"], "--verify takes no --on-disk"),
        (["--recompute", "all", "--datatype", "float16"], "--recompute takes no --datatype"),
        (["--quantize", "product"], "'product' is not one of"),
        (["--recompute", "all", "--new-collection", "new"], "takes no --new-collection"),
        (["--recompute", "all", "--made-by", "m"], "takes no --made-by"),
        (["--recompute", "label"], "is not a filter"),
        (["--recompute", "all", "--recompute", "n=1"], "is not a filter"),
        (["--rollback", "--throttle", "5"], "--rollback takes no --projection and --throttle"),
        (["--rollback", "--new-collection", "new"], "--new-collection"),
        (["--yes", "--new-collection", "new"], "--new-collection takes no --yes"),
        (["--throttle", "0"], "x>0"),
        (["--batch-size", "0"], "x>=1"),
    ],
    ids=" ".join,
)
def test_options_that_make_no_sense_together_are_wrong_usage(
    arguments: list[str], said: str
) -> None:
    before = state()
    result = invoke(*PLACE, *arguments)
    assert result.exit_code == 2
    assert said in result.stderr
    assert state() == before


def test_all_but_a_rollback_need_a_projection() -> None:
    for more in ((), ("--verify", "5"), ("--recompute", "all"), ("--dry-run",)):
        result = invoke("backfill", "photos", *more)
        assert result.exit_code == 2
        assert "Missing option '--projection'" in result.stderr


def test_a_configured_projection_is_not_in_the_way_of_a_rollback() -> None:
    run(*PLACE)
    Path("intramodal.toml").write_text('[backfill]\nprojection = "pca.safetensors"\n')
    trust(Path.cwd())
    assert run("backfill", "photos", "--verify", "5")["checked"] == 5
    assert run("backfill", "photos", "--rollback")["removed"] == N


def test_refusals_are_one_sentence_and_leave_everything_as_it_was() -> None:
    before = state()
    for arguments, said in (
        (["backfill", "photo", *PLACE[2:]], "'photos'"),
        ([*PLACE, "--from", "absent"], "no vector 'absent'"),
        ([*PLACE, "--verify", "5"], "run the backfill first"),
        ([*PLACE, "--recompute", "all"], "run the backfill first"),
        ([*PLACE, "--new-collection", "photos"], "into itself"),
        ([*PLACE, "--new-collection", "a/b"], "cannot be the name"),
        (["backfill", "photos", "--rollback", "--to", "raw"], "nothing to undo"),
    ):
        result = invoke(*arguments)
        assert result.exit_code == 1, arguments
        assert said in result.stderr
        assert result.stderr.count("\n") == 1
        assert state() == before
