"""From a folder of pictures to points, through the command line and a real (tiny) model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from intramodal import ImageCollection, Projection, load_encoder, open_store
from intramodal.cli import cli
from intramodal.commands.options import DEFAULT_STORE
from intramodal.commands.trusted_folders import trust
from intramodal.types import point_id, unit_rows
from tests.cli.kit import invoke
from tests.tiny_models import DIM, SIDE, save_open_clip

N = 12


def run(*arguments: str, code: int = 0, stdin: str | None = None) -> Any:
    result = CliRunner().invoke(cli, [*arguments, "--json"], input=stdin)
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_open_clip(tmp_path_factory.mktemp("model"))


@pytest.fixture
def pets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> Path:
    """Return the working directory, with pictures of two kinds and broken ones among them."""
    monkeypatch.chdir(tmp_path)
    for n in range(N):
        path = tmp_path / "pets" / ("cats" if n % 2 else "dogs") / f"{n}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (SIDE, SIDE + n, 3), dtype=np.uint8)).save(path)
    whole = (tmp_path / "pets/cats/1.png").read_bytes()
    (tmp_path / "pets/cats/cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "pets/dogs/empty.jpg").write_bytes(b"")
    (tmp_path / "pets/words.jpg").write_text("no picture")
    (tmp_path / "pets/notes.txt").write_text("no picture and not called one")
    return tmp_path


def ingest(model: str, *more: str, code: int = 0) -> Any:
    place = ("pets", "--collection", "pets", "--model", model, "--label-from", "parent")
    return run("ingest", *place, *more, code=code)


def test_a_folder_with_broken_pictures_is_ingested_and_a_repeat_encodes_nothing(
    pets: Path, model: str
) -> None:
    done = ingest(model)
    assert (done["written"], done["skipped"], done["failed"]) == (N, 0, 3)
    assert done["collection"] == "pets"
    assert {f["item"] for f in done["failures"]} == {
        "cats/cut.png", "dogs/empty.jpg", "words.jpg",
    }  # fmt: skip
    assert all(f["stage"] == "decode" and f["reason"] for f in done["failures"])
    again = ingest(model)
    assert (again["written"], again["skipped"], again["failed"]) == (0, N, 3)
    shown = run("runs", "show", done["run_id"])
    assert (shown["kind"], shown["status"]) == ("ingest", "COMPLETE")
    assert len(shown["failures"]) == 3
    assert {f["kind"] for f in shown["fingerprints"]} == {"encoder"}


def test_images_written_as_text_are_listed_unless_they_are_asked_for(
    pets: Path, model: str
) -> None:
    """Issue 20, item 8."""
    (pets / "pets/text.ppm").write_bytes(b"P2 2 1 255 0 255")
    refused = {f["item"]: f["reason"] for f in ingest(model)["failures"]}
    assert "written as text (ASCII PNM)" in refused["text.ppm"]
    done = ingest(model, "--text-images", "--decode-mb", "1")
    assert (done["written"], done["skipped"], done["failed"]) == (1, N, 3)
    shown = run("runs", "show", done["run_id"])["parameters"]
    assert (shown["text_images"], shown["decode_mb"]) == (True, 1)


def test_the_stored_vectors_are_those_of_the_model(pets: Path, model: str) -> None:
    ingest(model)
    encoder = load_encoder(model)
    files = ["cats/1.png", "dogs/2.png"]
    expected = unit_rows(encoder.encode_images([pets / "pets" / name for name in files]))
    with open_store(DEFAULT_STORE) as store:
        page = store.retrieve(
            "pets", [point_id("pets", name) for name in files], vectors=["raw"], payload=True
        )
        origin = ImageCollection.open(store, "pets").origin("raw")
    np.testing.assert_allclose(page.vectors["raw"], expected, atol=1e-5)  # float32, other batch
    assert [p["label"] for p in page.payloads] == ["cats", "dogs"]
    assert origin.encoder_fingerprint == encoder.fingerprint


def test_both_vectors_are_written_with_a_projection(pets: Path, model: str) -> None:
    run("fit", "--model", model, "-o", "pca.safetensors")
    done = ingest(model, "--projection", "pca.safetensors")
    assert done["written"] == N
    with open_store(DEFAULT_STORE) as store:
        table = ImageCollection.open(store, "pets").table(["raw", "pca"])
    assert table.n_incomplete == 0
    assert table.vectors["pca"].shape == (N, DIM // 2)
    expected = unit_rows(Projection.load("pca.safetensors").apply(table.vectors["raw"]))
    np.testing.assert_allclose(table.vectors["pca"], expected, atol=1e-5)  # stored normalised
    again = ("ingest", "pets", "--collection", "pets", "--model", model, "--label-from", "parent")
    shown = invoke(*again, "--projection", "pca.safetensors")
    assert shown.stderr.endswith(" compare pets -o judge.html --pictures pets\n")
    kinds = {f["kind"] for f in run("runs", "show", done["run_id"])["fingerprints"]}
    assert kinds == {"encoder", "projection"}


def test_one_augmented_view_of_each_image_is_encoded_on_demand(pets: Path, model: str) -> None:
    run("fit", "--model", model, "-o", "pca.safetensors")
    both = ("--projection", "pca.safetensors", "--augment")
    done = ingest(model, *both)
    assert (done["written"], ingest(model, *both)["skipped"]) == (N, N)
    names = ["raw", "pca", "raw_augmented", "pca_augmented"]
    with open_store(DEFAULT_STORE) as store:
        collection = ImageCollection.open(store, "pets")
        table = collection.table(names)
        origins = collection.manifest.vectors
    assert table.n_incomplete == 0
    raw, view = origins["raw"], origins["raw_augmented"]
    assert view.encoder == f"{model} (augmented view)"
    assert view.encoder_fingerprint != raw.encoder_fingerprint
    assert origins["pca_augmented"].source == "raw_augmented"
    made = Projection.load("pca.safetensors").apply(table.vectors["raw_augmented"])
    # float32 of stored unit vectors
    np.testing.assert_allclose(table.vectors["pca_augmented"], unit_rows(made), atol=1e-5)
    assert np.abs(table.vectors["raw"] - table.vectors["raw_augmented"]).max() > 1e-3


def test_views_are_for_shots_alone_and_no_ingest_leaves_them_out(pets: Path, model: str) -> None:
    run("fit", "--model", model, "-o", "pca.safetensors")
    both = ("--projection", "pca.safetensors", "--augment")
    ingest(model, *both)
    asked = ("evaluate", "fewshot", "pets", "--labels", "label", "--shots", "1,2")
    found = run(*asked, "--shots-from", "raw=raw_augmented,pca=pca_augmented")
    assert found["shots_from"] == {"raw": "raw_augmented", "pca": "pca_augmented"}
    assert found["fields"] != run(*asked)["fields"]
    spelled = CliRunner().invoke(cli, [*asked, "--shots-from", "raw"])
    assert (spelled.exit_code, "takes VECTOR=VECTOR" in spelled.output) == (2, True)
    words = run("evaluate", "text", "pets:raw_augmented", "--labels", "label", code=1)
    assert "'raw_augmented' of 'pets' holds augmented views" in words["error"]["message"]
    message = ingest(model, *both[:2], code=1)["error"]["message"]
    assert "has augmented views in 'raw_augmented' and new images would lack" in message
    other = ingest(model, *both, "--augment-seed", "1", code=1)["error"]["message"]
    assert "vector 'raw_augmented' was made by" in other
    alone = CliRunner().invoke(
        cli, ["ingest", "pets", "--collection", "p", "--model", model, "--augment-seed", "1"]
    )
    assert alone.exit_code == 2
    assert "--augment-seed is for --augment only" in alone.output


def test_store_and_manifest_are_checked_before_the_model_is_loaded(
    pets: Path, model: str, tmp_path: Path
) -> None:
    run("fit", "--model", model, "-o", "pca.safetensors")
    ingest(model, "--projection", "pca.safetensors")
    other = Projection.load("pca.safetensors")
    Projection(-other.matrix, other.method, other.encoder, other.encoder_fingerprint).save(
        "other.safetensors"
    )
    absent = "open_clip:local-dir:no-such-folder"
    refused = ingest(absent, code=1)["error"]
    assert "would lack it; give --projection" in refused["message"]
    refused = ingest(absent, "--projection", "other.safetensors", code=1)["error"]
    assert refused["type"] == "ManifestMismatchError"
    assert ingest(absent, "--dataset", "a/b", code=1)["error"]["type"] == "InputError"
    place = ("pets", "--collection", "a/b", "--model", absent)
    assert "cannot be the name" in run("ingest", *place, code=1)["error"]["message"]
    place = ("gone", "--collection", "pets", "--model", absent)
    assert run("ingest", *place, code=1)["error"]["type"] == "SourceError"
    assert len(run("runs", "list")["runs"]) == 2  # the fit and the first ingest


def test_another_model_is_refused(pets: Path, model: str, tmp_path: Path) -> None:
    ingest(model)
    other = save_open_clip(tmp_path / "other", seed=1)
    assert ingest(other, code=1)["error"]["type"] == "ManifestMismatchError"


def test_pruning_and_data_sets(pets: Path, model: str) -> None:
    ingest(model)
    assert ingest(model, "--dataset", "more")["written"] == N
    (pets / "pets/cats/1.png").unlink()
    assert ingest(model)["pruned"] == 0
    done = ingest(model, "--prune")
    assert (done["skipped"], done["pruned"]) == (N - 1, 1)
    with open_store(DEFAULT_STORE) as store:
        assert ImageCollection.open(store, "pets").count() == 2 * N - 1


SWATCHES = ("red", "green", "blue", "yellow", "black", "white")


@pytest.fixture
def swatches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the working directory, with one picture file a colour and a whole list of them."""
    monkeypatch.chdir(tmp_path)
    for name in SWATCHES:
        Image.new("RGB", (SIDE, SIDE), name).save(tmp_path / f"{name}.png")
    write_list(tmp_path / "list.csv", dict.fromkeys(SWATCHES, "1 in"))
    return tmp_path


