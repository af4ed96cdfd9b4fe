"""Checkpoints of SLIP, read as the open_clip models that they are.

A timm ViT (plain GELU) beside CLIP's text tower (QuickGELU), each with a bias-free projection.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from intramodal.errors import ModelError
from intramodal.ingest.encoders.encoder import loading
from intramodal.ingest.encoders.open_clip import CONFIG, OpenClipTowers

if TYPE_CHECKING:
    from torch import Tensor

State = dict[str, "Tensor"]

WEIGHTS = "open_clip_model.safetensors"

_VISION = {
    192: "vit_tiny_patch16_224",
    768: "vit_base_patch16_224",
    1024: "vit_large_patch16_224",
}
_PREPROCESS = {
    "size": 224,
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
    "interpolation": "bilinear",
    "resize_mode": "shortest",
}
_HEAD_WIDTH = 64
_ADVICE = "give a checkpoint of SLIP, for example slip_base_100ep.pt"


def load_slip(name: str, opaque: str) -> OpenClipTowers:
    """Return the model in a checkpoint of SLIP."""
    import open_clip
    from open_clip.model import CLIP, set_model_preprocess_cfg

    config, state = read_slip(name, Path(opaque).expanduser())
    with loading(name, _ADVICE, is_local=True):
        module = CLIP(**config)
        module.load_state_dict(state, strict=True)
        set_model_preprocess_cfg(module, _PREPROCESS)
        tokenizer = open_clip.SimpleTokenizer(context_length=config["text_cfg"]["context_length"])
    return OpenClipTowers(module, tokenizer, config)


def convert_slip(source: Path, target: Path) -> Path:
    """Write a checkpoint of SLIP as a directory that ``open_clip:local-dir:TARGET`` loads."""
    from safetensors.torch import save_file

    is_taken = target.exists() and (not target.is_dir() or any(target.iterdir()))
    if is_taken or target.is_symlink():
        raise ModelError(f"{target} exists already; give the name of a new directory")
    config, state = read_slip(f"slip:{source}", source)
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{target.name}.{os.getpid()}")
    unfinished.mkdir()
    try:
        save_file(state, unfinished / WEIGHTS)
        declared = {"model_cfg": config, "preprocess_cfg": _PREPROCESS}
        (unfinished / CONFIG).write_text(json.dumps(declared, indent=2), "utf-8")
        unfinished.replace(target)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return target


def read_slip(name: str, path: Path) -> tuple[dict[str, Any], State]:
    """Return open_clip's ``model_cfg`` and state of a checkpoint of SLIP."""
    state = _checkpoint(name, path)
    missing = [key for key in ("image_projection", "text_projection", "visual.cls_token",
                               "token_embedding.weight", "positional_embedding")
               if key not in state]  # fmt: skip
    if missing:
        raise ModelError(f"model {name!r} lacks {', '.join(missing)}; {_ADVICE}")
    return _config(name, state), _renamed(state)


def _checkpoint(name: str, path: Path) -> State:
    import torch

    if not path.is_file():
        raise ModelError(f"model {name!r}: there is no file {path}")
    with (
        loading(name, _ADVICE, is_local=True),
        torch.serialization.safe_globals([argparse.Namespace]),
    ):
        # SLIP stores its command line's arguments; nothing else is unpickled but tensors.
        content = torch.load(path, map_location="cpu", weights_only=True)
    state = content.get("state_dict") if isinstance(content, Mapping) else None
    if not isinstance(state, Mapping):
        raise ModelError(f"model {name!r} holds no state_dict; {_ADVICE}")
    return {key.removeprefix("module."): value for key, value in state.items()}


def _config(name: str, state: State) -> dict[str, Any]:
    width = state["visual.cls_token"].shape[-1]
    if width not in _VISION:
        # ViT-S of SLIP has 12 heads of 32, which no architecture of timm has.
        raise ModelError(
            f"model {name!r}: its image tower is {width} wide; supported are the ViT-B and ViT-L "
            "checkpoints (768 and 1024)"
        )
    context_length, text_width = state["positional_embedding"].shape
    return {
        "embed_dim": state["text_projection"].shape[1],
        "quick_gelu": True,
        "vision_cfg": {
            "timm_model_name": _VISION[width],
            "timm_pool": "",
            "timm_proj": "linear",
            "image_size": 224,
        },
        "text_cfg": {
            "context_length": context_length,
            "vocab_size": state["token_embedding.weight"].shape[0],
            "width": text_width,
            "heads": text_width // _HEAD_WIDTH,
            "layers": _n_layers(state),
        },
    }


def _n_layers(state: State) -> int:
    found = (re.match(r"transformer\.resblocks\.(\d+)\.", key) for key in state)
    return 1 + max(int(match[1]) for match in found if match)


def _renamed(state: State) -> State:
    renamed: State = {}
    for key, value in state.items():
        if key == "image_projection":
            renamed["visual.head.proj.weight"] = value.float().T.contiguous()
        elif key.startswith("visual."):
            renamed[f"visual.trunk.{key.removeprefix('visual.')}"] = value.float().contiguous()
        elif not key.startswith("image_mlp."):  # the self-supervised head
            renamed[key] = value.float().contiguous()
    return renamed
