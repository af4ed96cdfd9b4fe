"""Tiny models with seeded random weights, saved as each library saves its own: no network.

Every function writes into a folder that need not exist and returns the name that loads it.
Pictures are 32 pixels wide (SLIP: 224, its only size). The tokenizers know single bytes and
the words of `WORDS`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

SIDE = 32
DIM = 16
WORDS = ("a", "photo", "of", "cat", "dog", "car", "the", "picture", "red", "$")
TEXTS = ["a photo of a cat", "a red car", "The DOG", "", "picture of the cat, the dog and 3 cars"]

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

_START, _END = "<|startoftext|>", "<|endoftext|>"


def save_open_clip(
    folder: Path,
    *,
    seed: int = 0,
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

    folder.mkdir(parents=True, exist_ok=True)
    n_tokens = _save_clip_tokenizer(folder, words) if tokenizer else 49408
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
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = kinds(**parts)
        _stir(module)
    save_file(module.state_dict(), folder / "open_clip_model.safetensors")
    preprocess = {
        "size": size, "mean": list(mean), "std": list(std),
        "interpolation": interpolation, "resize_mode": resize_mode,
    }  # fmt: skip
    _write(folder / "open_clip_config.json", model_cfg=model_cfg, preprocess_cfg=preprocess)
    return f"open_clip:local-dir:{folder}"


def save_clip(
    folder: Path,
    *,
    seed: int = 0,
    hidden_act: str = "quick_gelu",
    words: Sequence[str] = WORDS,
    size: int = SIDE,
    mean: Sequence[float] = CLIP_MEAN,
    resample: int = 3,
) -> str:
    """Save a CLIP of transformers."""
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel

    folder.mkdir(parents=True, exist_ok=True)
    n_tokens = _save_clip_tokenizer(folder, words)
    text = _tower(hidden_act) | {
        "vocab_size": n_tokens, "max_position_embeddings": 24,
        "bos_token_id": n_tokens - 2, "eos_token_id": n_tokens - 1, "pad_token_id": n_tokens - 1,
    }  # fmt: skip
    vision = _vision_tower(size) | {"hidden_act": hidden_act}
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=DIM)
    _save(CLIPModel, config, folder, seed)
    CLIPImageProcessorPil(
        size={"shortest_edge": size}, crop_size={"height": size, "width": size},
        image_mean=list(mean), image_std=list(CLIP_STD), resample=resample,
    ).save_pretrained(folder)  # fmt: skip
    return f"local-dir:{folder}"


def save_siglip(folder: Path, *, seed: int = 0, words: Sequence[str] = WORDS) -> str:
    """Save a SigLIP; its tokenizer is a word list, for SigLIP's own needs sentencepiece."""
    from transformers import SiglipConfig, SiglipModel

    folder.mkdir(parents=True, exist_ok=True)
    n_tokens = _save_word_tokenizer(folder, words)
    config = SiglipConfig(text_config=_siglip_text(n_tokens), vision_config=_vision_tower(SIDE))
    _save(SiglipModel, config, folder, seed)
    _save_siglip_processor(folder)
    return f"local-dir:{folder}"


def save_siglip2(folder: Path, *, seed: int = 0, words: Sequence[str] = WORDS) -> str:
    """Save a SigLIP2 of fixed resolution: SigLIP's architecture with Gemma's tokenizer."""
    from transformers import SiglipConfig, SiglipModel

    folder.mkdir(parents=True, exist_ok=True)
    n_tokens = _save_gemma_tokenizer(folder, words)
    config = SiglipConfig(text_config=_siglip_text(n_tokens), vision_config=_vision_tower(SIDE))
    _save(SiglipModel, config, folder, seed)
    _save_siglip_processor(folder)
    return f"local-dir:{folder}"


def save_naflex(folder: Path, *, seed: int = 0) -> str:
    """Save a SigLIP2 whose inputs keep the aspect ratio (NaFlex)."""
    from transformers import Siglip2Config, Siglip2ImageProcessorPil, Siglip2Model

    folder.mkdir(parents=True, exist_ok=True)
    n_tokens = _save_gemma_tokenizer(folder, WORDS)
    vision = {**_vision_tower(SIDE), "num_patches": 16}
    config = Siglip2Config(text_config=_siglip_text(n_tokens), vision_config=vision)
    _save(Siglip2Model, config, folder, seed)
    Siglip2ImageProcessorPil(patch_size=8, max_num_patches=16).save_pretrained(folder)
    return f"local-dir:{folder}"


def save_dinov2(folder: Path, *, seed: int = 0, resize: int = 36) -> str:
    """Save a DINOv2: a margin is cropped away, as 256 -> 224 in the real one."""
    from transformers import BitImageProcessorPil, Dinov2Config, Dinov2Model

    config = Dinov2Config(**_vision_tower(SIDE), mlp_ratio=2)
    _save(Dinov2Model, config, folder, seed)
    BitImageProcessorPil(
        size={"shortest_edge": resize}, crop_size={"height": SIDE, "width": SIDE}, resample=3,
        image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225],
    ).save_pretrained(folder)  # fmt: skip
    return f"local-dir:{folder}"


