"""Augmented views: drawn alike by every process, and vectors of an origin of their own."""

from __future__ import annotations

import hashlib
import io
import math
import subprocess
import sys
from collections.abc import Mapping

import numpy as np
import pytest
from PIL import Image

from intramodal.errors import InputError, ManifestMismatchError
from intramodal.ingest.augmentation import AugmentedView, drawn_box, middle_box
from intramodal.ingest.backfill.in_place import backfill
from intramodal.ingest.decode import decode_image
from intramodal.ingest.pipeline import images_collection, ingest_images
from intramodal.projection.projection import Projection
from intramodal.store.base import Store
from intramodal.store.collection import ImageCollection
from intramodal.types import ImageRecord, point_id, unit_rows
from tests.plain_encoder import SIDE, PlainEncoder

N = 12
ALL = ("raw", "raw_augmented", "pca", "pca_augmented")


def noise(seed: int, size: tuple[int, int] = (40, 30)) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def file_of(seed: int) -> bytes:
    file = io.BytesIO()
    noise(seed).save(file, "PNG")
    return file.getvalue()


def records(seeds: Mapping[int, int] | None = None) -> list[ImageRecord]:
    """Return N images; `seeds` replaces the content of some."""
    content = {n: n for n in range(N)} | dict(seeds or {})
    return [
        ImageRecord(f"{n}.png", lambda seed=seed: file_of(seed), {"label": f"l{n % 3}"})  # type: ignore[misc]
        for n, seed in content.items()
    ]


def photos(
    store: Store, encoder: PlainEncoder, projection: Projection | None = None, **how: object
) -> ImageCollection:
    return images_collection(store, "photos", encoder=encoder, projection=projection, **how)  # type: ignore[arg-type]


def rows(collection: ImageCollection, vectors: tuple[str, ...] = ALL) -> dict[str, np.ndarray]:
    return collection.table(vectors).vectors


# The view


def test_every_process_makes_the_same_view_of_a_point() -> None:
    code = (
        "import hashlib\n"
        "from tests.plain_encoder import PlainEncoder\n"
        "from tests.unit.ingest.test_augmentation import noise\n"
        "from intramodal.ingest.augmentation import AugmentedView\n"
        "view = AugmentedView(PlainEncoder(), 3)\n"
        "crops = [view.crop(noise(1), f'point {i}').tobytes() for i in range(20)]\n"
        "print(hashlib.sha256(b''.join(crops)).hexdigest())"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        for _ in range(2)
    }
    view = AugmentedView(PlainEncoder(), 3)
    here = b"".join(view.crop(noise(1), f"point {i}").tobytes() for i in range(20))
    assert found == {hashlib.sha256(here).hexdigest()}


def test_points_and_seeds_have_views_of_their_own() -> None:
    image = noise(1)
    crops = {
        AugmentedView(PlainEncoder(), seed).crop(image, point).tobytes()
        for seed in (0, 1)
        for point in ("a", "b")
    }
    assert len(crops) == 4


def test_a_view_is_what_torchvision_makes_of_the_same_box() -> None:
    transforms = pytest.importorskip("torchvision.transforms.v2.functional")
    view = AugmentedView(PlainEncoder(), 0)
    image, n_flipped = noise(2, (90, 60)), 0
    for i in range(40):
        found = view.crop(image, f"{i}")
        seed = int.from_bytes(hashlib.sha256(f"0/{i}".encode()).digest()[:16], "big")
        left, top, right, bottom = drawn_box(image.size, np.random.default_rng(seed))
        theirs = transforms.resized_crop(
            image, top, left, bottom - top, right - left, [SIDE, SIDE],
            interpolation=transforms.InterpolationMode.BICUBIC,
        )  # fmt: skip
        is_flipped = not np.array_equal(found, np.asarray(theirs))
        n_flipped += is_flipped
        if is_flipped:
            theirs = transforms.horizontal_flip(theirs)
        np.testing.assert_array_equal(found, np.asarray(theirs))
    # Binomial with 40 and one half: five standard deviations are 16.
    assert 4 < n_flipped < 36


