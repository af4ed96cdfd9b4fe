"""Tiny models with seeded random weights, saved as each library saves its own: no network.

Every function writes into a folder that need not exist and returns the name that loads it.
Pictures are 32 pixels wide (SLIP: 224, its only size). The tokenizers know single letters and
the words of `WORDS`. `stir` is how far weights are moved from fresh ones; with 0 they are as
small as the library draws them. `Shelf` saves each model once.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from intramodal.ingest.encoders.registry import load_encoder
from tests.tiny_tokenizers import (
    save_clip_tokenizer,
    save_gemma_tokenizer,
    save_siglip_tokenizer,
    write_json,
)

if TYPE_CHECKING:
    from intramodal.ingest.encoders.encoder import DualEncoder

SIDE = 32
DIM = 16
WORDS = ("a", "photo", "of", "cat", "dog", "car", "the", "picture", "red", "$")
TEXTS = ["a photo of a cat", "a red car", "The DOG", "", "picture of the cat, the dog and 3 cars"]

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

_IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}

Save = Callable[..., str]


class Shelf:
    """Every tiny model that was asked for: saved once below `folder`, loaded once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._names: dict[str, str] = {}
        self._encoders: dict[str, Any] = {}

    def name(self, save: Save, **changes: Any) -> str:
        """Return the name that loads what `save` writes with `changes`."""
        key = f"{save.__module__} {save.__qualname__} {changes}"
        if key not in self._names:
            self._names[key] = save(self.folder / str(len(self._names)), **changes)
        return self._names[key]

    def encoder(self, save: Save, **changes: Any) -> DualEncoder:
        """Return the model that `save` writes with `changes`, on the CPU; don't change it."""
        name = self.name(save, **changes)
        if name not in self._encoders:
            self._encoders[name] = load_encoder(name, device="cpu")
        encoder: DualEncoder = self._encoders[name]
        return encoder


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    return Shelf(tmp_path_factory.mktemp("shelf"))


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no library ask the model hub."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # read on import


def save_open_clip(
    folder: Path,
    *,
    seed: int = 0,
    stir: float = 1.0,
    quick_gelu: bool = False,
    words: Sequence[str] = WORDS,
    size: int = SIDE,
    mean: Sequence[float] = CLIP_MEAN,
    std: Sequence[float] = CLIP_STD,
    interpolation: str = "bicubic",
    resize_mode: str = "shortest",
    custom_text: bool = False,
    tokenizer: bool = True,
) -> str:
    """Save a CLIP of open_clip; without `tokenizer` it uses the bundled one, with 49,408 words."""
    import open_clip
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    n_tokens = save_clip_tokenizer(folder, words) if tokenizer else 49408
    text = {"context_length": 24, "vocab_size": n_tokens, "width": 16, "heads": 2, "layers": 2}
    if tokenizer:
        text["hf_tokenizer_name"] = "its own"
    model_cfg = {
        "embed_dim": DIM,
        "quick_gelu": quick_gelu,
        "vision_cfg": {
            "image_size": size, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8
        },
        "text_cfg": text,
    }  # fmt: skip
    if custom_text:
        model_cfg["custom_text"] = True
    kinds: Any = open_clip.CustomTextCLIP if custom_text else open_clip.CLIP
    parts = {key: value for key, value in model_cfg.items() if key != "custom_text"}
    with _seeded(seed):
        module = kinds(**parts)
        _stir(module, stir)
    save_file(module.state_dict(), folder / "open_clip_model.safetensors")
    preprocess = {
        "size": size, "mean": list(mean), "std": list(std),
        "interpolation": interpolation, "resize_mode": resize_mode,
    }  # fmt: skip
    write_json(folder / "open_clip_config.json", model_cfg=model_cfg, preprocess_cfg=preprocess)
    return f"open_clip:local-dir:{folder}"


