"""Images of revisited Oxford and Paris: what a ground truth names, queries whole or cropped."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from intramodal import evaluate_revisited, read_ground_truth
from intramodal.errors import ImageError, InputError, SourceError
from intramodal.ingest.pipeline import images_collection, ingest_images
from intramodal.ingest.sources.base import Source
from intramodal.ingest.sources.formats import open_source
from intramodal.store.base import Store
from tests.plain_encoder import PlainEncoder
from tests.unit.ingest.pipeline_kit import contents, counts
from tests.unit.ingest.sources_kit import keys, payloads, reasons

GALLERY = ["hall_000001", "hall_000002", "st.tower_000001"]
QUERIES = ["hall_000000", "st.tower_000000"]
BOXES: list[list[float]] = [[2.5, 3.5, 20.4, 30.6], [-4, 0, 30, 500]]


def pixels(name: str) -> np.ndarray:
    """Return the pixels (40, 30, 3) of an image, another at every place."""
    rng = np.random.default_rng(sum(name.encode()))
    return rng.integers(0, 256, (40, 30, 3), dtype=np.uint8)


def write(folder: Path, **parts: Any) -> Path:
    """Write images of no loss and their ground truth; return the latter."""
    (folder / "jpg").mkdir(exist_ok=True)
    for name in (*GALLERY, *QUERIES, "not_named"):
        Image.fromarray(pixels(name)).save(folder / "jpg" / f"{name}.png")
    gnd = [
        {"easy": [0], "hard": [1], "junk": [2], "bbx": BOXES[0]},
        {"easy": [2], "hard": [], "junk": [0], "bbx": BOXES[1]},
    ]
    data = {"imlist": GALLERY, "qimlist": QUERIES, "gnd": gnd, **parts}
    path = folder / "gnd.pkl"
    path.write_bytes(pickle.dumps(data, 2))
    return path


def opened(folder: Path, crop: bool = False, **parts: Any) -> Source:
    truth = write(folder, **parts)
    return open_source(str(folder / "jpg"), ground_truth=truth, crop=crop)


def refusal(folder: Path, **given: Any) -> str:
    with pytest.raises(SourceError) as caught:
        opened(folder, **given)
    return str(caught.value)


def read(source: Source, key: str) -> bytes:
    (record,) = (record for record in source if record.key == key)
    return record.read()


def test_exactly_the_named_images_are_read_with_their_side_and_name(tmp_path: Path) -> None:
    source = opened(tmp_path)
    assert keys(source) == [f"{name}.png" for name in (*GALLERY, *QUERIES)]
    assert keys(source) == keys(source)
    assert source.is_complete
    expected: dict[str, dict[str, Any]] = {
        f"{name}.png": {"split": "gallery", "name": name} for name in GALLERY
    }
    expected |= {
        f"{name}.png": {"split": "query", "name": name, "cropped": False} for name in QUERIES
    }
    assert payloads(source) == expected


def test_a_query_is_cropped_as_pillow_crops_to_its_box(tmp_path: Path) -> None:
    source = opened(tmp_path, crop=True)
    got = Image.open(io.BytesIO(read(source, f"{QUERIES[0]}.png")))
    # PIL rounds half to even: 2.5, 3.5, 20.4, 30.6 are 2, 4, 20, 31.
    whole = Image.fromarray(pixels(QUERIES[0]))
    np.testing.assert_array_equal(np.asarray(got), np.asarray(whole.crop((2, 4, 20, 31))))
    np.testing.assert_array_equal(np.asarray(got), np.asarray(whole.crop(tuple(BOXES[0]))))
    assert payloads(source)[f"{QUERIES[0]}.png"]["cropped"] is True


def test_a_box_that_is_larger_than_the_image_is_cut_to_it(tmp_path: Path) -> None:
    got = Image.open(io.BytesIO(read(opened(tmp_path, crop=True), f"{QUERIES[1]}.png")))
    np.testing.assert_array_equal(np.asarray(got), pixels(QUERIES[1]))


def test_gallery_images_are_never_cropped(tmp_path: Path) -> None:
    whole, cropped = opened(tmp_path), opened(tmp_path, crop=True)
    for name in GALLERY:
        assert read(whole, f"{name}.png") == read(cropped, f"{name}.png")
    for name in QUERIES:
        assert read(whole, f"{name}.png") != read(cropped, f"{name}.png")


def test_a_box_outside_of_the_image_is_a_listed_failure(tmp_path: Path) -> None:
    gnd = [{"easy": [0], "hard": [], "junk": [], "bbx": [30, 0, 90, 9]}] * 2
    source = opened(tmp_path, crop=True, gnd=gnd)
    with pytest.raises(ImageError, match=r"\(30, 0, 90, 9\) lies outside of 30 x 40 pixels"):
        read(source, f"{QUERIES[0]}.png")


def test_missing_and_broken_images_are_listed_and_the_others_ingested(
    tmp_path: Path, store: Store, encoder: PlainEncoder
) -> None:
    truth = write(tmp_path)
    (tmp_path / "jpg" / f"{QUERIES[0]}.png").unlink()
    (tmp_path / "jpg" / f"{QUERIES[1]}.png").write_bytes(b"no image")
    (tmp_path / "jpg" / f"{GALLERY[0]}.png").unlink()
    for crop in (False, True):
        source = open_source(str(tmp_path / "jpg"), ground_truth=truth, crop=crop)
        photos = images_collection(store, f"oxford-{crop}", encoder=encoder)
        done = ingest_images(source, photos, encoder=encoder)
        assert (done.written, done.failed) == (2, 3)
        found = {failure["item"]: failure["reason"] for failure in done.failures}
        # The names of files that are not there are those of the benchmark.
        assert "no such file" in found[f"{QUERIES[0]}.jpg"]
        assert "no such file" in found[f"{GALLERY[0]}.jpg"]
        assert "not an image" in found[f"{QUERIES[1]}.png"]
    assert reasons(source)[f"{QUERIES[0]}.jpg"]


def test_cropped_and_whole_queries_are_never_taken_for_each_other(
    tmp_path: Path, store: Store, encoder: PlainEncoder
) -> None:
    truth = write(tmp_path)
    photos = images_collection(store, "oxford", encoder=encoder)

    def ingest(crop: bool) -> tuple[int, ...]:
        source = open_source(str(tmp_path / "jpg"), ground_truth=truth, crop=crop)
        return counts(ingest_images(source, photos, encoder=encoder))[:2]

    assert ingest(crop=False) == (5, 0)
    whole = contents(photos)
    assert ingest(crop=True) == (2, 3)
    cropped = contents(photos)
    assert ingest(crop=True) == (0, 5)
    for name in QUERIES:
        before, after = (one[f"{name}.png"] for one in (whole, cropped))
        assert before[0] == after[0]
        assert before[1]["sha256"] != after[1]["sha256"]
        assert (before[1]["cropped"], after[1]["cropped"]) == (False, True)
    assert cropped[f"{QUERIES[0]}.png"][2] != whole[f"{QUERIES[0]}.png"][2]
    assert ingest(crop=False) == (2, 3)
    assert contents(photos) == whole


def test_what_is_ingested_can_be_evaluated_and_says_whether_queries_were_cropped(
    tmp_path: Path, store: Store, encoder: PlainEncoder
) -> None:
    truth = write(tmp_path)
    for crop in (False, True):
        photos = images_collection(store, f"oxford-{crop}", encoder=encoder)
        source = open_source(str(tmp_path / "jpg"), ground_truth=truth, crop=crop)
        ingest_images(source, photos, encoder=encoder)
        for field in ("path", "name"):
            found = evaluate_revisited(
                photos,
                ground_truth=read_ground_truth(truth),
                vectors=["raw"],
                name_field=field,
            )
            assert found.n_cropped == (2 if crop else 0)
            assert found["medium", "raw"].labels == QUERIES


def test_an_ingest_that_stopped_between_queries_is_not_evaluated(
    tmp_path: Path, store: Store, encoder: PlainEncoder
) -> None:
    truth = write(tmp_path)
    photos = images_collection(store, "oxford", encoder=encoder)
    source = open_source(str(tmp_path / "jpg"), ground_truth=truth)
    ingest_images(source, photos, encoder=encoder)
    cropped = list(open_source(str(tmp_path / "jpg"), ground_truth=truth, crop=True))
    ingest_images(cropped[:-1], photos, encoder=encoder)
    with pytest.raises(InputError, match=r"1 of 2 queries were cropped before encoding and 1 we"):
        evaluate_revisited(photos, ground_truth=read_ground_truth(truth), vectors=["raw"])


def test_another_folder_is_refused_with_the_one_that_is_meant(tmp_path: Path) -> None:
    truth = write(tmp_path)
    with pytest.raises(SourceError) as caught:
        open_source(str(tmp_path), ground_truth=truth)
    assert str(caught.value) == (
        f"{tmp_path} has none of the 5 images that {truth} names, such as hall_000001.jpg; give "
        f"the folder with these files (is it {tmp_path / 'jpg'}?)"
    )
    with pytest.raises(SourceError, match=r"nowhere has none of the 5 images"):
        open_source(str(tmp_path / "nowhere"), ground_truth=truth)


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"imlist": ["../secret", "b", "c"]}, "the path leads out of the folder"),
        ({"qimlist": ["/etc/passwd", "b"]}, "the path is absolute"),
        ({"qimlist": ["hall_000001", "b"]}, "names 1 images as query and as gallery image"),
    ],
)
def test_names_that_are_no_files_of_the_folder_are_refused(
    tmp_path: Path, parts: dict[str, Any], said: str
) -> None:
    assert said in refusal(tmp_path, **parts)


def test_a_ground_truth_without_boxes_leaves_queries_whole(tmp_path: Path) -> None:
    gnd = [{"easy": [0], "hard": [], "junk": []}] * 2
    assert len(keys(opened(tmp_path, gnd=gnd))) == 5
    assert "has no boxes (bbx) to crop the queries to" in refusal(tmp_path, gnd=gnd, crop=True)


def test_options_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    truth = write(tmp_path)
    with pytest.raises(SourceError, match="crop is for the queries of a ground truth"):
        open_source(str(tmp_path / "jpg"), crop=True)
    with pytest.raises(SourceError, match="both list the images; give one"):
        open_source(str(tmp_path / "jpg"), ground_truth=truth, split_file=truth)
