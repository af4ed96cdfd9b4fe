"""Ready vectors from the command line: in, refused, and out again."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from intramodal import ImageCollection, Projection, open_store
from intramodal.commands.options import DEFAULT_STORE
from intramodal.commands.trusted_folders import trust
from intramodal.store.base import VectorSpec
from intramodal.types import point_id, unit_rows
from tests.cli.kit import invoke, run

N, D, MODEL = 60, 16, "hf:our/clip"
PLACE = ("--collection", "shop", "--made-by", MODEL)


@pytest.fixture
def X(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> np.ndarray:
    """Go to a folder with vectors, their metadata and embedded class names."""
    monkeypatch.chdir(tmp_path)
    X = rng.normal(size=(N, D)).astype(np.float32)
    np.save("X.npy", X)
    rows = [f"sku-{n},{n % 4}" for n in range(N)]
    Path("meta.csv").write_text("\n".join(["sku,label", *rows]))
    Path("names.txt").write_text("".join(f"thing {i}\n" for i in range(40)))
    np.save("T.npy", rng.normal(size=(40, D)).astype(np.float32))
    return X


def fit(made_by: str = MODEL) -> None:
    text = ("--text-vectors", "T.npy", "--made-by", made_by, "--anchors", "names.txt")
    run("fit", *text, "-o", "pca.safetensors")


@pytest.mark.parametrize("suffix", ["npy", "safetensors"])
def test_a_fit_of_texts_that_are_not_finite_is_one_sentence(X: np.ndarray, suffix: str) -> None:
    """Issue 20, F11."""
    T = np.load("T.npy")
    T[3, 1] = np.nan
    np.save("T.npy", T)
    save_file({"T": T}, "T.safetensors")
    text = ("--text-vectors", f"T.{suffix}", "--made-by", MODEL, "--anchors", "names.txt")
    result = invoke("fit", *text, "-o", "pca.safetensors", "--json")
    assert result.exit_code == 1
    assert "row 3 of" in json.loads(result.stdout)["error"]["message"]


def test_a_load_of_which_everything_failed_is_an_error(X: np.ndarray) -> None:
    """Issue 20, F22; what was kept before, or in part, is none."""
    np.save("bad.npy", np.zeros_like(X))
    meta = ("--metadata", "meta.csv", "--id-column", "sku")
    for args in (("--json",), ()):
        assert invoke("ingest", "bad.npy", *meta, *PLACE, *args).exit_code == 1
    half = np.concatenate([X[:30], np.zeros_like(X[30:])])
    np.save("half.npy", half)
    assert run("ingest", "half.npy", *meta, *PLACE)["failed"] == 30
    assert run("ingest", "half.npy", *meta, *PLACE)["skipped"] == 30
    assert invoke("ingest", "half.npy", *meta, *PLACE).exit_code == 0


def test_a_backfill_that_could_project_no_point_is_an_error(X: np.ndarray) -> None:
    """Issue 20, F22."""
    with open_store(DEFAULT_STORE) as store:
        store.create("shop", {"raw": VectorSpec(D)})
        store.upsert("shop", list(range(5)), {"raw": np.zeros((5, D), np.float32)}, [{}] * 5)
    fit()
    args = ("backfill", "shop", "--projection", "pca.safetensors")
    assert invoke(*args, "--made-by", MODEL).exit_code == 1
    run(
        "ingest",
        "X.npy",
        "--metadata",
        "meta.csv",
        "--id-column",
        "sku",
        *PLACE,
        "--projection",
        "pca.safetensors",
    )
    assert invoke(*args).exit_code == 0


def test_names_and_values_with_commas_can_be_written(X: np.ndarray) -> None:
    """Issue 20, F14 and F24."""
    shops = ["Smith, Sons", "Jones"]
    rows = [f'{n},"{n % 4}","{shops[n % 2]}"' for n in range(N)]
    Path("shops.csv").write_text("\n".join(['id,"kind, rough",shop', *rows]))
    run("ingest", "X.npy", "--metadata", "shops.csv", *PLACE)
    args = ("evaluate", "retrieval", "shop", "--labels", '"kind, rough"', "--cluster", "none")
    quoted = (*args, "--vectors", "raw", "--queries", 'shop="Smith, Sons"')
    result = invoke(*quoted)
    assert result.exit_code == 0, result.stderr
    refused = invoke(*args, "--vectors", "raw", "--queries", "shop=Smith, Sons")
    assert refused.exit_code == 1
    assert 'write a value with a comma in double quotes: "Smith, Sons"' in refused.stderr
    made = invoke("ingest", "X.npy", "--metadata", "shops.csv", "--vector", "a,b", *PLACE)
    assert made.exit_code == 1
    assert "'a,b' cannot be the name of a new vector" in made.stderr


def test_a_vector_of_others_with_a_comma_in_its_name_can_be_evaluated(X: np.ndarray) -> None:
    with open_store(DEFAULT_STORE) as store:
        store.create("theirs", {"a,b": VectorSpec(D)})
        payloads = [{"label": str(n % 4)} for n in range(N)]
        store.upsert("theirs", list(range(N)), {"a,b": X}, payloads)
    args = ("evaluate", "retrieval", "theirs", "--labels", "label", "--cluster", "none")
    result = invoke(*args, "--vectors", '"a,b"')
    assert result.exit_code == 0, result.stderr


def test_a_recomputation_of_no_point_is_refused(X: np.ndarray) -> None:
    """Issue 20, F13."""
    run("ingest", "X.npy", "--metadata", "meta.csv", "--id-column", "sku", *PLACE)
    fit()
    run("backfill", "shop", "--projection", "pca.safetensors")
    for where, said in (
        ("labl=1", "no point of 'shop' has labl=1; its payload fields are 'label', 'sku'"),
        ("label=7", "no point of 'shop' has label=7; some of its values are '0', '1', '2', '3'"),
        (f"id={N + 7}", "no point of 'shop' has id="),
    ):
        for dry in ((), ("--dry-run",)):
            result = invoke(
                "backfill", "shop", "--projection", "pca.safetensors", "--recompute", where, *dry
            )
            assert result.exit_code == 1
            assert said in result.stderr


def test_vectors_and_metadata_become_a_collection_and_a_repeat_does_nothing(
    X: np.ndarray,
) -> None:
    done = run("ingest", "X.npy", "--metadata", "meta.csv", "--id-column", "sku", *PLACE)
    assert {key: done[key] for key in ("written", "skipped", "updated", "failed", "pruned")} == {
        "written": N, "skipped": 0, "updated": 0, "failed": 0, "pruned": 0,
    }  # fmt: skip
    assert (done["collection"], done["failures"], done["ids"]) == ("shop", [], "column sku")
    assert done["seconds"] >= 0
    again = run("ingest", "X.npy", "--metadata", "meta.csv", "--id-column", "sku", *PLACE)
    assert (again["written"], again["skipped"]) == (0, N)
    shown = run("runs", "show", done["run_id"])
    assert (shown["kind"], shown["status"]) == ("ingest", "COMPLETE")
    assert [f["name"] for f in shown["fingerprints"]] == [MODEL]
    with open_store(DEFAULT_STORE) as store:
        page = store.retrieve("shop", [point_id("shop", "sku-7")], vectors=["raw"], payload=True)
    np.testing.assert_allclose(page.vectors["raw"], unit_rows(X[7:8]), atol=1e-6)  # float32
    assert page.payloads == [{"sku": "sku-7", "label": "3"}]


def test_both_vectors_arrive_at_once_and_a_backfill_has_nothing_to_do(X: np.ndarray) -> None:
    fit()
    run("ingest", "X.npy", *PLACE, "--projection", "pca.safetensors")
    again = run("backfill", "shop", "--projection", "pca.safetensors")
    assert again["skipped"] == N
    with open_store(DEFAULT_STORE) as store:
        table = ImageCollection.open(store, "shop").table(["raw", again["vector"]])
    assert table.n_incomplete == 0
    expected = unit_rows(Projection.load("pca.safetensors").apply(table.vectors["raw"]))
    # float32 dot products over 16 terms, stored normalised
    np.testing.assert_allclose(table.vectors[again["vector"]], expected, atol=1e-5)


def test_models_that_disagree_are_never_mixed(X: np.ndarray) -> None:
    run("ingest", "X.npy", *PLACE)
    other = ("--collection", "shop", "--made-by", "hf:other/clip")
    refused = run("ingest", "X.npy", *other, code=1)["error"]
    assert refused["type"] == "ManifestMismatchError"
    assert MODEL in refused["message"]
    fit("hf:other/clip")
    refused = run("backfill", "shop", "--projection", "pca.safetensors", code=1)["error"]
    assert "fitted for hf:other/clip" in refused["message"]
    more = ("--collection", "new", "--made-by", MODEL, "--projection", "pca.safetensors")
    assert "fitted for" in run("ingest", "X.npy", *more, code=1)["error"]["message"]
    with open_store(DEFAULT_STORE) as store:
        assert store.collections() == ["shop"]
        assert set(store.info("shop").vectors) == {"raw"}


def test_a_second_models_vectors_get_a_name_of_their_own(X: np.ndarray) -> None:
    run("ingest", "X.npy", *PLACE)
    np.save("dino.npy", X[:, :5])
    dino = ("--collection", "shop", "--made-by", "hf:dino", "--vector", "dino")
    assert run("ingest", "dino.npy", *dino)["written"] == N
    assert run("ingest", "dino.npy", *dino)["skipped"] == N
    assert run("ingest", "X.npy", *PLACE)["skipped"] == N
    with open_store(DEFAULT_STORE) as store:
        shop = ImageCollection.open(store, "shop")
        assert shop.table(["raw", "dino"]).n_incomplete == 0
        assert shop.origin("dino").is_complete


def test_safetensors_and_parquet_give_the_same_collection(X: np.ndarray) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from safetensors.numpy import save_file

    save_file({"image": X, "text": X[:2]}, "X.safetensors")
    rows = list(csv.DictReader(Path("meta.csv").read_text().splitlines()))
    pq.write_table(pa.table({"clip": list(X), "sku": [row["sku"] for row in rows]}), "X.parquet")
    meta = ("--metadata", "meta.csv", "--id-column", "sku")
    assert run("ingest", "X.npy", *meta, *PLACE)["written"] == N
    assert run("ingest", "X.safetensors", "--tensor", "image", *meta, *PLACE)["skipped"] == N
    parquet = ("X.parquet", "--vector-column", "clip", "--id-column", "sku")
    assert run("ingest", *parquet, *PLACE)["skipped"] == N


def test_row_numbers_as_ids_are_said(X: np.ndarray) -> None:
    result = invoke("ingest", "X.npy", *PLACE)
    assert result.exit_code == 0, result.stderr
    assert "ids are the row numbers" in result.stderr
    assert "60" in result.stdout


def test_bad_rows_are_listed_and_limited(X: np.ndarray) -> None:
    X[3], X[5] = 0, np.nan
    np.save("X.npy", X)
    done = run("ingest", "X.npy", *PLACE)
    assert (done["written"], done["failed"]) == (N - 2, 2)
    assert [f["item"] for f in done["failures"]] == ["3", "5"]
    refused = run("ingest", "X.npy", *PLACE, "--max-failures", "1", code=1)["error"]["message"]
    assert refused.startswith("2 rows failed and 1 are allowed")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["X.npy", "--model", "demo"], "give --made-by"),
        (["X.npy"], "give either --model"),
        (["."], "give either --model"),
        (["X.npy", "--model", "demo", "--made-by", "demo"], "give either --model"),
        ([".", "--made-by", "demo"], "images are encoded with --model"),
        (["list.csv", "--made-by", "demo"], "images are encoded with --model"),
        ([".", "--model", "demo", "--metadata", "meta.csv"], "--metadata is for ready vectors"),
        ([".", "--model", "demo", "--vector", "x"], "--vector is for ready vectors"),
        (["X.npy", "--made-by", "m", "--prune"], "--prune is for images"),
        (["X.npy", "--made-by", "m", "--dry-run"], "--dry-run is for images"),
        (["X.npy", "--made-by", "m", "--yes"], "--yes is for images"),
        (["X.npy", "--made-by", "m", "--device", "cpu"], "--device is for images"),
        (["X.npy", "--made-by", "m", "--label-from", "parent"], "--label-from is for images"),
        (["X.npy", "--made-by", "m", "--id-column", "sku"], "give that file too"),
        (["X.npy", "--made-by", "m", "--tensor", "x"], "--tensor is for .safetensors"),
        (["X.npy", "--made-by", "m", "--vector-column", "x"], "--vector-column is for .parquet"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_options_that_make_no_sense_together_are_wrong_usage(
    X: np.ndarray, arguments: list[str], said: str
) -> None:
    before = set(Path().iterdir())
    result = invoke("ingest", *arguments, "--collection", "shop")
    assert result.exit_code == 2, result.output
    assert said in " ".join(result.stderr.split())
    assert set(Path().iterdir()) == before


def test_the_command_line_wins_over_the_configuration(X: np.ndarray) -> None:
    Path("intramodal.toml").write_text('[ingest]\nmodel = "demo"\ndevice = "cpu"\n')
    trust(Path.cwd())
    assert run("ingest", "X.npy", *PLACE)["written"] == N


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["no.npy"], "there is no file no.npy"),
        (["X.npy", "--metadata", "meta.csv"], "no column 'id'"),
        (["X.npy", "--metadata", "no.csv"], "cannot be read"),
        (["X.npy", "--metadata", "short.csv"], "has 2 rows and X.npy 60 vectors"),
        (["X.npy", "--metadata", "twice.csv"], "'a' in rows 1 and 3"),
        (["X.npy", "--metadata", "open.csv"], "line 3 of open.csv opens a quote that is never"),
        (["X.npy", "--metadata", "taken.tsv"], "rows and X.npy 60 vectors"),
        (["X.npy", "--projection", "no.safetensors"], "there is no projection"),
        (["X.npy", "--dataset", "a/b"], "no slash"),
        (["X.npy", "--vector", "a/b"], "cannot be the name of a vector"),
        (["X.npy", "--vector", "raw", "--made-by", " "], "has no name"),
        (["one.npy"], "shape (3,)"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_sentence_and_leaves_nothing_behind(
    X: np.ndarray, arguments: list[str], said: str
) -> None:
    np.save("one.npy", X[0, :3])
    Path("short.csv").write_text("id\n1\n2\n")
    rows = [f"{n},1 in\n" for n in range(N)]
    open_quote = ["id,size\n", rows[0], '1,"2 in\n', *rows[2:]]
    Path("open.csv").write_text("".join(open_quote))
    taken = "".join([*open_quote[:9], '8,3"\n', *open_quote[10:]])
    Path("taken.tsv").write_text(taken.replace(",", "\t"))
    Path("twice.csv").write_text("id\n" + "a\nb\na\n" + "\n".join(map(str, range(57))))
    before = set(Path().iterdir())
    made_by = () if "--made-by" in arguments else ("--made-by", MODEL)
    result = invoke("ingest", *arguments, "--collection", "shop", *made_by)
    assert result.exit_code == 1, result.output
    assert said in result.stderr
    assert result.stderr.count("\n") == 1
    assert set(Path().iterdir()) == before


@pytest.mark.parametrize(
    "model",
    ["demos", "ViT-B-32", "open_clip:ViT-B-99:openai", "open_clip:local-dir:gone", "slip:gone.pt"],
)
def test_a_model_that_cannot_be_loaded_leaves_nothing_behind(X: np.ndarray, model: str) -> None:
    Path("photos").mkdir()
    Path("photos/1.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    before = set(Path().rglob("*"))
    refused = run("ingest", "photos", "--collection", "shop", "--model", model, code=1)["error"]
    assert refused["type"] == "ModelError"
    assert set(Path().rglob("*")) == before


def test_ready_vectors_need_no_torch(X: np.ndarray) -> None:
    code = (
        "import sys; from intramodal.cli import cli\n"
        "try: cli(sys.argv[1:])\n"
        "finally: print(sorted({'torch', 'open_clip', 'transformers'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code, "ingest", "X.npy", *PLACE, "--json"]
    root = str(Path(__file__).parents[2])
    env = {**os.environ, "PYTHONPATH": root}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("option", ["--shards", "--replicas", "--write-consistency"])
def test_what_needs_a_cluster_is_refused_by_the_embedded_store(X: np.ndarray, option: str) -> None:
    found = run("ingest", "X.npy", *PLACE, option, "2", code=1)
    assert "needs a server" in found["error"]["message"]
    with open_store(DEFAULT_STORE) as store:
        assert store.collections() == []
