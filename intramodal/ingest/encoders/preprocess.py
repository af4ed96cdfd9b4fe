"""Resizing and cropping to uint8 with Pillow alone, as each family's own transform does.

Float work (scaling, normalising) is left to the batch: many tiny tensor operations, one picture
at a time, cost more than the decoding.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from intramodal.errors import ImageError, InputError, ModelError
from intramodal.ingest.decode import DECODE_RULE, check_size, decode_image, to_rgb, upright

Triple = tuple[float, float, float]

_CODE_VERSION = 1  # raise it whenever the same settings would give other pixels


@dataclass(frozen=True)
class Preprocessing:
    """Everything between a decoded picture and the model's input."""

    side: int
    """Side of the square input in pixels."""
    resize: int
    """Side that `fit` refers to; larger than `side` where a margin is cropped away."""
    fit: Literal["shortest", "longest", "squash"]
    """Scale the shortest side to `resize` and crop; the longest and pad; or both, ignoring the
    aspect ratio."""
    interpolation: str
    """Pillow's name of the filter, in small letters."""
    mean: Triple
    std: Triple
    """Both of pixel values between 0 and 1."""
    odd_margin: Literal["even", "down"] = "even"
    """Where half a margin is no whole number: torchvision rounds to even, transformers down."""
    fill: int = 0
    """Grey value of the padding."""

    def __call__(self, image: Image.Image) -> NDArray[np.uint8]:
        """Return the input (side, side, 3) of an upright RGB picture."""
        check_size(image.size, max_pixels=sys.maxsize)
        filter_ = Image.Resampling[self.interpolation.upper()]
        resized = image.resize(self._resized(*image.size), filter_)
        cropped = self._cropped(self._padded(resized))
        return np.asarray(cropped, dtype=np.uint8)

    def identity(self) -> dict[str, Any]:
        """Return what must agree for two preprocessings to give the same vectors."""
        facts = {name: _plain(value) for name, value in asdict(self).items()}
        return {**facts, "decode": DECODE_RULE, "code": _CODE_VERSION}

    def _resized(self, width: int, height: int) -> tuple[int, int]:
        if self.fit == "squash":
            return self.resize, self.resize
        if self.fit == "longest":
            ratio = max(height, width) / self.resize
            return max(1, round(width / ratio)), max(1, round(height / ratio))
        long = int(self.resize * max(width, height) / min(width, height))
        return (self.resize, long) if width <= height else (long, self.resize)

    def _padded(self, image: Image.Image) -> Image.Image:
        missing = [max(0, self.side - length) for length in image.size]
        if not any(missing):
            return image
        before = [n // 2 for n in missing]
        after = [n - b for n, b in zip(missing, before, strict=True)]
        return ImageOps.expand(image, (*before, *after), fill=(self.fill,) * 3)

    def _cropped(self, image: Image.Image) -> Image.Image:
        if image.size == (self.side, self.side):
            return image
        left, top = (self._margin(length - self.side) for length in image.size)
        return image.crop((left, top, left + self.side, top + self.side))

    def _margin(self, spare: int) -> int:
        return spare // 2 if self.odd_margin == "down" else round(spare / 2)


def square(size: Any) -> int:
    """Return the side of a square input size: a number, or two equal ones."""
    sides = {int(side) for side in (size if isinstance(size, list | tuple) else [size])}
    if len(sides) != 1:
        raise ModelError(f"input size {size} is not square; only square inputs are supported")
    return sides.pop()


def triple(values: Any) -> Triple:
    """Return mean or std as three floats; one number stands for three equal ones."""
    numbers = [float(v) for v in (values if isinstance(values, list | tuple) else [values] * 3)]
    if len(numbers) != 3:
        raise ModelError(f"mean and std need one value per colour, got {values}")
    return numbers[0], numbers[1], numbers[2]


def from_open_clip(config: Mapping[str, Any]) -> Preprocessing:
    """Return the preprocessing that open_clip's ``preprocess_cfg`` describes."""
    side = square(config["size"])
    interpolation = config.get("interpolation") or "bicubic"
    return Preprocessing(
        side=side,
        resize=side,
        fit=config.get("resize_mode") or "shortest",
        # open_clip reads "random" as bicubic outside of training.
        interpolation="bilinear" if interpolation == "bilinear" else "bicubic",
        mean=triple(config["mean"]),
        std=triple(config["std"]),
        fill=int(config.get("fill_color") or 0),
    )


def as_picture(image: Any, *, target: int) -> Image.Image:
    """Return a PIL image, uint8 array, file name or bytes as an upright RGB picture."""
    if isinstance(image, bytes | bytearray | memoryview):
        return decode_image(bytes(image), target=target)
    if isinstance(image, str | Path):
        return decode_image(_read(Path(image)), target=target)
    if isinstance(image, Image.Image):
        return to_rgb(upright(_loaded(image)))
    if isinstance(image, np.ndarray):
        return to_rgb(_from_array(image))
    raise InputError(
        f"an image is a PIL image, a uint8 array, a file name or bytes, got {type(image).__name__}"
    )


def _from_array(array: NDArray[Any]) -> Image.Image:
    grey, colour = array.ndim == 2, array.ndim == 3 and array.shape[2] in (3, 4)
    if array.dtype != np.uint8 or not (grey or colour) or 0 in array.shape:
        raise InputError(
            f"an image as an array is uint8 of shape (height, width), (height, width, 3) or "
            f"(height, width, 4), got {array.dtype} {array.shape}"
        )
    return Image.fromarray(np.ascontiguousarray(array))


def _loaded(image: Image.Image) -> Image.Image:
    try:
        image.load()  # some formats know their orientation only now
    except (OSError, SyntaxError, ValueError) as error:
        raise ImageError(f"the PIL image cannot be read: {error}") from error
    return image


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ImageError(f"{path}: {error.strerror or error}") from error


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