def test_boxes_have_the_areas_and_ratios_of_the_rule(rng: np.random.Generator) -> None:
    size = (1000, 800)
    boxes = np.array([drawn_box(size, rng) for _ in range(2000)])
    w, h = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    assert boxes.min() == 0
    assert boxes[:, 2].max() <= 1000
    assert boxes[:, 3].max() <= 800
    area, ratio = w * h / (1000 * 800), w / h
    assert (area.min(), area.max()) == (pytest.approx(0.5, abs=0.01), pytest.approx(1, abs=0.03))
    assert (ratio.min(), ratio.max()) == (
        pytest.approx(3 / 4, abs=0.01),
        pytest.approx(4 / 3, abs=0.01),
    )
    assert boxes[:, 0].max() > 200  # not always at the edge


@pytest.mark.parametrize("size", [(100, 1), (1, 100), (400, 20), (1, 1)])
def test_where_no_box_fits_it_is_the_middle_with_the_nearest_ratio(size: tuple[int, int]) -> None:
    left, top, right, bottom = middle_box(size)
    w, h = right - left, bottom - top
    assert abs(left - (size[0] - right)) <= 1
    assert abs(top - (size[1] - bottom)) <= 1
    assert w <= round(4 / 3 * h)  # whole pixels
    assert h <= round(4 / 3 * w)
    assert math.isclose(min(w, h), min(size))
    crop = AugmentedView(PlainEncoder(), 0).crop(noise(3, size), "point")
    assert crop.shape == (SIDE, SIDE, 3)


def test_its_identity_is_not_that_of_the_encoder_and_covers_the_seed() -> None:
    encoder = PlainEncoder()
    views = [
        AugmentedView(encoder),
        AugmentedView(encoder, 1),
        AugmentedView(PlainEncoder(seed=1)),
    ]
    assert len({encoder.fingerprint, *(view.fingerprint for view in views)}) == 4
    assert views[0].name == "plain (augmented view)"


# In a collection


def test_an_ingest_writes_the_views_beside_the_images(
    store: Store, encoder: PlainEncoder, projection: Projection
) -> None:
    collection = photos(store, encoder, projection, augment=True)
    done = ingest_images(
        records(), collection, encoder=encoder, projection=projection, augment=True
    )
    assert (done.written, encoder.n_encoded) == (N, 2 * N)
    table = collection.table(ALL, payload=["path"])
    view = AugmentedView(encoder)
    for row, path in enumerate(table.payload["path"]):
        image = decode_image(file_of(int(path.removesuffix(".png"))), target=SIDE)
        raw = encoder.encode_pixels(encoder.preprocess(image)[None])
        cut = encoder.encode_pixels(view.crop(image, point_id("photos", path))[None])
        made = {"raw": raw, "raw_augmented": cut}
        made |= {"pca": projection.apply(raw), "pca_augmented": projection.apply(cut)}
        for name, X in made.items():  # stored as float32 of unit length
            np.testing.assert_allclose(table.vectors[name][row], unit_rows(X)[0], atol=1e-6)
    assert np.abs(table.vectors["raw"] - table.vectors["raw_augmented"]).max() > 0.1


def test_a_repeat_encodes_nothing(
    store: Store, encoder: PlainEncoder, projection: Projection
) -> None:
    how = {"encoder": encoder, "projection": projection, "augment": True}
    collection = photos(store, **how)  # type: ignore[arg-type]
    ingest_images(records(), collection, **how)  # type: ignore[arg-type]
    before, n = rows(collection), encoder.n_encoded
    done = ingest_images(records(), photos(store, **how), **how)  # type: ignore[arg-type]
    assert (done.written, done.skipped, encoder.n_encoded) == (0, N, n)
    for name, X in rows(collection).items():
        np.testing.assert_array_equal(X, before[name])


