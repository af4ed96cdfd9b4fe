"""What makes two encoders the same: hashes of weights and tokenizers, without paths or devices."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

# Case, punctuation, digits, accents, other scripts, emoji, entities, spaces, and more words than
# any context length: what tokenizers and their cleaning differ in.
_PROBES = (
    "",
    "a photo of a cat",
    "a photo of a 2012 BMW M3 coupe, a type of car.",
    "A Photo Of A CAT!",
    "don't; it's the cat's - (they're) #1 @home $5 100% 3.14",
    "naïve café Ångström ß İstanbul",
    "кошка 猫 고양이 قطة बिल्ली",
    "😀 👩‍🚀 ☃️ ←",
    "AT&amp;T &lt;b&gt;  two  spaces\ttab\nline",
    "_under_score_ CamelCase snake-case",
    " ".join(f"word{n}" for n in range(300)),
)


_NOTHING = object()


def weights_digest(module: nn.Module) -> str:
    """Return the SHA-256 of a module's floating-point weights and buffers, as a set.

    Type, shape and bytes of every tensor count. Names and order do not, because libraries rename
    and reorder members between versions; neither do integer buffers, which are positions and
    counters.
    """
    import torch

    tensors = [
        _tensor_digest(tensor)
        for tensor in module.state_dict().values()
        if isinstance(tensor, torch.Tensor) and tensor.is_floating_point()
    ]
    return hashlib.sha256(b"".join(sorted(tensors))).hexdigest()


def _tensor_digest(tensor: Tensor) -> bytes:
    import torch

    digest = hashlib.sha256(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
    flat = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    digest.update(flat.numpy().data)  # no copy
    return digest.digest()


def tokenizer_digest(
    tokenize: Callable[[Sequence[str]], Tensor], vocabulary: Mapping[str, int]
) -> str:
    """Return the SHA-256 of a vocabulary and of how a list of awkward texts is encoded."""
    digest = hashlib.sha256()
    for word, number in sorted(vocabulary.items(), key=lambda item: (item[1], item[0])):
        digest.update(f"{number} {word}\n".encode("utf-8", "surrogatepass"))
    ids = [[int(token) for token in row] for row in tokenize(_PROBES)]
    digest.update(json.dumps(ids).encode())
    return digest.hexdigest()


def without(config: Mapping[str, Any], transient: frozenset[str]) -> dict[str, Any]:
    """Return a nested config without the keys that change no vector."""
    return {
        key: without(value, transient) if isinstance(value, Mapping) else value
        for key, value in config.items()
        if key not in transient
    }


def differing(config: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return a nested config without the values that say what would hold anyway.

    Examples
    --------
    >>> differing({"eps": 1e-5, "text": {"heads": 8, "width": 4}}, {"text": {"heads": 8}})
    {'eps': 1e-05, 'text': {'width': 4}}
    """
    kept = {}
    for key, value in config.items():
        default = defaults.get(key, _NOTHING)
        if isinstance(value, Mapping) and isinstance(default, Mapping):
            kept[key] = differing(value, default)
        elif value != default:
            kept[key] = value
    return kept