def save_clip(
    folder: Path,
    *,
    seed: int = 0,
    stir: float = 1.0,
    hidden_act: str = "quick_gelu",
    words: Sequence[str] = WORDS,
    resize: int = SIDE,
    mean: Sequence[float] = CLIP_MEAN,
    resample: int = 3,
) -> str:
    """Save a CLIP of transformers."""
    from transformers import CLIPConfig, CLIPModel

    folder.mkdir(parents=True, exist_ok=True)
    n_tokens = save_clip_tokenizer(folder, words)
    text = _tower(hidden_act) | {
        "vocab_size": n_tokens, "max_position_embeddings": 24,
        "bos_token_id": n_tokens - 2, "eos_token_id": n_tokens - 1, "pad_token_id": n_tokens - 1,
    }  # fmt: skip
    vision = _vision_tower() | {"hidden_act": hidden_act}
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=DIM)
    _save(CLIPModel, config, folder, seed, stir)
    _save_preprocessing(
        folder, "CLIPImageProcessor", crop=SIDE, size=resize, resample=resample,
        image_mean=list(mean), image_std=list(CLIP_STD),
    )  # fmt: skip
    return f"local-dir:{folder}"


def save_siglip(
    folder: Path,
    *,
    seed: int = 0,
    stir: float = 1.0,
    words: Sequence[str] = WORDS,
    resample: int = 3,
) -> str:
    """Save a SigLIP with its own kind of tokenizer, which needs sentencepiece."""
    folder.mkdir(parents=True, exist_ok=True)
    _save_siglip(folder, (seed, stir), save_siglip_tokenizer(folder, words), resample)
    return f"local-dir:{folder}"


