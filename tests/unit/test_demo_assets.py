"""The demo's pictures, vectors and model: a distribution of their own."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
import tomllib
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from packaging.requirements import Requirement
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import load_file

from intramodal.demo import demo_folder, image_vectors, pictures_list, text_vectors
from intramodal.ingest.encoders.registry import load_encoder
from intramodal.projection.anchors import AnchorSet
from intramodal.projection.projection import Projection

VENDORS = {"noto", "twemoji", "fluent", "openmoji"}
MODEL = demo_folder() / "model"
ROOT = Path(__file__).parents[2]
HALF = 2.0**-11
"""Largest relative error of a float16; of a component of a unit vector, absolute."""


@pytest.fixture(scope="module")
def rows():
    with pictures_list().open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def size_mb(folder: Path) -> float:
    files = (p for p in folder.rglob("*") if p.is_file() and p.parent.name != "__pycache__")
    return sum(path.stat().st_size for path in files) / 1e6


def test_the_list_names_every_picture_once_and_nothing_else(rows):
    folder = pictures_list().parent
    there = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.webp"))
    assert sorted(row["path"] for row in rows) == there
    assert len(there) >= 4 * 400


def test_every_code_point_is_drawn_by_all_four_vendors(rows):
    drawn = defaultdict(list)
    for row in rows:
        drawn[row["code_point"]].append(row["vendor"])
        assert row["path"] == f"{row['vendor']}/{row['code_point']}.webp"
    assert all(sorted(vendors) == sorted(VENDORS) for vendors in drawn.values())


def test_an_identity_is_one_code_point_with_one_subgroup_and_category(rows):
    facts = defaultdict(set)
    for row in rows:
        facts[row["identity"]].add((row["code_point"], row["subgroup"], row["category"]))
    assert all(len(found) == 1 for found in facts.values())
    assert set(Counter(row["identity"] for row in rows).values()) == {4}


def test_every_subgroup_and_category_has_several_members(rows):
    for field in ("subgroup", "category"):
        members = Counter(row[field] for row in rows)
        assert min(members.values()) >= 2 * 4, field


def test_no_flag_skin_tone_or_joined_sequence_is_shown(rows):
    for row in rows:
        assert re.fullmatch("[0-9a-f]{2,5}", row["code_point"])
        assert not 0x1F3FB <= int(row["code_point"], 16) <= 0x1F3FF
        assert row["category"] not in ("component", "flags")


def test_every_picture_decodes_to_96_px_in_colour(rows):
    for row in rows:
        with Image.open(pictures_list().parent / row["path"]) as picture:
            picture.load()
            assert (picture.size, picture.mode, picture.format) == ((96, 96), "RGB", "WEBP")


def test_every_vendor_folder_holds_its_own_licence():
    expected = {
        "noto": "Apache License",
        "twemoji": "Creative Commons Attribution 4.0 International",
        "fluent": "Microsoft Corporation",
        "openmoji": "Attribution-ShareAlike 4.0 International",
    }
    for vendor, words in expected.items():
        text = (pictures_list().parent / vendor / "LICENSE.txt").read_text("utf-8")
        assert words in text
        assert "Changes made" in text, "licences ask for modifications to be stated"


def test_the_sources_of_the_words_are_licensed_beside_the_list():
    folder = pictures_list().parent
    assert "UNICODE LICENSE V3" in (folder / "LICENSE-CLDR.txt").read_text("utf-8")
    assert "MIT License" in (folder / "LICENSE-emojibase.txt").read_text("utf-8")


def test_the_pictures_stay_under_eight_megabytes():
    assert size_mb(pictures_list().parent) < 8


def test_naming_the_pictures_loads_no_torch():
    code = "import sys, intramodal.demo; assert not {'torch', 'PIL', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_the_package_carries_none_of_it():
    """A service that only backfills has no use for it."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)
    assert project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == ["intramodal"]
    assert size_mb(ROOT / "intramodal") < 8
    with (demo_folder().parent / "pyproject.toml").open("rb") as file:
        demo = tomllib.load(file)["project"]
    wanted = Requirement(project["project"]["optional-dependencies"]["demo"][0])
    assert wanted.name == demo["name"]
    assert demo["version"] in wanted.specifier


def test_every_licence_travels_with_it():
    with (demo_folder().parent / "pyproject.toml").open("rb") as file:
        patterns = tomllib.load(file)["project"]["license-files"]
    carried = {path for pattern in patterns for path in demo_folder().parent.glob(pattern)}
    assert carried == set(demo_folder().rglob("LICENSE*"))


def test_an_installed_package_is_found_without_a_checkout(tmp_path, monkeypatch):
    package = tmp_path / "intramodal_demo_elsewhere"
    package.mkdir()
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("intramodal.demo._CHECKOUT", tmp_path / "none")
    monkeypatch.setattr("intramodal.demo._PACKAGE", package.name)
    assert demo_folder() == package


