"""The small model that ships with the package."""

from __future__ import annotations

from pathlib import Path

from intramodal.errors import ModelError
from intramodal.ingest.encoders.open_clip import CONFIG, OpenClipTowers, load_folder

FOLDER = Path(__file__).parents[2] / "demo" / "model"


def load_demo(name: str, opaque: str) -> OpenClipTowers:
    """Return the shipped model."""
    if not (FOLDER / CONFIG).is_file():
        raise ModelError("the demo model is missing from this installation; install it again")
    return load_folder(name, FOLDER)