def save_siglip2(
    folder: Path,
    *,
    seed: int = 0,
    stir: float = 1.0,
    words: Sequence[str] = WORDS,
    resample: int = 2,
) -> str:
    """Save a SigLIP2 of fixed resolution: SigLIP's architecture with Gemma's tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    _save_siglip(folder, (seed, stir), save_gemma_tokenizer(folder, words), resample)
    return f"local-dir:{folder}"


def save_naflex(folder: Path, *, seed: int = 0, stir: float = 1.0) -> str:
    """Save a SigLIP2 whose inputs keep the aspect ratio (NaFlex)."""
    from transformers import Siglip2Config, Siglip2Model

    folder.mkdir(parents=True, exist_ok=True)
    n_tokens = save_gemma_tokenizer(folder, WORDS)
    vision = {**_vision_tower(), "num_patches": 16}
    config = Siglip2Config(text_config=_siglip_text(n_tokens), vision_config=vision)
    _save(Siglip2Model, config, folder, seed, stir)
    processor = {"image_processor_type": "Siglip2ImageProcessor", "max_num_patches": 16}
    write_json(folder / "preprocessor_config.json", patch_size=8, **processor)
    return f"local-dir:{folder}"


def save_dinov2(
    folder: Path, *, seed: int = 0, stir: float = 1.0, resize: int = 36, resample: int = 3
) -> str:
    """Save a DINOv2: it crops a margin away and has more positions than patches, as the real."""
    from transformers import Dinov2Config, Dinov2Model

    config = Dinov2Config(**_vision_tower() | {"image_size": 48}, mlp_ratio=2)
    _save(Dinov2Model, config, folder, seed, stir)
    _save_preprocessing(
        folder, "BitImageProcessor", crop=SIDE, size={"shortest_edge": resize},
        resample=resample, **_IMAGENET,
    )  # fmt: skip
    return f"local-dir:{folder}"


def save_dinov2_registers(folder: Path, *, seed: int = 0, stir: float = 1.0) -> str:
    """Save a DINOv2 with four register tokens."""
    from transformers import Dinov2WithRegistersConfig, Dinov2WithRegistersModel

    config = Dinov2WithRegistersConfig(**_vision_tower(), mlp_ratio=2, num_register_tokens=4)
    _save(Dinov2WithRegistersModel, config, folder, seed, stir)
    _save_preprocessing(
        folder, "BitImageProcessor", crop=SIDE, size={"shortest_edge": 36}, resample=3, **_IMAGENET
    )
    return f"local-dir:{folder}"


def save_dinov3(
    folder: Path, *, seed: int = 0, stir: float = 1.0, rope_theta: float = 100.0
) -> str:
    """Save a DINOv3 with four register tokens."""
    from transformers import DINOv3ViTConfig, DINOv3ViTModel

    config = DINOv3ViTConfig(**_vision_tower(), num_register_tokens=4, rope_theta=rope_theta)
    _save(DINOv3ViTModel, config, folder, seed, stir)
    size = {"height": SIDE, "width": SIDE}
    _save_preprocessing(
        folder, "DINOv3ViTImageProcessorFast", crop=None, size=size, resample=2, **_IMAGENET
    )
    return f"local-dir:{folder}"


def save_slip(file: Path, *, seed: int = 0, stir: float = 1.0) -> str:
    """Save a checkpoint laid out as SLIP's own: ViT-tiny, and CLIP's text tower made narrow."""
    import timm
    import torch
    from open_clip.transformer import TextTransformer

    with _seeded(seed):
        visual = timm.create_model("vit_tiny_patch16_224", num_classes=0)
        text = TextTransformer(width=64, heads=1, layers=2, output_dim=DIM)
        _stir(visual, stir)
        _stir(text, stir)
        state = {f"visual.{key}": value for key, value in visual.state_dict().items()}
        state |= text.state_dict()
        state["image_projection"] = torch.randn(192, DIM) / 14  # about 192 ** -0.5
        state["logit_scale"] = torch.tensor(2.6593)
        state["image_mlp.layer1.weight"] = torch.randn(8, 192)
    file.parent.mkdir(parents=True, exist_ok=True)
    checkpoint = {
        "epoch": 100,
        "state_dict": {f"module.{key}": value for key, value in state.items()},
        "optimizer": {"state": {}, "param_groups": []},
        "args": argparse.Namespace(model="SLIP_VITB16", lr=3e-3),
    }
    torch.save(checkpoint, file)
    return f"slip:{file}"


def _save(kind: Any, config: Any, folder: Path, seed: int, stir: float) -> None:
    with _seeded(seed):
        module = kind(config)
        _stir(module, stir)
    module.save_pretrained(folder)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def _stir(module: Any, strength: float) -> None:
    import torch

    # With fresh weights a tiny tower gives nearly the same vector for every input.
    with torch.no_grad():
        for parameter in module.parameters():
            n_terms = parameter.shape[-1] if parameter.ndim > 1 else 400
            noise = torch.randn_like(parameter)
            parameter.add_(noise, alpha=2 * strength / n_terms**0.5)


def _tower(hidden_act: str) -> dict[str, Any]:
    return {
        "hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2,
        "num_hidden_layers": 2, "hidden_act": hidden_act, "projection_dim": DIM,
    }  # fmt: skip


def _vision_tower() -> dict[str, Any]:
    return {
        "hidden_size": DIM, "intermediate_size": 32, "num_attention_heads": 2,
        "num_hidden_layers": 2, "image_size": SIDE, "patch_size": 8,
    }  # fmt: skip


def _siglip_text(n_tokens: int) -> dict[str, Any]:
    return _tower("gelu_pytorch_tanh") | {
        "vocab_size": n_tokens, "max_position_embeddings": 64, "projection_size": DIM,
        "bos_token_id": 1, "eos_token_id": 1, "pad_token_id": 1,
    }  # fmt: skip


def _save_siglip(folder: Path, how: tuple[int, float], n_tokens: int, resample: int) -> None:
    from transformers import SiglipConfig, SiglipModel

    config = SiglipConfig(text_config=_siglip_text(n_tokens), vision_config=_vision_tower())
    _save(SiglipModel, config, folder, *how)
    half, size = [0.5, 0.5, 0.5], {"height": SIDE, "width": SIDE}
    _save_preprocessing(
        folder, "SiglipImageProcessor", crop=None, size=size, resample=resample,
        image_mean=half, image_std=half,
    )  # fmt: skip


def _save_preprocessing(folder: Path, kind: str, *, crop: int | None, **settings: Any) -> None:
    """Write preprocessor_config.json in the words of the published checkpoints."""
    content = {
        "image_processor_type": kind, "do_resize": True, "do_rescale": True,
        "rescale_factor": 1 / 255, "do_normalize": True, **settings,
    }  # fmt: skip
    if crop:
        content |= {"do_center_crop": True, "crop_size": {"height": crop, "width": crop}}
    write_json(folder / "preprocessor_config.json", **content)
