"""The encoders that `load_encoder` returns: one class for one tower, one for two."""

from __future__ import annotations

import copy
import json
import logging
import pickle
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from intramodal.errors import InputError, ModelError
from intramodal.ingest.encoders.hub_access import asked_hub, not_downloaded, offline
from intramodal.ingest.encoders.identity import tokenizer_digest, weights_digest
from intramodal.ingest.encoders.preprocess import Preprocessing, as_picture
from intramodal.memory import FittingBatches
from intramodal.progress import progress
from intramodal.types import Floats, fingerprint

if TYPE_CHECKING:
    import torch
    from PIL import Image
    from torch import Tensor, nn


Projectors = tuple[NDArray[np.float64], NDArray[np.float64]]


class Towers(ABC):
    """A loaded model, in evaluation mode and float32 on the CPU, and how to call it.

    Methods take the module as an argument, because every GPU has its own replica.
    """

    has_text = True

    def __init__(
        self,
        module: nn.Module,
        preprocessing: Preprocessing,
        facts: Mapping[str, Any],
        *,
        revision: str | None = None,
    ) -> None:
        self.module = module
        self.preprocessing = preprocessing
        self.facts = facts
        self.revision = revision

    @abstractmethod
    def embed_pixels(self, module: nn.Module, pixels: Tensor) -> Tensor:
        """Return the embeddings (n, dim) of normalised pixels (n, 3, side, side)."""

    @abstractmethod
    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Return token ids (n, context length)."""

    @abstractmethod
    def embed_tokens(self, module: nn.Module, tokens: Tensor) -> Tensor:
        """Return the embeddings (n, dim) of token ids, of `useful_length` at least."""

    def useful_length(self, tokens: Tensor) -> int:
        """Return how many of the positions of token ids (n, length) the embeddings depend on.

        A causal tower that reads off the end of the text does not see what follows.
        """
        return int(tokens.shape[1])

    @abstractmethod
    def vocabulary(self) -> Mapping[str, int]:
        """Return the tokenizer's pieces and their numbers."""

    @abstractmethod
    def token_embedding(self, module: nn.Module) -> nn.Module:
        """Return the embedding layer that turns token ids into vectors."""

    @abstractmethod
    def projectors(self) -> Projectors:
        """Return the towers' last matrices; raises `ModelError` where they are no such thing."""


def as_float64(matrix: Tensor) -> NDArray[np.float64]:
    """Return a weight matrix as a float64 array of its own."""
    return np.array(matrix.detach().float().cpu().numpy(), dtype=np.float64)


def linear_projector(layer: Any, what: str) -> NDArray[np.float64]:
    """Return the weight (dim, d) of a bias-free linear layer."""
    from torch import nn

    is_linear = isinstance(layer, nn.Linear)
    if not is_linear or getattr(layer, "bias", None) is not None:
        kind = "a bias" if is_linear else "no linear layer"
        raise ModelError(
            f"the {what} tower ends in {kind}, not in a bias-free projector; IsoCLIP needs a "
            "model like OpenAI's CLIP"
        )
    return as_float64(layer.weight)


def through_first(tokens: Tensor, number: int | None = None) -> int:
    """Return the length that keeps the first `number` (or largest) of every row of tokens."""
    is_end = tokens if number is None else (tokens == number).int()
    return int(is_end.argmax(dim=-1).max()) + 1


@contextmanager
def loading(name: str, advice: str, *, is_local: bool = False) -> Iterator[None]:
    """Turn what libraries raise while loading a model into one `ModelError` with `advice`.

    Nothing is fetched for a local one.
    """
    from safetensors import SafetensorError

    try:
        with _no_new_handler(), offline() if is_local else nullcontext():
            yield
    except (
        RuntimeError, ValueError, OSError, LookupError, TypeError, AttributeError, ImportError,
        AssertionError, pickle.UnpicklingError, EOFError, SafetensorError, json.JSONDecodeError,
    ) as error:  # fmt: skip
        text = " ".join(str(error).split())
        if "trust_remote_code" in text:
            raise ModelError(
                f"model {name!r} brings Python code of its own, which is never run; take a model "
                "that its library knows"
            ) from error
        if asked_hub(error):
            raise (_incomplete(name) if is_local else not_downloaded(name, advice)) from None
        if isinstance(error, pickle.UnpicklingError) or "weights_only" in text:
            text = _UNREADABLE  # torch's own text says how to run the code nevertheless
        text = text or "a file is empty or cut off"
        reason = text if len(text) <= 300 else text[:297] + "..."
        raise ModelError(f"model {name!r} cannot be loaded ({reason}); {advice}") from error


def _incomplete(name: str) -> ModelError:
    return ModelError(
        f"model {name!r} lacks a file that its library would fetch, and nothing is fetched for a "
        "model on disk; get a complete folder"
    )


_UNREADABLE = (
    "its weights are damaged, or a pickle that holds more than tensors, which is never run; "
    "safetensors hold no code"
)


