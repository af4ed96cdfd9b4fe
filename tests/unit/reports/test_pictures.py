"""Where the pictures of any collection are: a folder, a pattern, an address, or nowhere."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from intramodal.errors import InputError
from intramodal.reports.pictures import FIELDS, PictureSource


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shop-a").mkdir()
    for name in ("7.png", "shop-a/7.png"):
        Image.new("RGB", (40, 20), "red").save(tmp_path / name)
    return tmp_path


@pytest.mark.parametrize("field", FIELDS)
def test_common_names_are_tried(folder: Path, field: str) -> None:
    found = PictureSource(folder).picture(1, {field: "7.png", "other": "x"})
    assert found.image.startswith("data:image/webp;base64,")


def test_a_field_may_be_named_also_a_nested_one(folder: Path) -> None:
    source = PictureSource(folder, "shot.file")
    assert source.picture(1, {"path": "gone.png", "shot": {"file": "7.png"}}).image
    assert not source.picture(1, {"path": "7.png"}).image


def test_a_pattern_is_filled_with_the_payload(folder: Path) -> None:
    source = PictureSource(f"{folder}/shop-{{shop}}/{{sku}}.png")
    assert source.picture(1, {"shop": "a", "sku": 7}).image
    assert not source.picture(1, {"shop": "a"}).image
    assert not source.picture(1, {"shop": "b", "sku": 7}).image


@pytest.mark.parametrize(
    ("place", "payload"),
    [
        ("{folder}/shop-a", {"path": "../7.png"}),
        ("{folder}/shop-a/{{sku}}.png", {"sku": "../7"}),
        ("{folder}/shop-a", {"path": "{folder}/7.png"}),
    ],
)
def test_a_payload_cannot_lead_out_of_the_folder(
    folder: Path, place: str, payload: dict[str, str]
) -> None:
    filled = {key: value.format(folder=folder) for key, value in payload.items()}
    assert not PictureSource(place.format(folder=folder)).picture(1, filled).image


@pytest.mark.parametrize("place", [None, "https://cdn.example.com/{sku}.jpg"])
def test_addresses_are_links_and_nothing_is_fetched(place: str | None) -> None:
    payload = {"sku": 7, "url": "https://cdn.example.com/7.jpg"}
    found = PictureSource(place).picture(1, payload)
    assert (found.link, found.image) == ("https://cdn.example.com/7.jpg", "")


@pytest.mark.parametrize(
    "url", ["javascript:alert(1)", "data:text/html,x", "file:///x", "http://"]
)
def test_other_schemes_are_no_links(url: str) -> None:
    assert PictureSource().picture(1, {"url": url}).link == ""


def test_the_caption_is_the_label_and_what_the_payload_calls_the_point() -> None:
    source = PictureSource()
    payload = {"productDisplayName": "Blue Shirt", "filename": "7.png"}
    assert source.picture(7, payload, label="Shirts").caption == "Shirts · Blue Shirt"
    assert source.picture(7, {"filename": "7.png"}).caption == "7.png"
    assert source.picture(7, {}).caption == "7"


def test_without_pictures_one_sentence_says_what_to_give(folder: Path) -> None:
    source = PictureSource()
    nothing = source.missing([source.picture(1, {"filename": "7.png"})])
    assert nothing is not None
    assert "filename" in nothing
    assert "picture_field" in nothing
    there = PictureSource(folder)
    assert there.missing([there.picture(1, {"file": "7.png"})]) is None
    wrong = there.missing([there.picture(1, {"file": "8.png"})])
    assert wrong is not None
    assert str(folder) in wrong


def test_a_folder_that_is_not_there_is_refused_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no folder"):
        PictureSource(tmp_path / "gone")
    with pytest.raises(InputError, match="names its own payload fields"):
        PictureSource("photos/{sku}.jpg", "path")