def test_the_vectors_are_half_precision_and_one_a_row(rows):
    for path, n_rows in ((image_vectors(), len(rows)), (text_vectors(), 1000)):
        (X,) = load_file(path).values()
        assert (X.shape, X.dtype) == ((n_rows, 256), np.float16)
        np.testing.assert_allclose(np.linalg.norm(X.astype(float), axis=1), 1, atol=HALF)
    assert size_mb(image_vectors().parent) < 2


@pytest.fixture(scope="module")
def encoder():
    return load_encoder("demo", device="cpu", precision="fp32")


@pytest.fixture(scope="module")
def some(rows):
    """Every ninth code point in all four styles: enough for a rate, quick enough for each run."""
    chosen = sorted({row["code_point"] for row in rows})[::9]
    return [row for row in rows if row["code_point"] in chosen]


@pytest.fixture(scope="module")
def pictures(encoder, some):
    return encoder.encode_images([pictures_list().parent / row["path"] for row in some])


def test_the_model_is_small_and_licensed():
    assert size_mb(MODEL) < 13
    text = (MODEL / "LICENSE.txt").read_text("utf-8")
    assert "ML Illustrated" in text
    assert "Apache License" in text


def test_the_model_loads_with_both_towers(encoder):
    assert encoder.has_text
    assert (encoder.dim, encoder.image_size) == (256, 128)
    assert {p.dtype for p in encoder.towers.module.parameters()} == {torch.float32}


def test_both_towers_end_in_linear_projectors(encoder):
    image, text = encoder.projectors()
    assert image.shape == (256, 1280)
    # A text tower of rank d/2 would fix the kept directions whatever the names say.
    assert np.linalg.matrix_rank(text) > encoder.dim // 2


def test_the_shipped_vectors_are_what_the_model_makes(encoder, rows, some, pictures):
    with safe_open(image_vectors(), framework="numpy") as file:
        assert file.metadata()["encoder"] == encoder.fingerprint
    place = {row["path"]: number for number, row in enumerate(rows)}
    (images,) = load_file(image_vectors()).values()
    shown = images[[place[row["path"]] for row in some]]
    # Besides rounding to half precision: float32 sums in another order, on another processor.
    np.testing.assert_allclose(shown, unit(pictures), atol=HALF + 1e-5)
    (texts,) = load_file(text_vectors()).values()
    prompts = AnchorSet.imagenet().prompts()[::50]
    np.testing.assert_allclose(texts[::50], unit(encoder.encode_texts(prompts)), atol=HALF + 1e-5)


def test_pca_fits_on_the_text_side_without_a_warning(encoder):
    anchors = AnchorSet.imagenet()
    projection = Projection.from_text(
        encoder.encode_texts(anchors.prompts()),
        anchors=anchors,
        encoder=encoder.name,
        encoder_fingerprint=encoder.fingerprint,
    )
    assert projection.matrix.shape == (256, 128)
    assert projection.warnings() == []


def test_case_accents_and_padding_do_not_change_a_text(encoder):
    plain, other = encoder.encode_texts(["a photo of a pinata", "A  photo of a Piñata"])
    alone = encoder.encode_texts(["a photo of a pinata"])[0]
    np.testing.assert_array_equal(plain, other)
    np.testing.assert_allclose(plain, alone, atol=1e-5)  # float32 sums in another order


def test_shown_pictures_find_their_names_far_more_often_than_chance(encoder, some, pictures):
    names = sorted({row["identity"] for row in some})
    texts = encoder.encode_texts([f"an emoji of a {name}" for name in names])
    scores = unit(pictures) @ unit(texts).T
    best = np.argsort(-scores, axis=1)[:, :5]
    found = [
        row["identity"] in {names[i] for i in top} for row, top in zip(some, best, strict=True)
    ]
    chance = 5 / len(names)
    # Binomial: even if the four pictures of a code point always agreed, five deviations.
    deviation = np.sqrt(chance * (1 - chance) / len(names))
    assert np.mean(found) > chance + 5 * deviation


def test_pictures_find_their_own_concept_among_other_styles(some, pictures):
    codes = np.array([row["code_point"] for row in some])
    scores = unit(pictures) @ unit(pictures).T
    np.fill_diagonal(scores, -np.inf)
    n = len(codes)
    chance = 3 / (n - 1)
    deviation = np.sqrt(chance * (1 - chance) / (n / 4))
    assert np.mean(codes[scores.argmax(axis=1)] == codes) > chance + 5 * deviation


def unit(X):
    return X / np.linalg.norm(X, axis=1, keepdims=True)
