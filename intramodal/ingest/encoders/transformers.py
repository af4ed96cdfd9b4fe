"""Models of transformers: CLIP, SigLIP, SigLIP2, DINOv2, DINOv3."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from intramodal.errors import ModelError
from intramodal.ingest.encoders.encoder import (
    Projectors,
    Towers,
    linear_projector,
    loading,
    through_first,
)
from intramodal.ingest.encoders.preprocess import Preprocessing, square, triple
from intramodal.ingest.encoders.self_contained import has_tokenizer, require_self_contained
from intramodal.model_names import split_hub_id

if TYPE_CHECKING:
    from torch import Tensor, nn

# What changes vectors without changing the weights' shapes. Taken from the config as the library
# understands it, never from the file: versions differ in what they leave out as a default.
_TEXT_FACTS = ("hidden_act", "layer_norm_eps", "num_attention_heads", "eos_token_id")
_IMAGE_FACTS = (
    "hidden_act", "layer_norm_eps", "num_attention_heads", "patch_size", "rope_theta",
    "num_register_tokens", "use_swiglu_ffn", "use_gated_mlp",
)  # fmt: skip

_DUAL = ("clip", "siglip")
_IMAGE_ONLY = ("dinov2", "dinov2_with_registers", "dinov3_vit")

WITHOUT_NETWORK = (
    "without a network, save the model with save_pretrained into a directory and name it "
    "local-dir:PATH"
)
"""What to do where nothing can be downloaded."""


@dataclass(frozen=True)
class _Source:
    """Where `from_pretrained` looks."""

    name: str
    where: str
    revision: str | None
    local: bool

    @property
    def options(self) -> dict[str, Any]:
        where = {"local_files_only": True} if self.local else {"revision": self.revision}
        # Said aloud: by default transformers asks the terminal whether to run a model's code.
        return {**where, "trust_remote_code": False}


class ClassTokenTowers(Towers):
    """DINO: the normalised class token; no text."""

    has_text = False

    def embed_pixels(self, module: Any, pixels: Tensor) -> Tensor:
        """Return the class token after the final norm."""
        features: Tensor = module(pixel_values=pixels).pooler_output
        return features

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Raise `ModelError`: there is no text tower."""
        raise self._no_text()

    def embed_tokens(self, module: nn.Module, tokens: Tensor) -> Tensor:
        """Raise `ModelError`: there is no text tower."""
        raise self._no_text()

    def vocabulary(self) -> Mapping[str, int]:
        """Raise `ModelError`: there is no text tower."""
        raise self._no_text()

    def token_embedding(self, module: nn.Module) -> nn.Module:
        """Raise `ModelError`: there is no text tower."""
        raise self._no_text()

    def projectors(self) -> Projectors:
        """Raise `ModelError`: there is no text tower."""
        raise self._no_text()

    def _no_text(self) -> ModelError:
        return ModelError(f"{self.facts['family']} has no text tower")