def save_dinov3(folder: Path, *, seed: int = 0) -> str:
    """Save a DINOv3 with four register tokens."""
    from transformers import DINOv3ViTConfig, DINOv3ViTImageProcessor, DINOv3ViTModel

    config = DINOv3ViTConfig(**_vision_tower(SIDE), num_register_tokens=4)
    _save(DINOv3ViTModel, config, folder, seed)
    DINOv3ViTImageProcessor(size={"height": SIDE, "width": SIDE}).save_pretrained(folder)
    return f"local-dir:{folder}"


def save_slip(file: Path, *, seed: int = 0) -> str:
    """Save a checkpoint laid out as SLIP's own: ViT-tiny, and CLIP's text tower made narrow."""
    import timm
    from open_clip.transformer import TextTransformer

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        visual = timm.create_model("vit_tiny_patch16_224", num_classes=0)
        text = TextTransformer(width=64, heads=1, layers=2, output_dim=DIM)
        _stir(visual)
        _stir(text)
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


def _save(kind: Any, config: Any, folder: Path, seed: int) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = kind(config)
        _stir(module)
    module.save_pretrained(folder)


def _stir(module: Any) -> None:
    # Fresh weights are so small that tiny towers give
    # nearly the same vector for every input; this tells them apart.
    with torch.no_grad():
        for parameter in module.parameters():
            alpha = 0.5 if parameter.ndim > 1 else 0.1
            parameter.add_(torch.randn_like(parameter), alpha=alpha)


def _tower(hidden_act: str) -> dict[str, Any]:
    return {
        "hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2,
        "num_hidden_layers": 2, "hidden_act": hidden_act, "projection_dim": DIM,
    }  # fmt: skip


def _vision_tower(size: int) -> dict[str, Any]:
    return {
        "hidden_size": DIM, "intermediate_size": 32, "num_attention_heads": 2,
        "num_hidden_layers": 2, "image_size": size, "patch_size": 8,
    }  # fmt: skip


def _siglip_text(n_tokens: int) -> dict[str, Any]:
    return _tower("gelu_pytorch_tanh") | {
        "vocab_size": n_tokens, "max_position_embeddings": 64, "projection_size": DIM,
        "bos_token_id": 1, "eos_token_id": 1, "pad_token_id": 1,
    }  # fmt: skip


def _save_siglip_processor(folder: Path) -> None:
    from transformers import SiglipImageProcessorPil

    SiglipImageProcessorPil(size={"height": SIDE, "width": SIDE}).save_pretrained(folder)


def _save_clip_tokenizer(folder: Path, words: Sequence[str]) -> int:
    """Write a CLIP tokenizer (bytes, bytes that end a word, words) and return its size."""
    from tokenizers import pre_tokenizers
    from transformers import CLIPTokenizer

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = _merges([[*word[:-1], f"{word[-1]}</w>"] for word in words])
    pieces = [*letters, *(f"{letter}</w>" for letter in letters), *map("".join, merges)]
    vocabulary = {piece: i for i, piece in enumerate([*dict.fromkeys(pieces), _START, _END])}
    CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=24).save_pretrained(folder)
    return len(vocabulary)


def _save_word_tokenizer(folder: Path, words: Sequence[str]) -> int:
    """Write a lowercase word list that ends texts with ``</s>``, and return its size."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: i for i, word in enumerate(["<unk>", "</s>", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", eos_token="</s>", pad_token="</s>",
        padding_side="right", model_max_length=64,
    ).save_pretrained(folder)  # fmt: skip
    return len(vocabulary)


def _save_gemma_tokenizer(folder: Path, words: Sequence[str]) -> int:
    """Write a Gemma tokenizer (byte pairs, spaces as ▁) that ends texts; return its size."""
    from tokenizers import processors
    from transformers import GemmaTokenizer

    merges = _merges([list(f"▁{word}") for word in words])
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    letters = [f"<0x{byte:02X}>" for byte in range(256)]
    pieces = [*special, *letters, *sorted({*"".join(words), "▁"}), *map("".join, merges)]
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = GemmaTokenizer(
        vocab=vocabulary, merges=merges, padding_side="right", model_max_length=64
    )
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A <eos>", special_tokens=[("<eos>", 1)]
    )
    tokenizer.save_pretrained(folder)
    return len(vocabulary)


def _merges(words: Sequence[Sequence[str]]) -> list[tuple[str, str]]:
    """Return the byte-pair merges that join each word from its left end."""
    found: dict[tuple[str, str], None] = {}
    for letters in words:
        for end in range(1, len(letters)):
            found["".join(letters[:end]), letters[end]] = None
    return list(found)


def _write(file: Path, **content: Any) -> None:
    file.write_text(json.dumps(content, indent=2), "utf-8")
