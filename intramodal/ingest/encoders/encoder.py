"""The encoders that `load_encoder` returns: one class for one tower, one for two."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from intramodal.errors import InputError, ModelError
from intramodal.ingest.encoders.identity import tokenizer_digest, weights_digest
from intramodal.ingest.encoders.preprocess import as_picture
from intramodal.ingest.encoders.runtime import Runtime, choose_devices, choose_precision
from intramodal.ingest.encoders.towers import Projectors, Towers
from intramodal.types import Floats, fingerprint

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor, nn


class ImageEncoder:
    """An `Encoder` without a text tower.

    Parameters
    ----------
    name : str
        The name it was loaded by.
    towers : Towers
        The loaded model.
    runtime : Runtime
        Where it runs.

    Attributes
    ----------
    revision : str or None
        Commit of the model hub, where it came from there.
    """

    has_text = False

    def __init__(self, name: str, towers: Towers, runtime: Runtime) -> None:
        self.name = name
        self.towers = towers
        self.runtime = runtime
        self.revision = towers.revision
        self.image_size = towers.preprocessing.side
        self.precision = runtime.precision
        self.device = runtime.devices[0].type
        self.identity: Mapping[str, Any] = _identity(towers)
        self.fingerprint = fingerprint(self.identity)
        blank = np.zeros((1, self.image_size, self.image_size, 3), dtype=np.uint8)
        self.dim = int(self._embed(blank).shape[1])

    def __repr__(self) -> str:
        where = f"{self.precision} on {self.device}"
        return f"{type(self).__name__}({self.name!r}, dim={self.dim}, {where})"

    def preprocess(self, image: Image.Image) -> NDArray[np.uint8]:
        """Return the model's input (image_size, image_size, 3) of a picture of any mode."""
        return self.towers.preprocessing(as_picture(image, target=self.image_size))

    def encode_pixels(self, pixels: NDArray[np.uint8]) -> Floats:
        """Return the embeddings (n, dim) of stacked `preprocess` results (n, side, side, 3)."""
        shape = (self.image_size, self.image_size, 3)
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1:] != shape:
            raise InputError(
                f"pixels are uint8 of shape (n, {shape[0]}, {shape[1]}, 3), got {pixels.dtype} "
                f"{pixels.shape}; stack the results of preprocess"
            )
        return self._embed(pixels) if len(pixels) else self._nothing()

    def encode_images(self, images: Sequence[Any], *, batch_size: int = 32) -> Floats:
        """Return the embeddings (n, dim) of pictures: PIL, uint8 array, file name or bytes."""
        results = [self._nothing()]
        for batch in _batches(images, batch_size):
            pixels = [self.preprocess(image) for image in batch]
            results.append(self.encode_pixels(np.stack(pixels)))
        return np.concatenate(results)

    def encode_texts(self, texts: Sequence[str], *, batch_size: int = 256) -> Floats:
        """Raise `ModelError`: there is no text tower."""
        raise ModelError(
            f"{self.name} has no text tower, so it encodes no texts and has no PCA←; for those "
            "use a CLIP-like model"
        )

    def _embed(self, pixels: NDArray[np.uint8]) -> Floats:
        import torch

        writable = pixels if pixels.flags.writeable else pixels.copy()  # torch warns otherwise
        rows = torch.from_numpy(np.ascontiguousarray(writable))
        return self.runtime.run(rows, self._forward_pixels)

    def _forward_pixels(self, module: nn.Module, pixels: Tensor) -> Tensor:
        import torch

        settings = self.towers.preprocessing
        mean = torch.tensor(settings.mean, device=pixels.device).view(1, 3, 1, 1)
        std = torch.tensor(settings.std, device=pixels.device).view(1, 3, 1, 1)
        scaled = pixels.permute(0, 3, 1, 2).contiguous().float().div_(255)
        return self.towers.embed_pixels(module, scaled.sub_(mean).div_(std))

    def _nothing(self) -> Floats:
        return np.empty((0, self.dim), dtype=np.float32)