class DualTowers(Towers):
    """CLIP and SigLIP with their tokenizer."""

    def __init__(
        self,
        module: nn.Module,
        preprocessing: Preprocessing,
        facts: Mapping[str, Any],
        tokenizer: Any,
        *,
        revision: str | None = None,
    ) -> None:
        config: Any = module.config
        self.tokenizer = tokenizer
        self.context_length = int(config.text_config.max_position_embeddings)
        # SigLIP2 was trained on lowercase text; its Gemma tokenizer by itself keeps case.
        self.lowercase = "gemma" in type(tokenizer).__name__.lower()
        text = {
            "context_length": self.context_length,
            "lowercase": self.lowercase,
            "padding_side": tokenizer.padding_side,
        }
        super().__init__(module, preprocessing, {**facts, "text": text}, revision=revision)

    def embed_pixels(self, module: Any, pixels: Tensor) -> Tensor:
        """Return the projected (CLIP) or pooled (SigLIP) image features."""
        return _features(module.get_image_features(pixel_values=pixels))

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Return token ids padded to the context length."""
        words = [text.lower() for text in texts] if self.lowercase else list(texts)
        tokens: Tensor = self.tokenizer(
            words,
            padding="max_length",
            max_length=self.context_length,
            truncation=True,
            return_attention_mask=False,
            return_tensors="pt",
        ).input_ids
        return tokens

    def embed_tokens(self, module: Any, tokens: Tensor) -> Tensor:
        """Return the text features (CLIP: at the end of each text)."""
        # No attention mask: SigLIP was trained with its padding visible, and CLIP's causal
        # attention never looks past the end of the text.
        return _features(module.get_text_features(input_ids=tokens))

    def useful_length(self, tokens: Tensor) -> int:
        """Return the length through the end of each text for CLIP; SigLIP reads everything."""
        config: Any = self.module.config
        if config.model_type != "clip":
            return super().useful_length(tokens)
        end = config.text_config.eos_token_id
        # 2 stands in old configs; there the library takes the largest number for the end.
        return through_first(tokens, None if end == 2 else end)

    def vocabulary(self) -> Mapping[str, int]:
        """Return the tokenizer's pieces."""
        pieces: Mapping[str, int] = self.tokenizer.get_vocab()
        return pieces

    def token_embedding(self, module: Any) -> nn.Module:
        """Return the layer of the text tower."""
        layer: nn.Module = module.text_model.embeddings.token_embedding
        return layer

    def projectors(self) -> Projectors:
        """Return CLIP's two projections; SigLIP has none."""
        module: Any = self.module
        return (
            linear_projector(getattr(module, "visual_projection", None), "image"),
            linear_projector(getattr(module, "text_projection", None), "text"),
        )


def load_hub(name: str, opaque: str) -> Towers:
    """Return the model of ``ORG/NAME[@REVISION]``."""
    repo, revision = split_hub_id(opaque)
    return _load(_Source(name, repo, revision, local=False))


def load_local(name: str, opaque: str) -> Towers:
    """Return the model in a directory that `save_pretrained` wrote."""
    folder = Path(opaque).expanduser()
    _check_folder(name, folder)
    require_self_contained(name, folder)
    return _load(_Source(name, str(folder), None, local=True))


def preprocessing_of(processor: Any, name: str) -> Preprocessing:
    """Return the preprocessing that an image processor of transformers describes."""
    from PIL import Image

    if not (processor.do_resize and processor.do_rescale and processor.do_normalize):
        raise ModelError(f"model {name!r}: its image processor skips resizing or normalising")
    if abs(processor.rescale_factor * 255 - 1) > 1e-6:
        factor = processor.rescale_factor
        raise ModelError(f"model {name!r}: it scales pixels by {factor}, not by 1/255")
    size, crop = _sizes(processor.size), None
    if getattr(processor, "do_center_crop", None):
        crop = square([processor.crop_size["height"], processor.crop_size["width"]])
    shortest = size.get("shortest_edge")
    resize = shortest if shortest else square([size.get("height"), size.get("width")])
    if (shortest and not crop) or (crop and crop > resize):
        raise ModelError(f"model {name!r}: size {size} and crop {crop} give no square of one size")
    return Preprocessing(
        side=crop or resize,
        resize=resize,
        fit="shortest" if shortest else "squash",
        interpolation=Image.Resampling(processor.resample).name.lower(),
        mean=triple(processor.image_mean),
        std=triple(processor.image_std),
        odd_margin="down",
    )


def _load(source: _Source) -> Towers:
    import transformers

    with loading(source.name, WITHOUT_NETWORK, is_local=source.local):
        source = _pinned(source)
        config, _ = transformers.PretrainedConfig.get_config_dict(source.where, **source.options)
        kind = _kind(source.name, config)
        processors: Any = transformers.AutoImageProcessor  # untyped
        processor = processors.from_pretrained(source.where, **source.options)
        module = _model(source)
    preprocessing = preprocessing_of(processor, source.name)
    facts = {"family": kind, "config": _deciding(module.config)}
    if kind in _IMAGE_ONLY:
        return ClassTokenTowers(module, preprocessing, facts, revision=source.revision)
    return DualTowers(module, preprocessing, facts, _tokenizer(source), revision=source.revision)


