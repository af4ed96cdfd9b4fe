"""Every family of models keeps the contract, loaded by name from files as users have them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from intramodal.ingest.encoders.encoder import DualEncoder
from tests.contract.encoder_contract import DualEncoderContract, ImageEncoderContract
from tests.tiny_models import (
    WORDS,
    save_clip,
    save_dinov2,
    save_dinov2_registers,
    save_dinov3,
    save_open_clip,
    save_siglip,
    save_siglip2,
    save_slip,
)

for library in ("torch", "open_clip", "transformers", "sentencepiece"):
    pytest.importorskip(library)

pytestmark = pytest.mark.usefixtures("offline")

OTHER_WORDS = tuple("rag" if word == "red" else word for word in WORDS)  # as many tokens
MEAN = [0.5, 0.4, 0.3]


def inputs_of(layers: list[Any], encoder: DualEncoder, images: Any, texts: Any) -> list[Any]:
    """Return what reached `layers` while images and texts were encoded."""
    caught: dict[int, Any] = {}
    hooks = [
        layer.register_forward_hook(lambda _, inputs, __, i=i: caught.update({i: inputs[0]}))
        for i, layer in enumerate(layers)
    ]
    encoder.encode_images(images)
    encoder.encode_texts(texts)
    for hook in hooks:
        hook.remove()
    return [caught[i].numpy() for i in range(len(layers))]


def outputs_of(layers: list[Any], encoder: DualEncoder, images: Any, texts: Any) -> list[Any]:
    """Return what `layers` gave while images and texts were encoded."""
    caught: dict[int, Any] = {}
    hooks = [
        layer.register_forward_hook(lambda *seen, i=i: caught.update({i: seen[2]}))
        for i, layer in enumerate(layers)
    ]
    encoder.encode_images(images)
    encoder.encode_texts(texts)
    for hook in hooks:
        hook.remove()
    return [caught[i].numpy() for i in range(len(layers))]


def at_text_ends(states: Any, encoder: DualEncoder, texts: Any) -> Any:
    ends = encoder.towers.tokenize(texts).argmax(-1).numpy()
    return states[np.arange(len(ends)), ends]


class TestOpenClip(DualEncoderContract):
    save = staticmethod(save_open_clip)
    knobs: ClassVar = {
        "weights": ({"seed": 1}, {"weights"}),
        "tokenizer": ({"words": OTHER_WORDS}, {"tokenizer"}),
        "activation": ({"quick_gelu": True}, {"architecture"}),
        "size": ({"size": 40}, {"architecture", "weights", "preprocessing"}),
        "mean": ({"mean": MEAN}, {"preprocessing"}),
        "std": ({"std": MEAN}, {"preprocessing"}),
        "interpolation": ({"interpolation": "bilinear"}, {"preprocessing"}),
        "squash": ({"resize_mode": "squash"}, {"preprocessing"}),
        "padding": ({"resize_mode": "longest"}, {"preprocessing"}),
    }

    def last_features(self, encoder: DualEncoder, images: Any, texts: Any) -> tuple[Any, Any]:
        module: Any = encoder.towers.module
        layers = [module.visual.ln_post, module.ln_final]
        visual, text = outputs_of(layers, encoder, images, texts)
        return visual[:, 0], at_text_ends(text, encoder, texts)  # the class token


class TestOpenClipWithACustomTextTower(DualEncoderContract):
    """The layout of SigLIP and CoCa in open_clip: the text tower is a module of its own."""

    @staticmethod
    def save(folder: Path, **changes: Any) -> str:
        return save_open_clip(folder, custom_text=True, **changes)

    knobs: ClassVar = {"tokenizer": ({"words": OTHER_WORDS}, {"tokenizer"})}

    def last_features(self, encoder: DualEncoder, images: Any, texts: Any) -> tuple[Any, Any]:
        module: Any = encoder.towers.module
        layers = [module.visual.ln_post, module.text.ln_final]
        visual, text = outputs_of(layers, encoder, images, texts)
        return visual[:, 0], at_text_ends(text, encoder, texts)


class TestClip(DualEncoderContract):
    save = staticmethod(save_clip)
    knobs: ClassVar = {
        "weights": ({"seed": 1}, {"weights"}),
        "tokenizer": ({"words": OTHER_WORDS}, {"tokenizer"}),
        "activation": ({"hidden_act": "gelu"}, {"architecture"}),
        "size": ({"resize": 36}, {"preprocessing"}),
        "mean": ({"mean": MEAN}, {"preprocessing"}),
        "interpolation": ({"resample": 2}, {"preprocessing"}),
    }

    def last_features(self, encoder: DualEncoder, images: Any, texts: Any) -> tuple[Any, Any]:
        module: Any = encoder.towers.module
        layers = [module.visual_projection, module.text_projection]
        visual, text = inputs_of(layers, encoder, images, texts)
        return visual, text


class TestSiglip(DualEncoderContract):
    save = staticmethod(save_siglip)
    prompt, placeholder = "a photo of dog", "dog"  # its tokenizer drops punctuation
    ends_in_matrices = False
    reads_to_the_end = False
    knobs: ClassVar = {
        "weights": ({"seed": 1}, {"weights"}),
        "tokenizer": ({"words": OTHER_WORDS}, {"tokenizer"}),
        "interpolation": ({"resample": 2}, {"preprocessing"}),
    }


class TestSiglip2(DualEncoderContract):
    save = staticmethod(save_siglip2)
    prompt, placeholder = "a photo of dog", "dog"
    ends_in_matrices = False
    reads_to_the_end = False
    knobs: ClassVar = {
        "weights": ({"seed": 1}, {"weights"}),
        "tokenizer": ({"words": OTHER_WORDS}, {"tokenizer"}),
        "interpolation": ({"resample": 3}, {"preprocessing"}),
    }


class TestSlip(DualEncoderContract):
    save = staticmethod(save_slip)
    knobs: ClassVar = {"weights": ({"seed": 1}, {"weights"})}

    def last_features(self, encoder: DualEncoder, images: Any, texts: Any) -> tuple[Any, Any]:
        module: Any = encoder.towers.module
        layers = [module.visual.trunk, module.ln_final]
        visual, text = outputs_of(layers, encoder, images, texts)
        return visual, at_text_ends(text, encoder, texts)


class TestDinov2(ImageEncoderContract):
    save = staticmethod(save_dinov2)
    knobs: ClassVar = {
        "weights": ({"seed": 1}, {"weights"}),
        "size": ({"resize": 40}, {"preprocessing"}),
        "interpolation": ({"resample": 2}, {"preprocessing"}),
    }


class TestDinov2WithRegisters(ImageEncoderContract):
    save = staticmethod(save_dinov2_registers)
    knobs: ClassVar = {"weights": ({"seed": 1}, {"weights"})}


class TestDinov3(ImageEncoderContract):
    save = staticmethod(save_dinov3)
    knobs: ClassVar = {
        "weights": ({"seed": 1}, {"weights"}),
        "positions": ({"rope_theta": 50.0}, {"architecture"}),
    }
