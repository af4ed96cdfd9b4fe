"""What each library's loader hands to the encoder: one small interface around its modules."""

from __future__ import annotations

import json
import logging
import pickle
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from intramodal.errors import ModelError
from intramodal.ingest.encoders.preprocess import Preprocessing

if TYPE_CHECKING:
    from torch import Tensor, nn

Projectors = tuple[NDArray[np.float64], NDArray[np.float64]]


class Towers(ABC):
    """A loaded model, in evaluation mode and float32 on the CPU, and how to call it.

    Methods take the module as an argument, because every GPU has its own replica.

    Parameters
    ----------
    module : nn.Module
        The whole model.
    preprocessing : Preprocessing
        From picture to pixels.
    facts : mapping
        JSON values: what about the architecture changes vectors without changing weights.
    revision : str or None
        Commit of the hub; recorded, while the weights' hash decides.
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
def loading(name: str, advice: str) -> Iterator[None]:
    """Turn what libraries raise while loading a model into one `ModelError` with `advice`."""
    from safetensors import SafetensorError

    try:
        with _no_new_handler():
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
        reason = text if len(text) <= 300 else text[:297] + "..."
        raise ModelError(f"model {name!r} cannot be loaded ({reason}); {advice}") from error


@contextmanager
def _no_new_handler() -> Iterator[None]:
    # open_clip logs by functions of `logging` that give the root logger a handler if it has none.
    silent = logging.NullHandler()
    logging.root.addHandler(silent)
    try:
        yield
    finally:
        logging.root.removeHandler(silent)