def _pinned(source: _Source) -> _Source:
    """Return the source at one commit, so that model, processor and tokenizer belong together."""
    from transformers.utils.hub import cached_file

    if source.local:
        return source
    file = cached_file(source.where, "config.json", revision=source.revision)
    # transformers 5 no longer says the commit; the cache's path does.
    commit = re.search(r"snapshots/([0-9a-f]{40})/", Path(str(file)).as_posix())
    return replace(source, revision=commit[1]) if commit else source


def _deciding(config: Any) -> dict[str, Any]:
    towers: dict[str, tuple[Any, tuple[str, ...]]]
    towers = {"image": (getattr(config, "vision_config", config), _IMAGE_FACTS)}
    if hasattr(config, "text_config"):
        towers["text"] = (config.text_config, _TEXT_FACTS)
    return {
        tower: {key: getattr(part, key) for key in keys if getattr(part, key, None) is not None}
        for tower, (part, keys) in towers.items()
    }


def _kind(name: str, config: Mapping[str, Any]) -> str:
    kind = str(config.get("model_type"))
    if kind == "siglip2":
        raise ModelError(
            f"model {name!r} is a NaFlex SigLIP2, whose inputs keep each image's aspect ratio; "
            "take a fixed-resolution checkpoint, for example hf:google/siglip2-base-patch16-224"
        )
    if kind not in _DUAL + _IMAGE_ONLY:
        allowed = ", ".join(_DUAL + _IMAGE_ONLY)
        raise ModelError(f"model {name!r}: model_type is {kind}; supported are {allowed}")
    return kind


def _model(source: _Source) -> Any:
    import torch
    import transformers

    # dtype: by default it is the checkpoint's own, and half precision would be kept.
    module, report = transformers.AutoModel.from_pretrained(
        source.where, dtype=torch.float32, output_loading_info=True, **source.options
    )
    lost = sorted(map(str, [*report["missing_keys"], *report["mismatched_keys"]]))
    if lost:
        raise ModelError(
            f"model {source.name!r}: the checkpoint lacks {len(lost)} weights of the model "
            f"({', '.join(lost[:3])}), which would be random; get a complete checkpoint"
        )
    return module


def _tokenizer(source: _Source) -> Any:
    import transformers

    if source.local and not has_tokenizer(Path(source.where)):
        # The library would make one that knows no word.
        raise ModelError(
            f"model {source.name!r}: the directory holds no tokenizer; write it there with "
            "save_pretrained, next to the model"
        )
    with loading(source.name, WITHOUT_NETWORK, is_local=source.local):
        tokenizer = transformers.AutoTokenizer.from_pretrained(source.where, **source.options)
    declared = tokenizer.init_kwargs.get("padding_side")
    if declared and declared != tokenizer.padding_side:
        raise ModelError(
            f"model {source.name!r}: its tokenizer pads on the {tokenizer.padding_side} but the "
            f"checkpoint says {declared}; use another version of transformers"
        )
    return tokenizer


def _features(output: Any) -> Tensor:
    # transformers 5 returns an object, 4 the tensor itself.
    features: Tensor = getattr(output, "pooler_output", output)
    return features


def _sizes(size: Any) -> dict[str, Any]:
    items = dict(size) if isinstance(size, Mapping) else dict(vars(size))
    return {key: value for key, value in items.items() if value is not None}


def _check_folder(name: str, folder: Path) -> None:
    if not folder.is_dir():
        raise ModelError(f"model {name!r}: there is no directory {folder}")
    if (folder / "config.json").is_file():
        return
    if (folder / "open_clip_config.json").is_file():
        raise ModelError(
            f"model {name!r}: the directory holds a model of open_clip; write "
            f"open_clip:local-dir:{folder}"
        )
    raise ModelError(
        f"model {name!r}: the directory holds no config.json; write the model there with "
        "save_pretrained"
    )