def write_list(place: Path, sizes: dict[str, str]) -> None:
    rows = [("path", "label", "size"), *((f"{name}.png", "x", s) for name, s in sizes.items())]
    delimiter = "," if place.suffix == ".csv" else "\t"
    place.write_text("".join(delimiter.join(row) + "\n" for row in rows))


def paths_of(collection: str) -> set[str]:
    with open_store(DEFAULT_STORE) as store:
        pages = ImageCollection.open(store, collection).scroll(payload=["path"])
        return {payload["path"] for page in pages for payload in page.payloads}


@pytest.mark.parametrize("suffix", ["csv", "tsv"])
@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ({"green": '"2 in'}, "line 3 of {} opens a quote that is never closed"),
        ({"white": '"2 in'}, "line 7 of {} opens a quote that is never closed"),
        ({"green": '"2 in', "yellow": '"3 in'}, "line 3 of {} opens a quote"),
        ({"green": '"2 in', "yellow": '3"'}, "line 3 of {} opens a quote"),
    ],
    ids=["open", "at the end", "closed by a later quote", "closed by inches"],
)
def test_a_list_with_an_open_quote_is_refused_and_prunes_nothing(
    swatches: Path, model: str, suffix: str, cells: dict[str, str], said: str
) -> None:
    # Issue 15, case F01: the rows behind the quote were taken for its cell, and pruned.
    place = ("--collection", "swatches", "--model", model)
    assert run("ingest", "list.csv", *place)["written"] == len(SWATCHES)
    write_list(swatches / f"list.{suffix}", {**dict.fromkeys(SWATCHES, "1 in"), **cells})
    for more in ((), ("--yes",), ("--dry-run",)):
        refused = run("ingest", f"list.{suffix}", *place, "--prune", *more, code=1)["error"]
        assert refused["type"] == "SourceError"
        assert refused["message"].startswith(said.format(swatches / f"list.{suffix}"))
        assert paths_of("swatches") == {f"{name}.png" for name in SWATCHES}


