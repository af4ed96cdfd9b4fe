"""``intramodal fit``: its methods, what it refuses, and the file it writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import save_file

from intramodal import AnchorSet, ImageCollection, Projection, load_encoder, open_store
from intramodal.cli import cli
from intramodal.commands.options import DEFAULT_STORE
from intramodal.store.base import VectorSpec
from intramodal.store.manifest import VectorOrigin
from intramodal.types import declared_fingerprint, unit_rows
from tests.tiny_models import DIM, SIDE, save_clip, save_dinov2, save_open_clip, save_siglip

KNOWN = "open_clip:ViT-B-32:openai"
MODEL = "hf:our/clip"
D = 16


def run(*arguments: str, code: int = 0) -> Any:
    result = CliRunner().invoke(cli, [*arguments, "--json"])
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


def refused(*arguments: str) -> str:
    return str(run(*arguments, code=1)["error"]["message"])


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture
def texts(rng: np.random.Generator) -> np.ndarray:
    Path("names.txt").write_text("".join(f"thing {i}\n" for i in range(40)))
    T = (rng.normal(size=(40, D)) * rng.uniform(0.5, 2, size=(40, 1)) + 0.3).astype(np.float32)
    np.save("T.npy", T)
    return T


FIT = ("fit", "--text-vectors", "T.npy", "--made-by", MODEL, "--anchors", "names.txt")


# IsoCLIP on stored vectors, and as published: a changed projector on the features before it.


def features_of_open_clip(encoder: Any, pixels: np.ndarray) -> np.ndarray:
    visual = encoder.towers.module.visual
    proj, visual.proj = visual.proj, None  # the tower then returns what it would project
    try:
        return np.asarray(encoder.encode_pixels(pixels))
    finally:
        visual.proj = proj


def features_of_transformers(encoder: Any, pixels: np.ndarray) -> np.ndarray:
    seen: list[np.ndarray] = []
    layer = encoder.towers.module.visual_projection
    hook = layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].numpy()))
    encoder.encode_images(list(pixels))
    hook.remove()
    return seen[-1]


@pytest.mark.parametrize(
    ("save", "features_of"),
    [(save_open_clip, features_of_open_clip), (save_clip, features_of_transformers)],
    ids=["open_clip", "transformers"],
)
def test_isoclip_of_stored_vectors_ranks_as_the_changed_projector(
    models: Path, rng: np.random.Generator, save: Any, features_of: Any
) -> None:
    name = save(models / save.__name__)
    sizes = ("--k-top", "3", "--k-bottom", "4")
    fitted = run("fit", "--method", "isoclip", "--model", name, *sizes, "-o", "iso.safetensors")
    assert (fitted["method"], fitted["vector"]) == ("isoclip", "isoclip")
    assert (fitted["dim_in"], fitted["dim_out"]) == (DIM, DIM - 7)
    projection, encoder = Projection.load("iso.safetensors"), load_encoder(name)
    assert projection.encoder_fingerprint == encoder.fingerprint

    pixels = rng.integers(0, 256, (12, SIDE, SIDE, 3), dtype=np.uint8)
    W_image, W_text = encoder.projectors()  # type: ignore[attr-defined]
    U = np.linalg.svd(W_image.T @ W_text)[0][:, 3 : DIM - 4]
    published = unit_rows(features_of(encoder, pixels) @ (W_image @ U @ U.T).T)
    stored = unit_rows(encoder.encode_images(list(pixels)))
    ours = unit_rows(projection.apply(stored))
    # float32 features over 32 terms, through the inverse of a random projector
    np.testing.assert_allclose(ours @ ours.T, published @ published.T, atol=2e-3)
    raw = stored @ stored.T
    assert np.abs(ours @ ours.T - raw).max() > 0.1  # it is another similarity than before


def test_towers_that_do_not_end_in_two_matrices_have_no_isoclip(models: Path) -> None:
    how = ("fit", "--method", "isoclip", "--k-top", "1", "--k-bottom", "1", "-o", "x.safetensors")
    siglip, dino = save_siglip(models / "siglip"), save_dinov2(models / "dino")
    assert "ends in no linear layer, not in a bias-free projector" in refused(
        *how, "--model", siglip
    )
    assert "has no text tower, so there are no two projectors" in refused(*how, "--model", dino)
    assert not Path("x.safetensors").exists()


def test_isoclip_from_ready_projectors_takes_the_published_sizes(
    rng: np.random.Generator,
) -> None:
    image, text = (rng.normal(size=(512, n)).astype(np.float32) for n in (768, 512))
    save_file({"image": image, "text": text}, "W.safetensors")
    ready = ("fit", "--method", "isoclip", "--projectors", "W.safetensors", "-o", "i.safetensors")
    fitted = run(*ready, "--made-by", KNOWN)
    assert (fitted["k_top"], fitted["k_bottom"], fitted["dim_out"]) == (150, 50, 312)
    changed = run(*ready, "--made-by", KNOWN, "--k-bottom", "10")
    assert (changed["k_top"], changed["k_bottom"]) == (150, 10)
    assert "no published sizes for 'my clip'" in refused(*ready, "--made-by", "my clip")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "give a safetensors file with the float tensors 'image' and 'text'"),
        ({"image": np.ones((4, 6), np.float32)}, "'image' and 'text'"),
        (
            {"image": np.ones((6, 4), np.float32), "text": np.ones((4, 5), np.float32)},
            r"must end in the same space, got shapes (6, 4) and (4, 5)",
        ),
    ],
    ids=["no file", "one tensor", "transposed"],
)
def test_files_without_projectors_are_one_sentence(content: Any, said: str) -> None:
    if content is not None:
        save_file(content, "W.safetensors")
    message = refused(
        "fit", "--method", "isoclip", "--projectors", "W.safetensors", "--made-by", KNOWN,
        "-o", "x.safetensors",
    )  # fmt: skip
    assert said in message
    assert not Path("x.safetensors").exists()


# Options.


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--method", "isoclip", "--model", "m", "--components", "3"], "--components belongs to"),
        (["--method", "isoclip", "--model", "m", "--center", "c"], "--center belongs to"),
        (["--method", "isoclip", "--text-vectors", "T.npy"], "--text-vectors belongs to"),
        (["--model", "m", "--k-top", "3"], "--k-top belongs to --method isoclip, not to pca"),
        (["--method", "isoclip"], "give either --model or --projectors"),
        (["--method", "isoclip", "--projectors", "W"], "--projectors needs --made-by"),
        (["--method", "svd", "--model", "m"], "'svd' is not one of"),
    ],
)
def test_options_of_another_method_are_wrong_usage(arguments: list[str], said: str) -> None:
    result = CliRunner().invoke(cli, ["fit", *arguments, "-o", "x.safetensors"])
    assert result.exit_code == 2
    assert said in result.stderr


def test_the_table_says_what_it_was_fitted_on(texts: np.ndarray) -> None:
    wide = CliRunner(env={"COLUMNS": "200"})
    assert "40 anchors of rank 16" in wide.invoke(cli, [*FIT, "-o", "p.safetensors"]).stdout
    save_file({name: np.eye(8, dtype=np.float32) for name in ("image", "text")}, "W.safetensors")
    ready = [
        "fit",
        "--method",
        "isoclip",
        "--projectors",
        "W.safetensors",
        "--made-by",
        "m",
        "-o",
        "i.safetensors",
    ]
    said = wide.invoke(cli, [*ready, "--k-top", "2", "--k-bottom", "1"]).stdout
    assert "projectors without top 2, bottom 1" in said


# Choices of PCA←.


def test_projections_of_other_anchors_live_beside_each_other_and_none_is_overwritten(
    texts: np.ndarray, rng: np.random.Generator
) -> None:
    fill("photos", rng.normal(size=(60, D)).astype(np.float32))
    Path("more.txt").write_text("".join(f"other {i}\n" for i in range(40)))
    np.save("T.npy", texts[::-1] ** 3)
    other = ("fit", "--text-vectors", "T.npy", "--made-by", MODEL, "--anchors", "more.txt")
    assert run(*other, "-o", "more.safetensors")["vector"] == "pca_more"
    np.save("T.npy", texts)
    assert run(*FIT, "-o", "names.safetensors")["vector"] == "pca_names"
    for name in ("names", "more"):
        run("backfill", "photos", "--projection", f"{name}.safetensors")
    run("export", "photos", "--vector", "pca_more", "-o", "before.npy")
    message = refused(
        "backfill", "photos", "--projection", "names.safetensors", "--to", "pca_more"
    )
    assert "'pca_more' was made by" in message
    assert "write to another vector name" in message
    run("export", "photos", "--vector", "pca_more", "-o", "after.npy")
    run("export", "photos", "--vector", "pca_names", "-o", "names.npy")
    assert Path("before.npy").read_bytes() == Path("after.npy").read_bytes()
    assert Path("before.npy").read_bytes() != Path("names.npy").read_bytes()


def test_texts_may_keep_their_lengths_and_that_is_recorded(texts: np.ndarray) -> None:
    fitted = run(*FIT, "-o", "p.safetensors")
    plain = run(*FIT, "--no-normalize-text", "-o", "q.safetensors")
    assert fitted["fingerprint"] != plain["fingerprint"]
    made = Projection.load("q.safetensors")
    assert made.recipe["normalize_text"] is False
    _, vectors = np.linalg.eigh(np.cov(texts.astype(np.float64), rowvar=False))
    Q = vectors[:, -D // 2 :]
    np.testing.assert_allclose(made.matrix @ made.matrix.T, Q @ Q.T, atol=1e-5)  # float32


# The mean of a collection.


def fill(name: str, X: np.ndarray, vector: str = "raw", model: str = MODEL) -> None:
    origin = VectorOrigin(model, declared_fingerprint(model))
    with open_store(DEFAULT_STORE) as store:
        made = ImageCollection.create(store, name, {vector: (X.shape[1], origin)})
        made.write(list(range(len(X))), {vector: X}, [{}] * len(X))


def test_the_centre_is_the_mean_of_the_collections_unit_vectors(
    texts: np.ndarray, rng: np.random.Generator
) -> None:
    X = (rng.normal(size=(2500, D)) + 2).astype(np.float32)  # more than two pages
    fill("photos", X, vector="image")
    fitted = run(*FIT, "--center", "photos:image", "-o", "p.safetensors")
    assert (fitted["method"], fitted["vector"]) == ("pca_centered", "pca_centered_names")
    made = Projection.load("p.safetensors")
    unit = X.astype(np.float64) / np.linalg.norm(X.astype(np.float64), axis=1, keepdims=True)
    assert made.offset is not None
    np.testing.assert_allclose(made.offset, unit.mean(axis=0), atol=1e-6)  # float32, stored unit
    assert made.recipe["center"] == {"collection": "photos", "vector": "image", "n": 2500}
    np.testing.assert_allclose(
        made.apply(X), (unit - unit.mean(axis=0)) @ made.matrix.astype(np.float64), atol=1e-5
    )


def test_zero_vectors_have_no_say_in_the_centre(
    texts: np.ndarray, rng: np.random.Generator
) -> None:
    X = (rng.normal(size=(50, D)) + 2).astype(np.float32)
    fill("photos", np.vstack([X, np.zeros((50, D), np.float32)]))
    run(*FIT, "--center", "photos", "-o", "p.safetensors")
    made = Projection.load("p.safetensors")
    assert made.offset is not None
    np.testing.assert_allclose(made.offset, unit_rows(X).mean(axis=0), atol=1e-6)
    assert made.recipe["center"]["n"] == 50


def test_a_centre_of_another_kind_is_refused(texts: np.ndarray, rng: np.random.Generator) -> None:
    X = rng.normal(size=(5, D)).astype(np.float32)
    fill("others", X, model="open_clip:ViT-B-16:openai")
    fill("photos", X)
    run(*FIT, "-o", "pca.safetensors")
    run("backfill", "photos", "--projection", "pca.safetensors", "--to", "pca")
    fit = (*FIT, "-o", "x.safetensors", "--center")
    assert "centre with vectors of the same model" in refused(*fit, "others")
    assert "is projected already" in refused(*fit, "photos:pca")
    assert "has no vector 'image'" in refused(*fit, "photos:image")
    assert "there is no collection 'photo'" in refused(*fit, "photo")
    with open_store(DEFAULT_STORE) as store:
        empty = VectorOrigin(MODEL, declared_fingerprint(MODEL))
        ImageCollection.create(store, "empty", {"raw": (D, empty)})
    assert "no point of 'empty' has a vector 'raw'" in refused(*fit, "empty")
    assert not Path("x.safetensors").exists()


def test_who_may_only_read_centres_on_vectors_that_nobody_declared(
    texts: np.ndarray, rng: np.random.Generator, caplog: pytest.LogCaptureFixture
) -> None:
    X = (rng.normal(size=(50, D)) + 2).astype(np.float32)
    with open_store(DEFAULT_STORE) as store:
        store.create("foreign", {"raw": VectorSpec(D)})
        store.upsert("foreign", list(range(50)), {"raw": X}, [{}] * 50)
    run(*FIT, "--center", "foreign", "-o", "p.safetensors")
    assert "nothing says which model made 'raw' of 'foreign'" in caplog.text
    made = Projection.load("p.safetensors")
    np.testing.assert_allclose(made.offset, unit_rows(X).mean(axis=0), atol=1e-6)


# With the real text embeddings.


@pytest.mark.real_data
def test_a_fit_from_the_real_texts_is_that_of_the_papers_anchors(real_data: Path) -> None:
    T = str(real_data / "imagenet-text-clip-b32" / "a_photo_of_a_X.npy")
    fitted = run("fit", "--text-vectors", T, "--made-by", KNOWN, "-o", "pca.safetensors")
    assert (fitted["vector"], fitted["dim_in"], fitted["dim_out"]) == ("pca", 512, 256)
    assert fitted["n_anchors"] == len(AnchorSet.imagenet())
    assert fitted["warnings"] == []


# From the file to the verdict.


def test_isoclip_is_backfilled_and_compared_as_any_other_projection(
    rng: np.random.Generator,
) -> None:
    kinds = np.arange(60) % 6
    X = (rng.normal(size=(6, D))[kinds] + rng.normal(size=(60, D))).astype(np.float32)
    origin = VectorOrigin(MODEL, declared_fingerprint(MODEL))
    with open_store(DEFAULT_STORE) as store:
        made = ImageCollection.create(store, "photos", {"raw": (D, origin)})
        made.write(list(range(60)), {"raw": X}, [{"kind": f"k{k}"} for k in kinds])
    W = {name: rng.normal(size=(D, 20)).astype(np.float32) for name in ("image", "text")}
    save_file(W, "W.safetensors")
    ready = (
        "--projectors",
        "W.safetensors",
        "--made-by",
        MODEL,
        "--k-top",
        "3",
        "--k-bottom",
        "3",
    )
    run("fit", "--method", "isoclip", *ready, "-o", "iso.safetensors")
    done = run("backfill", "photos", "--projection", "iso.safetensors")
    assert (done["vector"], done["projected"]) == ("isoclip", 60)
    assert "the model was not checked" in done["model_check"]["says"]
    run("export", "photos", "--vector", "isoclip", "-o", "Z.npy")
    run("export", "photos", "--vector", "raw", "-o", "X.npy")
    expected = unit_rows(Projection.load("iso.safetensors").apply(np.load("X.npy")))
    np.testing.assert_allclose(np.load("Z.npy"), expected, atol=1e-5)  # float32, 16 terms
    both = ("--vectors", "raw,isoclip", "--labels", "kind", "--projection", "iso.safetensors")
    compared = run("compare", "photos", *both)
    assert compared["vectors"] == ["raw", "isoclip"]
    assert compared["model_check"]["verdict"] == "not checked"


def test_unknown_anchors_are_answered_with_the_ones_there_are() -> None:
    words = ("fit", "--model", "demo", "--anchors", "imagenett", "-o", "p.safetensors")
    assert "did you mean imagenet" in refused(*words)


def test_a_recipe_is_fitted_recorded_and_contradicts_other_choices(
    rng: np.random.Generator,
) -> None:
    np.save("T.npy", rng.normal(size=(1000, D)).astype(np.float32) + 0.3)
    ready = ("fit", "--text-vectors", "T.npy", "--made-by", MODEL, "--recipe", "paper-table3")
    fitted = run(*ready, "-o", "t.safetensors")
    assert (fitted["recipe"], fitted["vector"]) == ("paper-table3", "pca_table3")
    recipe = Projection.load("t.safetensors").recipe
    assert (recipe["recipe"], recipe["template"]) == ("paper-table3", "{}")
    assert (recipe["normalize_text"], recipe["center_text"]) == (False, True)
    for option in (("--anchors", "wordnet"), ("--template", "a {}"), ("--normalize-text",)):
        result = CliRunner().invoke(cli, [*ready, *option, "-o", "u.safetensors"])
        assert result.exit_code == 2
        assert f"leave out {option[0]}, or the recipe" in " ".join(result.output.split())
    assert not Path("u.safetensors").exists()
