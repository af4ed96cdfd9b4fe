"""Models of open_clip: built-in architectures with tagged weights, hub repositories, folders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from intramodal.demo import model_folder
from intramodal.errors import ModelError, NotFound
from intramodal.ingest.encoders.encoder import (
    Projectors,
    Towers,
    as_float64,
    linear_projector,
    loading,
    through_first,
)
from intramodal.ingest.encoders.identity import differing, without
from intramodal.ingest.encoders.preprocess import from_open_clip
from intramodal.ingest.encoders.self_contained import require_self_contained
from intramodal.model_names import closest
from intramodal.types import parsed_json

if TYPE_CHECKING:
    from torch import Tensor, nn

CONFIG = "open_clip_config.json"

# Where things come from, and how they are trained: no vector depends on them.
_TRANSIENT = frozenset(
    {"timm_model_pretrained", "hf_model_pretrained", "hf_tokenizer_name", "patch_dropout",
     "timm_drop", "timm_drop_path", "init_logit_scale", "init_logit_bias"}
)  # fmt: skip

_AT_END = ("argmax", "eos")
"""Poolings that read the features off the end of the text."""

WITHOUT_NETWORK = (
    "without a network, put open_clip_config.json and the weights into a directory and name it "
    "open_clip:local-dir:PATH"
)
"""What to do where nothing can be downloaded."""


class OpenClipTowers(Towers):
    """A model of open_clip with its tokenizer."""

    def __init__(self, module: Any, tokenizer: Any, config: Mapping[str, Any]) -> None:
        facts = {"family": "open_clip", "config": _deciding(config)}
        super().__init__(module, from_open_clip(module.visual.preprocess_cfg), facts)
        self.tokenizer = tokenizer

    def embed_pixels(self, module: Any, pixels: Tensor) -> Tensor:
        """Return the projected image features."""
        # CoCa normalises by default; the others do not.
        return _first(module.encode_image(pixels, normalize=False))

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Return token ids padded to the context length."""
        tokens: Tensor = self.tokenizer(list(texts))
        return tokens

    def embed_tokens(self, module: Any, tokens: Tensor) -> Tensor:
        """Return the projected text features."""
        name, text = _text_tower(module)
        n_tokens = tokens.shape[1]
        if not self._reads_to_the_end(text) or n_tokens >= len(text.positional_embedding):
            return _first(module.encode_text(tokens, normalize=False))
        short = {
            f"{name}positional_embedding": text.positional_embedding[:n_tokens],
            f"{name}attn_mask": text.attn_mask[:n_tokens, :n_tokens],
        }
        return _first(_with_tensors(module, short, tokens))

    def useful_length(self, tokens: Tensor) -> int:
        """Return the length through the end of each text for causal towers, else all of it."""
        _, text = _text_tower(self.module)
        if not self._reads_to_the_end(text):
            return super().useful_length(tokens)
        end = getattr(text, "eos_id", getattr(text, "text_eos_id", None))
        return through_first(tokens, end if _pooling(text) == "eos" else None)

    def _reads_to_the_end(self, text: Any) -> bool:
        is_causal = getattr(text, "attn_mask", None) is not None
        # CoCa appends a class token, after the padding.
        has_class_token = getattr(text, "cls_emb", None) is not None
        pads = getattr(text, "use_pad_mask", False)
        return is_causal and not has_class_token and not pads and _pooling(text) in _AT_END

    def vocabulary(self) -> Mapping[str, int]:
        """Return the byte pairs, or the pieces of a tokenizer of transformers."""
        wrapped = getattr(self.tokenizer, "tokenizer", None)
        pieces: Mapping[str, int] = wrapped.get_vocab() if wrapped else self.tokenizer.encoder
        return pieces

    def token_embedding(self, module: Any) -> nn.Module:
        """Return the layer of the text tower."""
        text = getattr(module, "text", module)
        layer: nn.Module
        if hasattr(text, "token_embedding"):
            layer = text.token_embedding
        else:  # a text tower of transformers
            layer = text.transformer.get_input_embeddings()
        return layer

    def projectors(self) -> Projectors:
        """Return the matrices after the last norm (or pooling) of both towers."""
        module: Any = self.module
        visual, text = module.visual, getattr(module, "text", module)
        head = getattr(visual, "head", None)
        image_layer = getattr(visual, "proj", None)
        if head is not None and hasattr(head, "proj"):
            image_layer = head.proj
        return (
            _projector(image_layer, "image"),
            _projector(getattr(text, "text_projection", None), "text"),
        )


def load_open_clip(name: str, opaque: str) -> OpenClipTowers:
    """Return the model of ``ARCH:TAG``, ``hf-hub:ORG/NAME`` or ``local-dir:PATH``."""
    schema, _, rest = opaque.partition(":")
    if schema == "local-dir":
        return load_folder(name, Path(rest))
    if schema == "hf-hub":
        return _create(name, opaque, None, quick_gelu=False)
    return _load_tag(name, schema, rest)


def load_folder(name: str, folder: Path) -> OpenClipTowers:
    """Return the model in a directory with open_clip's config and weights."""
    folder = folder.expanduser()
    _check_folder(name, folder)
    require_self_contained(name, folder)
    return _create(name, f"local-dir:{folder}", None, quick_gelu=False, is_local=True)