def test_quotes_that_are_meant_stay_in_the_payload(swatches: Path, model: str) -> None:
    cells = {"red": '2"', "green": '"2"" by 3"""', "blue": "“2 in", "yellow": '"wide,\nand high"'}
    write_list(swatches / "list.csv", cells)
    run("ingest", "list.csv", "--collection", "swatches", "--model", model)
    with open_store(DEFAULT_STORE) as store:
        ids = [point_id("swatches", f"{name}.png") for name in cells]
        page = store.retrieve("swatches", ids, payload=["size"])
    assert [p["size"] for p in page.payloads] == ['2"', '2" by 3"', "“2 in", "wide,\nand high"]


def everything(folder: Path) -> dict[str, Any]:
    """Return the files outside of the store, and what the store holds, to the last bit."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    inside = folder / DEFAULT_STORE
    found: dict[str, Any] = {
        str(path): path.read_bytes() for path in files if not path.is_relative_to(inside)
    }
    with open_store(DEFAULT_STORE) as store:
        for name in store.collections():
            for page in store.scroll(name, vectors=["raw"], payload=True):
                found[name] = (page.ids, page.payloads, page.vectors["raw"].tobytes())
            found[f"{name} as a whole"] = store.info(name)
    return found


def test_a_dry_run_lists_what_a_prune_deletes_and_changes_nothing(pets: Path, model: str) -> None:
    ingest(model)
    gone = {"cats/1.png", "cats/3.png", "dogs/0.png"}
    for name in gone:
        (pets / "pets" / name).unlink()
    before = everything(pets)
    absent = "open_clip:local-dir:no-such-folder"  # it would be missed if it were loaded
    plan = ingest(absent, "--prune", "--dry-run")
    assert everything(pets) == before
    assert plan == {
        "collection": "pets", "dataset": "pets", "would_prune": sorted(gone), "n_would_prune": 3,
        "n_dataset": N, "needs_yes": False, "gap": None,
    }  # fmt: skip
    arguments = ("pets", "--collection", "pets", "--model", absent, "--prune", "--dry-run")
    shown = CliRunner().invoke(cli, ["ingest", *arguments]).stdout
    assert shown.splitlines() == [
        *sorted(gone), f"3 of {N} points of data set 'pets' would be deleted",
    ]  # fmt: skip
    every = paths_of("pets")
    assert ingest(model, "--prune")["pruned"] == 3
    assert every - paths_of("pets") == gone
    assert len(run("runs", "list")["runs"]) == 2  # a dry run is none


def test_more_than_a_tenth_is_pruned_with_yes_only(pets: Path, model: str) -> None:
    ingest(model)
    for n in range(1, N):
        next((pets / "pets").glob(f"*/{n}.png")).unlink()
    plan = ingest(model, "--prune", "--dry-run")
    assert (plan["n_would_prune"], plan["needs_yes"]) == (N - 1, True)
    refused = ingest(model, "--prune", code=1)["error"]
    assert refused["type"] == "InputError"
    assert refused["message"].startswith(f"{N - 1} of {N} points of data set 'pets' are no longer")
    assert "list the points first (--dry-run" in refused["message"]
    assert refused["message"].endswith("then confirm with --yes")
    assert len(paths_of("pets")) == N
    assert run("runs", "list")["runs"][0]["status"] == "FAILED"
    assert ingest(model, "--prune", "--yes")["pruned"] == N - 1
    assert paths_of("pets") == {"dogs/0.png"}


def test_a_dry_run_says_why_nothing_would_be_pruned(swatches: Path, model: str) -> None:
    place = ("--collection", "swatches", "--model", model)
    run("ingest", "list.csv", *place)
    (swatches / "list.csv").write_text("path\nred.png\ngreen.p")
    plan = run("ingest", "list.csv", *place, "--prune", "--dry-run")
    assert (plan["would_prune"], plan["n_would_prune"], plan["n_dataset"]) == ([], 0, 6)
    assert "(list.csv:3) does not end in a line break" in plan["gap"]
    shown = CliRunner().invoke(cli, ["ingest", "list.csv", *place, "--prune", "--dry-run"])
    assert "nothing would be deleted, as the source may hold more images" in shown.stderr
    assert run("ingest", "list.csv", *place, "--prune")["pruned"] == 0


def test_a_dry_run_makes_no_store_and_no_collection(pets: Path, model: str) -> None:
    assert ingest(model, "--prune", "--dry-run", code=1)["error"]["type"] == "NotFound"
    assert not (pets / ".intramodal").exists()
    ingest(model)
    before = everything(pets)
    place = ("pets", "--collection", "other", "--model", model, "--prune", "--dry-run")
    assert run("ingest", *place, code=1)["error"]["type"] == "NotFound"
    assert everything(pets) == before


@pytest.mark.parametrize("option", ["--dry-run", "--yes"])
def test_what_belongs_to_pruning_is_wrong_usage_without_it(
    pets: Path, model: str, option: str
) -> None:
    refused = ingest(model, option, code=2)["error"]
    assert refused["message"] == f"{option} is for --prune only; give both, or leave it out"
    assert not (pets / ".intramodal").exists()


def test_a_dry_run_from_the_configuration_is_never_a_load(pets: Path, model: str) -> None:
    (pets / "intramodal.toml").write_text("[ingest]\ndry-run = true\n")
    trust(pets.resolve())
    assert "--dry-run is for --prune" in ingest(model, code=2)["error"]["message"]
    np.save("X.npy", np.eye(3, dtype=np.float32))
    place = ("--collection", "pets", "--made-by", "demo")
    assert "--dry-run is for --prune" in run("ingest", "X.npy", *place, code=2)["error"]["message"]
    assert not (pets / ".intramodal").exists()


def test_too_many_failures_end_in_one_sentence_and_a_failed_run(pets: Path, model: str) -> None:
    refused = ingest(model, "--max-failures", "2", code=1)["error"]
    assert refused["message"].startswith("3 pictures failed and 2 are allowed")
    (listed,) = run("runs", "list")["runs"]
    assert listed["status"] == "FAILED"
    assert ingest(model, "--max-failures", "3")["failed"] == 3


def test_paths_on_stdin_and_a_list_reach_the_same_points(pets: Path, model: str) -> None:
    place = ("--collection", "pets", "--model", model)
    paths = "pets/cats/1.png\npets/dogs/2.png\n"
    assert run("ingest", "-", *place, stdin=paths)["written"] == 2
    (pets / "list.csv").write_text("path,label\npets/cats/1.png,cat\npets/dogs/2.png,\n")
    done = run("ingest", "list.csv", *place)
    assert (done["written"], done["updated"], done["skipped"]) == (0, 1, 1)


def test_the_table_for_people_holds_the_same_facts(pets: Path, model: str) -> None:
    arguments = ["ingest", "pets", "--collection", "pets", "--model", model]
    result = CliRunner(env={"COLUMNS": "200"}).invoke(cli, arguments)
    assert result.exit_code == 0, result.stderr
    assert [cell for cell in result.stdout.split() if cell.isdigit()] == [
        *(str(N), "0", "3")  # written, skipped, failed: what is zero beside is left out
    ]
    assert "decode: words.jpg: not an image" in result.stderr


def write_split(place: Path, entries: dict[str, list[Any]]) -> str:
    path = place / "split_zhou_Pets.json"
    path.write_text(json.dumps(entries, indent=4))
    return str(path)


PETS_SPLIT: dict[str, list[Any]] = {
    "train": [["cats/1.png", 0, "cat"], ["dogs/0.png", 1, "dog"], ["cats/cut.png", 0, "cat"]],
    "val": [["cats/gone.png", 0, "cat"]],
    "test": [["cats/3.png", 0, "cat"], ["dogs/2.png", 1, "dog"]],
}


def test_a_split_file_says_which_images_of_a_folder_are_ingested_and_in_which_split(
    pets: Path, model: str
) -> None:
    place = ("pets", "--collection", "pets", "--model", model)
    split = ("--split-file", write_split(pets, PETS_SPLIT))
    done = run("ingest", *place, *split)
    assert (done["written"], done["failed"]) == (4, 2)  # one broken, one missing
    assert {f["item"] for f in done["failures"]} == {"cats/cut.png", "cats/gone.png"}
    again = run("ingest", *place, *split)
    assert (again["written"], again["skipped"]) == (0, 4)
    shown = run("runs", "show", done["run_id"])
    assert shown["parameters"]["split_file"] == split[1]
    with open_store(DEFAULT_STORE) as store:
        table = ImageCollection.open(store, "pets").table(
            ["raw"], payload=["path", "split", "label", "class"]
        )
    found = {
        path: (split, label, name)
        for path, split, label, name in zip(
            *(table.payload[key] for key in ("path", "split", "label", "class")), strict=True
        )
    }
    assert found == {
        "cats/1.png": ("train", 0, "cat"),
        "dogs/0.png": ("train", 1, "dog"),
        "cats/3.png": ("test", 0, "cat"),
        "dogs/2.png": ("test", 1, "dog"),
    }
    assert set(table.ids) == {point_id("pets", path) for path in found}
    sides = ("--split", "split", "--vectors", "raw", "--min-class-size", "2")
    scored = run("evaluate", "retrieval", "pets", "--labels", "class", *sides)["fields"]["class"]
    assert (scored["n_queries"], scored["n_gallery"]) == (2, 2)


def test_a_malformed_split_file_is_refused_before_anything_is_encoded(
    pets: Path, model: str
) -> None:
    wrong = {**PETS_SPLIT, "val": [["cats/1.png", 0, "cat"]]}
    place = ("pets", "--collection", "pets", "--model", model)
    result = CliRunner().invoke(cli, ["ingest", *place, "--split-file", write_split(pets, wrong)])
    assert result.exit_code == 1
    assert "lists cats/1.png twice, as train[0] and val[0]; keep one" in result.output
    assert not Path(DEFAULT_STORE).exists()


def test_a_split_file_is_for_pictures_only(pets: Path) -> None:
    np.save(pets / "x.npy", np.eye(4, dtype=np.float32))
    more = (
        "--collection",
        "c",
        "--made-by",
        "clip",
        "--split-file",
        write_split(pets, PETS_SPLIT),
    )
    result = CliRunner().invoke(cli, ["ingest", "x.npy", *more])
    assert result.exit_code == 2
    assert "--split-file is for images (--model) only" in result.output