class DualEncoder(ImageEncoder):
    """An `Encoder` with a text tower; also `HasProjectors` and `TextInvertible`.

    Attributes
    ----------
    token_width : int
        Length of a token embedding.
    """

    has_text = True

    def __init__(self, name: str, towers: Towers, runtime: Runtime) -> None:
        super().__init__(name, towers, runtime)
        weight: Any = self._token_embedding().weight
        self.token_width = int(weight.shape[1])

    def encode_texts(self, texts: Sequence[str], *, batch_size: int = 256) -> Floats:
        """Return the embeddings (n, dim) of texts."""
        if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
            raise InputError("texts must be a list of str, even for a single one")
        results = [self._nothing()]
        for batch in _batches(texts, batch_size):
            tokens = self.towers.tokenize(list(batch))
            results.append(self.runtime.run(tokens, self.towers.embed_tokens))
        return np.concatenate(results)

    def projectors(self) -> Projectors:
        """Return the image projector (dim, d_image) and the text projector (dim, d_text)."""
        return self.towers.projectors()

    def embed_prompt(self, prompt: str, placeholder: str) -> tuple[Tensor, int]:
        """Return the token embeddings (1, n_tokens, width) and the placeholder's position.

        Where the text tower is causal they end with the text: about 7 instead of 77 positions.

        Parameters
        ----------
        prompt : str
            For example ``"a photo of $"``.
        placeholder : str
            A word of `prompt` that is one token, once.
        """
        import torch

        tokens = self.towers.tokenize([prompt])
        position = self._position(tokens[0].tolist(), prompt, placeholder)
        tokens = tokens[:, : self.towers.useful_length(tokens)]
        layer = self._token_embedding()
        with torch.no_grad():
            weight: Any = layer.weight
            return layer(tokens.to(weight.device)).detach(), position

    def encode_token_embeddings(self, embeddings: Tensor, prompt: str) -> Tensor:
        """Return text embeddings (n, dim), differentiable, of token embeddings of `prompt`.

        Parameters
        ----------
        embeddings : Tensor of shape (n, n_tokens, width)
            Of `embed_prompt`, with the placeholder replaced.
        prompt : str
            The same prompt: its tokens say where the text ends.
        """
        tokens = self.towers.tokenize([prompt])[:, : embeddings.shape[1]].to(embeddings.device)
        with _replaced_output(self._token_embedding(), embeddings):
            features = self.runtime.on_first(
                tokens.expand(len(embeddings), -1), self.towers.embed_tokens
            )
        return features.float()

    def _token_embedding(self) -> nn.Module:
        return self.towers.token_embedding(self.runtime.replicas[0])

    def _position(self, tokens: list[int], prompt: str, placeholder: str) -> int:
        marks = set(self.towers.tokenize([""])[0].tolist())  # start, end, padding
        # Gemma has two tokens for a word: at the start of a text, and after a space.
        forms = self.towers.tokenize([placeholder, f" {placeholder}"]).tolist()
        words = [[token for token in form if token not in marks] for form in forms]
        single = {word[0] for word in words if len(word) == 1}
        found = [position for position, token in enumerate(tokens) if token in single]
        if len(found) != 1:
            raise InputError(
                f"placeholder {placeholder!r} is {len(found)} times a single token of the prompt "
                f"{prompt!r} and must be so once; try another word"
            )
        return found[0]


def build_encoder(
    name: str, towers: Towers, *, device: str | None, precision: str | None
) -> ImageEncoder:
    """Return the encoder around loaded towers, on the device and in the precision asked for."""
    devices = choose_devices(device)
    module = towers.module.eval().requires_grad_(False)
    runtime = Runtime(module, devices, choose_precision(precision, devices))
    kind: Callable[[str, Towers, Runtime], ImageEncoder]
    kind = DualEncoder if towers.has_text else ImageEncoder
    return kind(name, towers, runtime)


def _identity(towers: Towers) -> dict[str, Any]:
    tokenizer = tokenizer_digest(towers.tokenize, towers.vocabulary()) if towers.has_text else None
    return {
        "architecture": dict(towers.facts),
        "weights": weights_digest(towers.module),
        "tokenizer": tokenizer,
        "preprocessing": towers.preprocessing.identity(),
    }


def _batches(items: Sequence[Any], batch_size: int) -> Iterator[Sequence[Any]]:
    if batch_size < 1:
        raise InputError(f"batch_size must be at least 1, got {batch_size}")
    for start in range(0, len(items), batch_size):
        yield items[start : start + batch_size]


@contextmanager
def _replaced_output(layer: nn.Module, output: Tensor) -> Iterator[None]:
    # transformers' text models take no inputs_embeds; a hook serves every library alike.
    handle = layer.register_forward_hook(lambda *_: output)
    try:
        yield
    finally:
        handle.remove()
