"""The fingerprint follows the vectors, not the files, versions and folders they came from."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from intramodal.ingest.encoders.identity import tokenizer_digest, weights_digest
from intramodal.ingest.encoders.registry import load_encoder
from tests.tiny_models import (
    Save,
    Shelf,
    save_clip,
    save_dinov2,
    save_dinov2_registers,
    save_dinov3,
    save_open_clip,
    save_siglip,
    save_siglip2,
)

for library in ("torch", "open_clip", "transformers", "sentencepiece"):
    pytest.importorskip(library)

pytestmark = pytest.mark.usefixtures("offline")

TRANSFORMERS = [
    save_clip, save_siglip, save_siglip2, save_dinov2, save_dinov2_registers, save_dinov3
]  # fmt: skip
PICTURES = list(np.random.default_rng(5).integers(0, 256, (3, 40, 50, 3), dtype=np.uint8))


def edit(file: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


@pytest.mark.parametrize("save", TRANSFORMERS)
def test_a_model_that_transformers_saved_again_keeps_its_fingerprint(
    shelf: Shelf, copied: Callable[..., Path], tmp_path: Path, save: Save
) -> None:
    import transformers

    source, again = copied(save), tmp_path / "again"
    for kind in ("AutoModel", "AutoImageProcessor", "AutoTokenizer"):
        if kind != "AutoTokenizer" or shelf.encoder(save).has_text:
            getattr(transformers, kind).from_pretrained(source).save_pretrained(again)
    loaded = load_encoder(f"local-dir:{again}", device="cpu")
    assert loaded.identity == shelf.encoder(save).identity
    assert loaded.fingerprint == shelf.encoder(save).fingerprint


# What published checkpoints leave out, because it is their library's default.
_LEFT_OUT = {"layer_norm_eps", "hidden_act", "attention_dropout", "use_swiglu_ffn", "rope_theta"}


@pytest.mark.parametrize(
    ("save", "changes"),
    [(save_clip, {}), (save_siglip2, {}), (save_dinov2, {}), (save_dinov3, {})],
)
def test_a_default_that_the_config_leaves_out_is_the_same_as_one_spelt_out(
    shelf: Shelf, copied: Callable[..., Path], save: Save, changes: dict[str, Any]
) -> None:
    def leave_out(config: dict[str, Any]) -> None:
        for part in (config, config.get("text_config", {}), config.get("vision_config", {})):
            for key in _LEFT_OUT & set(part):
                del part[key]

    folder = copied(save)
    before = (folder / "config.json").read_text()
    edit(folder / "config.json", leave_out)
    assert (folder / "config.json").read_text() != before
    loaded = load_encoder(f"local-dir:{folder}", device="cpu")
    assert loaded.fingerprint == shelf.encoder(save).fingerprint


def test_notes_in_a_config_of_transformers_change_nothing(
    shelf: Shelf, copied: Callable[..., Path]
) -> None:
    folder = copied(save_clip)
    notes = {
        "transformers_version": "4.11.0", "torch_dtype": "float16", "_name_or_path": "/elsewhere",
        "id2label": {"0": "cat"}, "architectures": ["CLIPModel"], "anything": "else",
    }  # fmt: skip
    edit(folder / "config.json", lambda config: config.update(notes))
    loaded = load_encoder(f"local-dir:{folder}", device="cpu")
    assert loaded.fingerprint == shelf.encoder(save_clip).fingerprint


def test_defaults_and_notes_in_a_config_of_open_clip_change_nothing(
    shelf: Shelf, copied: Callable[..., Path]
) -> None:
    def spell_out(config: dict[str, Any]) -> None:
        model = config["model_cfg"]
        del model["quick_gelu"]  # False, as by default
        model["custom_text"] = False
        model["vision_cfg"] |= {"mlp_ratio": 4.0, "patch_dropout": 0.5, "pool_type": "tok"}
        model["text_cfg"] |= {"pool_type": "argmax", "hf_tokenizer_name": "another/place"}

    folder = copied(save_open_clip)
    edit(folder / "open_clip_config.json", spell_out)
    loaded = load_encoder(f"open_clip:local-dir:{folder}", device="cpu")
    assert loaded.fingerprint == shelf.encoder(save_open_clip).fingerprint


def test_half_precision_files_are_loaded_as_float32(copied: Callable[..., Path]) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    folder = copied(save_clip)
    weights = load_file(folder / "model.safetensors")
    save_file({k: v.half() for k, v in weights.items()}, folder / "model.safetensors",
              metadata={"format": "pt"})  # fmt: skip
    edit(
        folder / "config.json",
        lambda config: config.update(dtype="float16", torch_dtype="float16"),
    )
    encoder: Any = load_encoder(f"local-dir:{folder}", device="cpu")
    assert {p.dtype for p in encoder.runtime.replicas[0].parameters()} == {torch.float32}
    assert encoder.encode_images(PICTURES).dtype == np.float32


@pytest.mark.parametrize(
    ("save", "source", "old", "new"),
    [
        (save_open_clip, "open_clip:local-dir", "open_clip_model.safetensors",
         "open_clip_pytorch_model.bin"),
        (save_open_clip, "open_clip:local-dir", "open_clip_model.safetensors", "weights.pth"),
        (save_clip, "local-dir", "model.safetensors", "pytorch_model.bin"),
    ],
)  # fmt: skip
def test_the_format_of_the_weights_file_does_not_count(
    shelf: Shelf, copied: Callable[..., Path], save: Save, source: str, old: str, new: str
) -> None:
    import torch
    from safetensors.torch import load_file

    folder = copied(save)
    torch.save(load_file(folder / old), folder / new)
    (folder / old).unlink()
    loaded = load_encoder(f"{source}:{folder}", device="cpu")
    assert loaded.fingerprint == shelf.encoder(save).fingerprint


def test_the_fingerprint_is_of_the_identity_and_that_is_json(shelf: Shelf) -> None:
    from intramodal.types import fingerprint

    encoder = shelf.encoder(save_open_clip)
    assert encoder.fingerprint == fingerprint(json.loads(json.dumps(encoder.identity)))
    text = json.dumps(encoder.identity)
    assert str(shelf.folder) not in text
    assert encoder.precision not in text


# the two digests


def module(*shapes: tuple[int, ...], **options: Any) -> Any:
    import torch

    torch.manual_seed(1)
    return torch.nn.ParameterList([torch.randn(shape, **options) for shape in shapes])


def test_one_bit_of_one_weight_changes_the_digest() -> None:
    import torch

    weights = module((3, 4), (5,))
    before = weights_digest(weights)
    with torch.no_grad():
        weights[1][4] = torch.nextafter(weights[1][4], torch.tensor(torch.inf))
    assert weights_digest(weights) != before


def test_shape_type_and_number_of_the_weights_count() -> None:
    import torch

    zeros = [
        torch.nn.ParameterList([torch.zeros(shape, dtype=dtype) for shape in shapes])
        for shapes, dtype in [
            ([(2, 3), (6,)], torch.float32),
            ([(3, 2), (6,)], torch.float32),
            ([(12,)], torch.float32),
            ([(2, 3), (6,)], torch.float64),
            ([(2, 3), (6,), ()], torch.float32),
        ]
    ]
    assert len({weights_digest(weights) for weights in zeros}) == len(zeros)


def test_names_order_and_integer_buffers_of_a_module_do_not_count() -> None:
    """transformers 5 renamed and reordered the weights of DINOv2 with registers."""
    import torch

    plain, named = torch.nn.Module(), torch.nn.Module()
    plain.register_parameter("weight", torch.nn.Parameter(torch.ones(3)))
    plain.register_parameter("bias", torch.nn.Parameter(torch.zeros(3)))
    named.register_parameter("shift", torch.nn.Parameter(torch.zeros(3)))
    named.register_parameter("kernel", torch.nn.Parameter(torch.ones(3)))
    named.register_buffer("position_ids", torch.arange(9))
    assert weights_digest(plain) == weights_digest(named)


def test_bfloat16_and_scalar_weights_have_a_digest() -> None:
    import torch

    assert weights_digest(module((), (2,), dtype=torch.bfloat16))


@pytest.mark.parametrize(
    "other",
    [
        lambda text: text.lower(),
        lambda text: text.replace("'", ""),
        lambda text: " ".join(text.split()),
        lambda text: text.replace("&amp;", "&"),
        lambda text: text.replace("ï", "i"),
        lambda text: text[:500],
        lambda text: text.replace("ß", "ss"),
    ],
)
def test_a_tokenizer_that_cleans_texts_differently_has_another_digest(other: Any) -> None:
    vocabulary = {"a": 0}

    def tokens(clean: Callable[[str], str]) -> Callable[[Any], Any]:
        return lambda texts: [[ord(letter) for letter in clean(text)] for text in texts]

    same = tokenizer_digest(tokens(str), vocabulary)
    assert tokenizer_digest(tokens(lambda text: text + ""), dict(vocabulary)) == same
    assert tokenizer_digest(tokens(other), vocabulary) != same


def test_a_word_that_no_probe_holds_changes_the_digest_of_a_tokenizer() -> None:
    def tokens(texts: Any) -> list[list[int]]:
        return [[0] for _ in texts]

    assert tokenizer_digest(tokens, {"a": 0, "b": 1}) != tokenizer_digest(tokens, {"a": 0, "c": 1})