@contextmanager
def _no_new_handler() -> Iterator[None]:
    # open_clip logs by functions of `logging` that give the root logger a handler if it has none.
    silent = logging.NullHandler()
    logging.root.addHandler(silent)
    logging.root.addFilter(_is_no_error)  # what it logs as an error there, it raises, too
    try:
        yield
    finally:
        logging.root.removeFilter(_is_no_error)
        logging.root.removeHandler(silent)


def _is_no_error(record: logging.LogRecord) -> bool:
    return record.levelno < logging.ERROR


PRECISIONS = ("fp32", "bf16")

Forward = Callable[["nn.Module", "Tensor"], "Tensor"]


def choose_devices(device: str | None) -> list[torch.device]:
    """Return the devices that `device` means; ``"cuda"`` is every GPU, None the fastest kind.

    Examples
    --------
    >>> choose_devices("cpu")
    [device(type='cpu')]
    """
    import torch

    wanted = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(wanted)
    except RuntimeError as error:
        raise InputError(f"device {wanted!r} is unknown; give cpu, cuda or cuda:N") from error
    if chosen.type != "cuda":
        _try(chosen)
        return [chosen]
    n_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if (chosen.index or 0) >= n_gpus:
        raise InputError(f"device {wanted!r} is not there: torch sees {n_gpus} GPUs; give cpu")
    if ":" in wanted:
        return [chosen]
    return [torch.device("cuda", index) for index in range(n_gpus)]


def _try(device: torch.device) -> None:
    import torch

    try:
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, NotImplementedError, AssertionError) as error:
        raise InputError(
            f"device {str(device)!r} is not there; give cpu, cuda or cuda:N"
        ) from error


def choose_precision(precision: str | None, devices: list[torch.device]) -> str:
    """Return ``"fp32"`` or ``"bf16"``; bf16 is the default only where a GPU computes in it."""
    if precision is None:
        return "bf16" if _computes_in_bf16(devices[0]) else "fp32"
    if precision not in PRECISIONS:
        raise InputError(f"precision {precision!r} is unknown; give {' or '.join(PRECISIONS)}")
    return precision


def _computes_in_bf16(device: torch.device) -> bool:
    import torch

    # Ampere (8.0) is the first generation with bf16 units; older ones only emulate it.
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)


class Runtime:
    """Runs a module's forward passes, on one device or split over replicas."""

    def __init__(self, module: nn.Module, devices: list[torch.device], precision: str) -> None:
        self.devices = devices
        self.precision = precision
        others = [copy.deepcopy(module).to(device) for device in devices[1:]]
        self.replicas = [module.to(devices[0]), *others]
        self._batches = FittingBatches(str(devices[0]))

    def run(self, rows: Tensor, forward: Forward) -> Floats:
        """Return `forward` of `rows` as float32 (n, dim), in order.

        A batch that does not fit into memory is halved until it does; the smaller size is kept
        for the batches that follow.
        """
        parts = self._batches.over(len(rows), lambda part: self._forward(rows[part], forward))
        return np.concatenate(list(parts))

    def on_first(self, rows: Tensor, forward: Forward) -> Tensor:
        """Return `forward` of `rows` on the first device, as a tensor that has a gradient."""
        return self._on_device(self.replicas[0], rows, forward)

    def _forward(self, chunk: Tensor, forward: Forward) -> Floats:
        import torch

        n_parts = min(len(self.replicas), len(chunk))
        parts = chunk.tensor_split(n_parts)
        with torch.inference_mode():
            # GPUs work asynchronously: all are started before the first result is fetched.
            started = [
                self._on_device(module, part, forward)
                for module, part in zip(self.replicas[:n_parts], parts, strict=True)
            ]
            return np.concatenate([result.float().cpu().numpy() for result in started])

    def _on_device(self, module: nn.Module, part: Tensor, forward: Forward) -> Tensor:
        import torch

        device = next(module.parameters()).device
        enabled = self.precision == "bf16"
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled):
            return forward(module, part.to(device, non_blocking=True))


class ImageEncoder:
    """An `Encoder` without a text tower."""

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
    """An `Encoder` with a text tower; also `HasProjectors` and `TextInvertible`."""

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
        with progress(len(texts), "embed texts", unit="texts") as bar:
            for batch in _batches(texts, batch_size):
                tokens = self.towers.tokenize(list(batch))
                results.append(self.runtime.run(tokens, self.towers.embed_tokens))
                bar.update(len(batch))
        return np.concatenate(results)

    def projectors(self) -> Projectors:
        """Return the image projector (dim, d_image) and the text projector (dim, d_text)."""
        return self.towers.projectors()

    def embed_prompt(self, prompt: str, placeholder: str) -> tuple[Tensor, int]:
        """Return the token embeddings (1, n_tokens, width) and the placeholder's position.

        Where the text tower is causal they end with the text: about 7 instead of 77 positions.
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

        Shapes: `embeddings` (n, n_tokens, width).
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