def model_config(name: str, source: str) -> dict[str, Any]:
    """Return the ``model_cfg`` of what open_clip calls `source`."""
    import open_clip

    with loading(name, WITHOUT_NETWORK):
        config = open_clip.get_model_config(source)
    if not isinstance(config, dict):
        hint = closest(source, open_clip.list_models())
        raise ModelError(f"model {name!r}: open_clip has no architecture {source!r}{hint}")
    return config


def _load_tag(name: str, arch: str, tag: str) -> OpenClipTowers:
    import open_clip

    model_config(name, arch)
    tag_config = open_clip.get_pretrained_cfg(arch, tag)
    if tag_config:
        return _create(name, arch, tag, quick_gelu=bool(tag_config.get("quick_gelu")))
    if Path(tag).expanduser().is_file():
        # A file does not say which activation it was trained with: the architecture's name does.
        return _create(name, arch, str(Path(tag).expanduser()), quick_gelu=False)
    tags = open_clip.list_pretrained_tags_by_model(arch)
    raise ModelError(
        f"model {name!r}: {tag!r} is no weights of {arch}, nor a file{closest(tag, tags)}; there "
        f"are {', '.join(tags) or 'none'}"
    )


def _create(
    name: str, source: str, pretrained: str | None, *, quick_gelu: bool, is_local: bool = False
) -> OpenClipTowers:
    import open_clip

    config = model_config(name, source)
    if quick_gelu:
        config["quick_gelu"] = True
    with loading(name, WITHOUT_NETWORK, is_local=is_local):
        # require_pretrained: without it, missing weights mean random ones and a log line.
        module = open_clip.create_model(
            source,
            pretrained=pretrained,
            force_quick_gelu=quick_gelu,
            pretrained_text=False,
            require_pretrained=True,
        )
        tokenizer = _tokenizer(source, config)
    return OpenClipTowers(module, tokenizer, config)


def _tokenizer(source: str, config: Mapping[str, Any]) -> Any:
    import open_clip

    if not config.get("text_cfg", {}).get("hf_tokenizer_name"):
        return open_clip.get_tokenizer(source)
    # The config's tokenizer_kwargs may ask to run Python code from the folder, without a question.
    return open_clip.get_tokenizer(source, trust_remote_code=False)


def _check_folder(name: str, folder: Path) -> None:
    if not folder.is_dir():
        raise ModelError(f"model {name!r}: there is no directory {folder}")
    if not (folder / CONFIG).is_file():
        if (folder / "config.json").is_file():
            raise ModelError(
                f"model {name!r}: the directory holds a model of transformers; write "
                f"local-dir:{folder}"
            )
        raise ModelError(f"model {name!r}: the directory holds no {CONFIG}")
    try:
        complete = "model_cfg" in parsed_json((folder / CONFIG).read_text("utf-8"))
    except ValueError as error:
        raise ModelError(f"model {name!r}: {CONFIG} is no JSON ({error})") from error
    if not complete:
        raise ModelError(f"model {name!r}: {CONFIG} lacks model_cfg")
    if not any(p.suffix in (".safetensors", ".bin", ".pth") for p in folder.iterdir()):
        raise ModelError(
            f"model {name!r}: the directory holds no weights; open_clip reads *.safetensors, "
            "*.bin and *.pth (rename a .pt to .pth)"
        )


def _deciding(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config without what changes no vector: notes, and defaults that are spelt out."""
    from open_clip import CLIPTextCfg, CLIPVisionCfg

    towers = {"vision_cfg": asdict(CLIPVisionCfg()), "text_cfg": asdict(CLIPTextCfg())}
    defaults = {**towers, "quick_gelu": False, "custom_text": False}
    return differing(without(config, _TRANSIENT), defaults)


def _text_tower(module: Any) -> tuple[str, Any]:
    """Return the text tower, and what its members' names begin with in the whole model."""
    return ("text.", module.text) if hasattr(module, "text") else ("", module)


def _pooling(text: Any) -> Any:
    return getattr(text, "text_pool_type", getattr(text, "pool_type", None))


def _with_tensors(module: Any, tensors: Mapping[str, Tensor], tokens: Tensor) -> Any:
    """Return the text features with some parameters and buffers replaced for this call."""
    import torch

    class TextTower(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.whole = module

        def forward(self, tokens: Tensor) -> Any:
            return self.whole.encode_text(tokens, normalize=False)

    replaced = {f"whole.{name}": tensor for name, tensor in tensors.items()}
    return torch.func.functional_call(TextTower(), replaced, (tokens,), tie_weights=False)


def _first(output: Any) -> Tensor:
    # Towers with output_tokens return (pooled, tokens).
    pooled: Tensor = output[0] if isinstance(output, tuple) else output
    return pooled


def _projector(layer: Any, what: str) -> Any:
    import torch

    if isinstance(layer, torch.nn.Parameter):  # x @ parameter, so transposed
        return as_float64(layer).T
    return linear_projector(layer, what)


def load_demo(name: str, opaque: str) -> OpenClipTowers:
    """Return the demo's model."""
    try:
        folder = model_folder()
    except NotFound as error:
        raise ModelError(f"model {name!r}: {error}") from error
    return load_folder(name, folder)
