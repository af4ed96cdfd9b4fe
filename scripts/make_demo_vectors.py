"""Encode the demo's pictures and ImageNet's class names with the demo's model, in half precision.

Run it after `make_demo_pictures.py` or `make_demo_model.py`: `intramodal demo` shows these vectors
where torch is not installed.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from intramodal.demo import image_vectors, pictures_list, text_vectors
from intramodal.ingest.encoders.registry import load_encoder
from intramodal.ingest.sources.formats import open_source
from intramodal.projection.anchors import AnchorSet
from intramodal.types import Encoder, Floats, unit_rows


def main() -> None:
    encoder = load_encoder("demo", device="cpu", precision="fp32")
    pictures = [record.read() for record in open_source(str(pictures_list()))]
    write(image_vectors(), "images", encoder.encode_images(pictures), encoder)
    write(text_vectors(), "texts", AnchorSet.imagenet().embed(encoder), encoder)


def write(path: Path, name: str, X: Floats, encoder: Encoder) -> None:
    """Write unit rows (n, d): half precision then loses at most 2^-11 of each component."""
    path.parent.mkdir(exist_ok=True)
    save_file({name: unit_rows(X).astype(np.float16)}, path, {"encoder": encoder.fingerprint})
    print(f"{path.name}: {X.shape[0]:,} rows of {X.shape[1]}, {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