def test_views_are_added_to_images_that_are_there_already(
    store: Store, encoder: PlainEncoder, projection: Projection
) -> None:
    how = {"encoder": encoder, "projection": projection}
    collection = photos(store, **how)  # type: ignore[arg-type]
    ingest_images(records()[:4], collection, **how)  # type: ignore[arg-type]
    before = rows(collection, ("raw", "pca"))
    collection = photos(store, **how, augment=True)  # type: ignore[arg-type]
    assert not collection.manifest.vectors["raw_augmented"].is_complete
    done = ingest_images(records(), collection, **how, augment=True)  # type: ignore[arg-type]
    assert (done.written, done.skipped) == (N, 0)
    again = ImageCollection.open(store, "photos")
    assert again.table(ALL).n_incomplete == 0
    assert all(again.manifest.vectors[name].is_complete for name in ALL)
    fresh = rows(again, ("raw", "pca"))
    ids = again.table(("raw",)).ids
    old = [ids.index(point_id("photos", f"{n}.png")) for n in range(4)]
    old.sort()
    for name, X in before.items():
        np.testing.assert_allclose(fresh[name][old], X, atol=1e-6)


def test_a_changed_image_gets_a_new_vector_and_a_new_view(
    store: Store, encoder: PlainEncoder
) -> None:
    collection = photos(store, encoder, augment=True)
    ingest_images(records(), collection, encoder=encoder, augment=True)
    before, ids = rows(collection, ALL[:2]), collection.table(("raw",)).ids
    done = ingest_images(records({3: 99}), collection, encoder=encoder, augment=True)
    assert (done.written, done.skipped) == (1, N - 1)
    changed = ids.index(point_id("photos", "3.png"))
    for name, X in rows(collection, ALL[:2]).items():
        is_same = (before[name] == X).all(axis=1)
        assert np.flatnonzero(~is_same).tolist() == [changed]


def test_a_killed_ingest_goes_on_to_the_same_vectors(store: Store, encoder: PlainEncoder) -> None:
    whole = images_collection(store, "whole", encoder=encoder, augment=True, dataset="photos")
    ingest_images(records(), whole, encoder=encoder, augment=True, dataset="photos")

    class Killed(PlainEncoder):
        def encode_pixels(self, pixels: np.ndarray) -> np.ndarray:
            if self.n_encoded > N:
                raise KeyboardInterrupt
            return super().encode_pixels(pixels)

    collection = photos(store, encoder, augment=True)
    with pytest.raises(KeyboardInterrupt):
        ingest_images(records(), collection, encoder=Killed(), augment=True, batch_size=2)
    assert 0 < collection.count() < N
    ingest_images(records(), collection, encoder=encoder, augment=True, batch_size=5)
    for name, X in rows(whole, ALL[:2]).items():
        np.testing.assert_array_equal(rows(collection, ALL[:2])[name], X)


# What does not fit together


def test_another_seed_and_no_view_at_all_are_refused(store: Store, encoder: PlainEncoder) -> None:
    collection = photos(store, encoder, augment=True)
    ingest_images(records(), collection, encoder=encoder, augment=True)
    with pytest.raises(ManifestMismatchError, match="vector 'raw_augmented' was made by plain"):
        photos(store, encoder, augment=True, augment_seed=1)
    with pytest.raises(ManifestMismatchError, match="vector 'raw_augmented' was made by plain"):
        ingest_images(records(), collection, encoder=encoder, augment=True, augment_seed=1)
    with pytest.raises(InputError, match="has augmented views in 'raw_augmented' and new images"):
        ingest_images(records(), collection, encoder=encoder)


def test_nothing_takes_views_for_the_encoders_own_vectors(
    store: Store, encoder: PlainEncoder, projection: Projection
) -> None:
    collection = photos(store, encoder, augment=True)
    ingest_images(records(), collection, encoder=encoder, augment=True)
    origin = collection.manifest.vectors["raw_augmented"]
    assert not origin.agrees_with(collection.manifest.vectors["raw"])
    with pytest.raises(ManifestMismatchError, match=r"vectors were made by plain \(augmented"):
        backfill(collection, projection, source="raw_augmented", vector="pca")
