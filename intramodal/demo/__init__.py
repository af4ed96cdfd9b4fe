"""What the demo shows: real pictures and a small real model, both shipped with the package.

README.md in this folder says what they are, how they were made, and what they are not.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from intramodal.projection.projection import Projection
    from intramodal.types import Encoder


def pictures_list() -> Path:
    """Return the list of the shipped pictures.

    Examples
    --------
    >>> pictures_list().name
    'pictures.csv'
    """
    return Path(__file__).parent / "pictures" / "pictures.csv"


def fitted_once(encoder: Encoder, path: Path, texts: Path) -> Projection:
    """Fit PCA← once and save it with its texts: a second fit may differ in its last bits."""
    import numpy as np

    from intramodal.files import replacing
    from intramodal.projection.anchors import AnchorSet
    from intramodal.projection.projection import Projection

    if not (path.is_file() and texts.is_file()):
        anchors = AnchorSet.imagenet()
        embedded = encoder.encode_texts(anchors.prompts())
        with replacing(texts) as (unfinished,), unfinished.open("wb") as file:
            np.save(file, embedded, allow_pickle=False)
        if not path.is_file():
            fitted = Projection.from_text(
                embedded,
                anchors=anchors,
                encoder=encoder.name,
                encoder_fingerprint=encoder.fingerprint,
            )
            fitted.save(path)
    return Projection.load(path)
