from __future__ import annotations

import io
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from intramodal.errors import ImageError, InputError, ModelError
from intramodal.ingest.encoders.preprocess import (
    Preprocessing,
    as_picture,
    from_open_clip,
    square,
    triple,
)

HALF = (0.5, 0.5, 0.5)


def preprocessing(**changes: Any) -> Preprocessing:
    settings = {
        "side": 32, "resize": 32, "fit": "shortest", "interpolation": "bicubic",
        "mean": HALF, "std": HALF,
    }  # fmt: skip
    return Preprocessing(**{**settings, **changes})


def stripes(width: int, height: int) -> Image.Image:
    """Return a picture whose red grows to the right and whose green grows downwards."""
    red = np.broadcast_to(np.arange(width) % 256, (height, width))
    green = np.broadcast_to((np.arange(height) % 256)[:, None], (height, width))
    return Image.fromarray(np.dstack([red, green, red * 0]).astype(np.uint8))


@pytest.mark.parametrize("fit", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("size", [(1, 1), (32, 32), (33, 32), (7, 90), (200, 13), (640, 427)])
def test_the_input_is_always_square_and_uint8(fit: Any, size: tuple[int, int]) -> None:
    pixels = preprocessing(fit=fit)(stripes(*size))
    assert (pixels.shape, pixels.dtype) == ((32, 32, 3), np.uint8)


def test_a_picture_of_the_right_size_is_untouched() -> None:
    picture = stripes(32, 32)
    np.testing.assert_array_equal(preprocessing()(picture), np.asarray(picture))


def test_the_middle_is_kept_and_as_much_is_cut_on_both_sides() -> None:
    wide, tall = preprocessing()(stripes(64, 32)), preprocessing()(stripes(32, 64))
    np.testing.assert_array_equal(wide[0, :, 0], np.arange(16, 48))
    np.testing.assert_array_equal(tall[:, 0, 1], np.arange(16, 48))


@pytest.mark.parametrize(("rule", "left"), [("even", 2), ("down", 1)])
def test_half_a_pixel_goes_where_the_library_puts_it(rule: Any, left: int) -> None:
    # 35 - 32 leaves 1.5 on each side: torchvision rounds to even, transformers down.
    pixels = preprocessing(odd_margin=rule)(stripes(35, 32))
    assert pixels[0, 0, 0] == left


def test_squashing_ignores_the_aspect_ratio() -> None:
    pixels = preprocessing(fit="squash", interpolation="bilinear")(stripes(64, 32))
    expected = np.arange(32) * 2 + 0.5  # each pixel is the middle of two
    np.testing.assert_allclose(pixels[0, 1:-1, 0], expected[1:-1], atol=1)  # rounded to integers


def test_padding_is_of_one_colour_and_even() -> None:
    white = Image.new("RGB", (64, 32), (255, 255, 255))
    pixels = preprocessing(fit="longest", fill=7)(white)
    assert (pixels[:8] == 7).all()
    assert (pixels[-8:] == 7).all()
    assert (pixels[8:-8] == 255).all()


def test_a_strip_is_refused_before_it_is_blown_up() -> None:
    with pytest.raises(ImageError, match="sides differ more than 200 times"):
        preprocessing()(Image.new("RGB", (1, 3000)))


def test_every_setting_is_part_of_the_identity() -> None:
    base = preprocessing()
    others = [
        preprocessing(side=30), preprocessing(resize=36), preprocessing(fit="squash"),
        preprocessing(interpolation="bilinear"), preprocessing(mean=(0.5, 0.5, 0.4)),
        preprocessing(std=(0.5, 0.5, 0.4)), preprocessing(odd_margin="down"),
        preprocessing(fill=1),
    ]  # fmt: skip
    identities = [base.identity(), *(other.identity() for other in others)]
    for a, b in itertools.combinations(identities, 2):
        assert a != b
    assert base.identity() == preprocessing().identity()
    assert "draft" in base.identity()["decode"]


# any form of an image


def jpeg(image: Image.Image, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", **options)
    return file.getvalue()


def test_modes_become_rgb_before_anything_is_resized() -> None:
    clear = Image.new("RGBA", (40, 40), (0, 0, 0, 0))
    assert as_picture(clear, target=32).getpixel((0, 0)) == (255, 255, 255)
    assert as_picture(np.full((8, 9), 7, np.uint8), target=32).getpixel((0, 0)) == (7, 7, 7)
    see_through = np.dstack([np.zeros((8, 9, 3), np.uint8), np.zeros((8, 9), np.uint8)])
    assert as_picture(see_through, target=32).getpixel((0, 0)) == (255, 255, 255)


def test_a_rotated_photo_is_turned_upright_in_every_form(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it rotated by 90 degrees clockwise
    data = jpeg(stripes(40, 20), exif=exif.tobytes(), quality=95)
    (tmp_path / "a.jpg").write_bytes(data)
    opened = Image.open(io.BytesIO(data))
    forms = [as_picture(form, target=32) for form in (data, tmp_path / "a.jpg", opened)]
    assert [form.size for form in forms] == [(20, 40)] * 3
    for form in forms[1:]:
        np.testing.assert_array_equal(np.asarray(form), np.asarray(forms[0]))


def test_a_small_jpeg_is_the_same_as_a_file_and_as_a_pil_image() -> None:
    data = jpeg(stripes(100, 70))
    a, b = (preprocessing()(as_picture(form, target=32))
            for form in (data, Image.open(io.BytesIO(data))))  # fmt: skip
    np.testing.assert_array_equal(a, b)


def test_a_large_jpeg_is_decoded_smaller_and_looks_nearly_the_same() -> None:
    rng = np.random.default_rng(4)
    coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
    data = jpeg(coarse.resize((1600, 1200), Image.Resampling.BICUBIC), quality=95)
    from_file = as_picture(data, target=32)
    assert min(from_file.size) == 150  # an eighth; never below twice the target
    whole = as_picture(Image.open(io.BytesIO(data)), target=32)
    assert whole.size == (1600, 1200)
    pixels = [preprocessing()(form).astype(int) for form in (from_file, whole)]
    # Blocks of 8 x 8 are averaged by the decoder instead of by the bicubic filter.
    assert np.abs(pixels[0] - pixels[1]).mean() < 1.5


def test_a_pil_image_that_is_cut_off_is_an_error_of_the_picture() -> None:
    data = jpeg(stripes(300, 300))
    with pytest.raises(ImageError, match="cannot be read"):
        as_picture(Image.open(io.BytesIO(data[: len(data) // 2])), target=32)


def test_a_file_that_is_absent_says_so_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"absent\.jpg: No such file"):
        as_picture(tmp_path / "absent.jpg", target=32)


@pytest.mark.parametrize(
    "bad", [None, 3, ["a.jpg"], np.zeros((2, 2, 3)), np.zeros((4,), np.uint8)]
)
def test_what_is_no_picture_is_refused(bad: Any) -> None:
    with pytest.raises(InputError, match="an image"):
        as_picture(bad, target=32)


# open_clip's words


def test_sizes_and_colours_may_be_one_number_or_several() -> None:
    config = {"size": (32, 32), "mean": 0.5, "std": [0.1, 0.2, 0.3]}
    found = from_open_clip(config)
    assert (found.side, found.resize, found.fit) == (32, 32, "shortest")
    assert (found.mean, found.std) == (HALF, (0.1, 0.2, 0.3))
    assert found.interpolation == "bicubic"
    assert from_open_clip({**config, "interpolation": "random"}).interpolation == "bicubic"
    assert from_open_clip({**config, "interpolation": "bilinear"}).interpolation == "bilinear"


def test_an_input_that_is_not_square_is_refused() -> None:
    with pytest.raises(ModelError, match="not square"):
        square([224, 336])
    with pytest.raises(ModelError, match="one value per colour"):
        triple([0.5, 0.5])
