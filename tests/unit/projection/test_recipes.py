"""The recipes of the paper and of its code, against plain NumPy."""

from __future__ import annotations

import inspect
from pathlib import Path

import click
import numpy as np
import pytest

from intramodal.commands.fit import command
from intramodal.errors import InputError
from intramodal.projection.anchors import AnchorSet
from intramodal.projection.fit import fit_projection
from intramodal.projection.projection import Projection
from intramodal.projection.recipes import RECIPES, SEVEN_TEMPLATES

MODEL = "hf:our/clip"
NAMES = tuple(RECIPES)


def plain_subspace(texts: np.ndarray, name: str) -> np.ndarray:
    """Return the projector (d, d) onto a recipe's directions, by SVD in place of ours by eigh."""
    rows = texts.astype(np.float64)
    if name != "paper-table3":
        rows /= np.sqrt((rows**2).sum(axis=1))[:, None]
    if name != "paper-readme":
        rows -= rows.mean(axis=0)
    kept = np.linalg.svd(rows, full_matrices=False)[2][: texts.shape[1] // 2]
    return np.asarray(kept.T @ kept)


def subspace(projection: Projection) -> np.ndarray:
    Q = projection.matrix.astype(np.float64)
    return np.asarray(Q @ Q.T)


def distance(P: np.ndarray, Q: np.ndarray) -> float:
    return float(np.abs(P - Q).max())


@pytest.fixture
def texts(rng: np.random.Generator) -> np.ndarray:
    """Rows as a text tower gives them: of several lengths, and far from the origin."""
    rows = rng.normal(size=(1000, 32)) * np.geomspace(1, 0.05, 32) + 0.5
    return (rows * rng.uniform(0.6, 1.4, size=(1000, 1))).astype(np.float32)


@pytest.mark.parametrize("name", NAMES)
def test_each_recipe_spans_what_plain_numpy_finds(texts: np.ndarray, name: str) -> None:
    fitted = fit_projection(texts, made_by=MODEL, recipe=name)
    assert distance(subspace(fitted), plain_subspace(texts, name)) <= 1e-6  # float32 matrix
    other = "paper-text" if name in ("paper-readme", "paper-table3") else "paper-readme"
    assert distance(subspace(fitted), plain_subspace(texts, other)) > 1e-3


@pytest.mark.real_data
@pytest.mark.parametrize("name", NAMES)
def test_each_recipe_spans_what_plain_numpy_finds_on_real_texts(
    real_data: Path, name: str
) -> None:
    texts = np.load(real_data / "imagenet-text-clip-b32" / "a_photo_of_a_X.npy")
    fitted = fit_projection(texts, made_by=MODEL, recipe=name)
    assert distance(subspace(fitted), plain_subspace(texts, name)) <= 1e-6  # float32 matrix
    lengths = np.linalg.norm(texts, axis=1)
    assert lengths.std() / lengths.mean() > 0.01  # rows that scaling changes


class Tower:
    """A text tower whose vectors depend on every letter; their lengths differ."""

    name, fingerprint, has_text, dim, image_size = "tower", "3f9a", True, 16, 8
    precision, device, identity = "fp32", "cpu", {"weights": "none"}

    def encode_texts(self, texts: list[str], *, batch_size: int = 256) -> np.ndarray:
        seeds = [np.frombuffer(text.encode(), np.uint8) for text in texts]
        rows = [np.random.default_rng(seed).normal(size=16) * len(seed) for seed in seeds]
        return np.array(rows, dtype=np.float32)

    def encode_images(self, images: object, *, batch_size: int = 32) -> np.ndarray:
        raise NotImplementedError

    def preprocess(self, image: object) -> np.ndarray:
        raise NotImplementedError

    def encode_pixels(self, pixels: object) -> np.ndarray:
        raise NotImplementedError


@pytest.mark.parametrize(
    ("name", "names", "templates"),
    [
        ("paper-text", "cleaned", ["a photo of a {}"]),
        ("paper-table3", "wordnet", ["{}"]),
        ("paper-readme", "wordnet", ["{}"]),
        ("paper-fewshot", "cleaned", list(SEVEN_TEMPLATES)),
    ],
)
def test_each_recipe_embeds_its_own_texts(name: str, names: str, templates: list[str]) -> None:
    words = AnchorSet.imagenet(names).names  # type: ignore[arg-type]
    tower = Tower()
    rows = np.zeros((1000, 16))
    for template in templates:
        some = tower.encode_texts([template.format(word) for word in words]).astype(np.float64)
        # Unit texts, then their mean, then unit again: as the few-shot code embeds a class.
        rows += some / np.linalg.norm(some, axis=1)[:, None] if len(templates) > 1 else some
    fitted = fit_projection(tower, recipe=name)  # type: ignore[arg-type]
    assert distance(subspace(fitted), plain_subspace(rows, name)) <= 1e-6  # float32 matrix
    assert fitted.recipe["recipe"] == name
    assert fitted.recipe["n_anchors"] == 1000


def test_the_default_recipe_is_what_a_fit_does_without_one(texts: np.ndarray) -> None:
    named = fit_projection(texts, made_by=MODEL, recipe="paper-text")
    plain = fit_projection(texts, made_by=MODEL)
    assert named.fingerprint == plain.fingerprint
    assert (named.default_vector, "recipe" in plain.recipe) == ("pca", False)


def test_each_recipe_has_a_fingerprint_and_a_vector_of_its_own(
    texts: np.ndarray, tmp_path: Path
) -> None:
    fitted = [fit_projection(texts, made_by=MODEL, recipe=name) for name in NAMES]
    assert len({one.fingerprint for one in fitted}) == 4
    assert [one.default_vector for one in fitted] == [
        "pca", "pca_table3", "pca_readme", "pca_fewshot",
    ]  # fmt: skip
    for one in fitted:
        one.save(tmp_path / "p.safetensors")
        loaded = Projection.load(tmp_path / "p.safetensors")
        assert loaded.recipe == one.recipe
        assert loaded.fingerprint == one.fingerprint


def test_the_fingerprint_covers_recipe_and_centring_though_the_map_be_the_same() -> None:
    # Both halves of the texts mirror each other: their mean is zero, so centring changes nothing.
    half = np.random.default_rng(1).normal(size=(500, 8))
    rows = np.concatenate([half, -half])
    how = {"anchors": AnchorSet.imagenet(), "encoder": "m", "encoder_fingerprint": "ab"}
    centred = Projection.from_text(rows, **how)  # type: ignore[arg-type]
    plain = Projection.from_text(rows, center_text=False, **how)  # type: ignore[arg-type]
    assert distance(subspace(centred), subspace(plain)) <= 1e-6  # float32 matrix
    assert plain.recipe["center_text"] is False
    assert centred.fingerprint != plain.fingerprint


@pytest.mark.parametrize(
    ("knobs", "said"),
    [
        ({"recipe": "paper-tables3"}, "did you mean paper-table3"),
        ({"anchors": AnchorSet(("a", "b"))}, "leave out anchors, or the recipe"),
        ({"normalize_text": True}, "leave out normalize_text, or the recipe"),
        ({"method": "isoclip"}, "IsoCLIP uses no texts"),
    ],
)
def test_what_contradicts_a_recipe_is_refused(
    texts: np.ndarray, knobs: dict[str, object], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        fit_projection(texts, made_by=MODEL, **{"recipe": "paper-table3", **knobs})  # type: ignore[arg-type]


def test_the_seven_templates_are_those_of_open_clip() -> None:
    open_clip = pytest.importorskip("open_clip")
    theirs = [template("cat") for template in open_clip.SIMPLE_IMAGENET_TEMPLATES]
    assert [template.format("cat") for template in SEVEN_TEMPLATES] == theirs


def test_the_command_offers_all_recipes() -> None:
    (option,) = [one for one in command.params if one.name == "recipe"]
    assert isinstance(option.type, click.Choice)
    assert list(option.type.choices) == list(NAMES)
    assert "recipe" in inspect.signature(fit_projection).parameters


@pytest.mark.parametrize("template", [(), ("a {}", "no place")])
def test_an_ensemble_needs_templates_with_a_place_each(template: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match="template"):
        AnchorSet(("a", "b"), template)
