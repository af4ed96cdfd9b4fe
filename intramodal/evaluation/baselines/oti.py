"""Optimisation-based textual inversion: the pseudo-word whose text is nearest to a picture.

OTI (Mistretta et al., *Cross the Gap*, ICLR 2025) asks with the text tower's features of
``a photo of`` and that word, while the gallery stays the pictures: an image-image query becomes
a text-image one. Constants are those of ``miccunifi/Cross-the-Gap``, ``configs/oti``, the same for
all its models.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from intramodal.errors import InputError, ModelError
from intramodal.evaluation.baselines.oti_file import InversionFile, row_digests
from intramodal.memory import FittingBatches
from intramodal.progress import progress
from intramodal.types import (
    Encoder,
    Floats,
    PointId,
    TextInvertible,
    fingerprint,
    unit_rows,
)

if TYPE_CHECKING:
    from torch import Tensor

PLACEHOLDERS = ("£", "$", "*", "x", "dog")
"""Words that the pseudo-word may stand for; the first that is one token of the model is taken."""


class InvertibleEncoder(Encoder, TextInvertible, Protocol):
    """What can be inverted: an encoder whose text tower accepts token embeddings."""


@dataclass(frozen=True)
class OtiSettings:
    """Constants of the inversion; the published ones unless given.

    Parameters
    ----------
    template : str
        Prompt with ``{}`` where the pseudo-word goes.
    n_steps : int
        Steps of AdamW.
    learning_rate, weight_decay : float
    init_std : float
        Standard deviation of the normal distribution that a pseudo-word starts from.
    seed : int
        Together with the signs of a picture's vector it decides where its pseudo-word starts:
        neither names, lengths nor neighbours do.
    batch_size : int
        Pictures inverted at once, fewer where memory runs out; the result does not depend on it.
    """

    template: str = "a photo of {}"
    n_steps: int = 150
    learning_rate: float = 2e-2
    weight_decay: float = 0.01
    init_std: float = 0.02
    seed: int = 42
    batch_size: int = 64

    def __post_init__(self) -> None:
        """Refuse what cannot be run."""
        if self.template.count("{}") != 1:
            raise InputError(f"template needs {{}} once for the word, got {self.template!r}")
        for name in ("n_steps", "batch_size"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("learning_rate", "init_std"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} must be larger than 0, got {getattr(self, name)}")


@dataclass(frozen=True, eq=False, repr=False)
class Inversion:
    """Pictures said by the text tower.

    Parameters
    ----------
    keys : list of str or int
        The pictures.
    texts : ndarray of shape (n, d)
        Text embeddings of their pseudo-words, not normalised: the queries.
    words : ndarray of shape (n, width)
        The pseudo-words: token embeddings.
    started, cosines : ndarray of shape (n,)
        Cosine of text and picture before the first and after the last step.
    n_new : int
        Pictures that this call has inverted; the others were in the file.
    """

    keys: list[PointId]
    texts: Floats
    words: Floats
    started: Floats
    cosines: Floats
    n_new: int

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.keys)

    def __repr__(self) -> str:
        """Return the number of pictures, and the mean cosines."""
        means = f"{self.started.mean():.3f} to {self.cosines.mean():.3f}" if len(self) else "-"
        return f"Inversion({len(self):,} pictures, cosine {means})"


def invert_images(
    encoder: InvertibleEncoder,
    X: Floats,
    keys: Sequence[PointId],
    *,
    settings: OtiSettings = OtiSettings(),
    path: Path | None = None,
) -> Inversion:
    """Return the pseudo-word of every picture, and its text embedding.

    Minimises one minus the cosine of the prompt's text embedding and the picture's, by AdamW over
    the token embedding that stands for the word. Runs on the encoder's device. With a causal text
    tower the prompt ends with its last token: some 7 positions instead of 77.

    Parameters
    ----------
    encoder : Encoder
        That is `TextInvertible`, too.
    X : ndarray of shape (n, d)
        Image embeddings of this encoder; their lengths do not matter.
    keys : sequence of str or int
        What the pictures are called: n different ones.
    settings : OtiSettings
    path : Path, optional
        File to keep the result in. Pictures that it holds already, with the same vector, are not
        inverted again; it is written now and then and at the end, whatever ends the run, which
        the next one then continues.

    Raises
    ------
    ModelError
        If the model cannot be inverted.
    InputError
        If shapes or keys do not fit, or a vector is zero, NaN or infinity.
    MismatchError
        If the file was made with another model or other settings.

    Notes
    -----
    The loss is summed over a batch where the published code takes the mean, and every word starts
    from its own random numbers, so that neither batches nor neighbours change a result beyond
    float32 rounding. AdamW does not notice: it divides by the gradient's own size.
    """
    _check(encoder, X, keys)
    X, digests = unit_rows(X), row_digests(X)
    file = InversionFile.open(path, _recipe(encoder, settings))
    todo = [row for row, key in enumerate(keys) if not file.holds(key, digests[row])]

    def invert(part: slice) -> tuple[list[int], tuple[Floats, ...]]:
        return todo[part], _inverted(encoder, X[todo[part]], settings)

    batches = FittingBatches(encoder.device, settings.batch_size)
    with progress(len(keys), "invert", unit="img") as bar, file.kept():
        bar.update(len(keys) - len(todo))
        for rows, found in batches.over(len(todo), invert):
            file.add([keys[row] for row in rows], [digests[row] for row in rows], found)
            bar.update(len(rows))
    return Inversion(list(keys), *file.arrays(keys), len(todo))


class InversionMap:
    """Textual inversion as a map from a stored vector to another, which `backfill` fills.

    Parameters
    ----------
    model : Encoder
        That is `TextInvertible`, too.
    settings : OtiSettings

    Raises
    ------
    ModelError
        If the model cannot be inverted.
    """

    method = "oti"
    default_vector = "oti"

    def __init__(self, model: InvertibleEncoder, settings: OtiSettings = OtiSettings()) -> None:
        _check_model(model)
        self.model = model
        self.settings = settings
        self.encoder = model.name
        self.encoder_fingerprint = model.fingerprint
        self.dim_in = self.dim_out = model.dim
        self.recipe = _recipe(model, settings)
        self.fingerprint = fingerprint({"method": self.method, **self.recipe})
        self._batches = FittingBatches(model.device, settings.batch_size)

    def apply(self, X: Floats) -> Floats:
        """Return the texts (n, d) of pictures (n, d), not normalised."""
        X = unit_rows(X)
        parts = self._batches.over(
            len(X), lambda part: _inverted(self.model, X[part], self.settings)[0]
        )
        return np.concatenate([np.empty((0, self.dim_out), np.float32), *parts])

    def started(self, X: Floats) -> Floats:
        """Return the cosines (n,) of pictures and the texts that their inversion starts from."""
        X = unit_rows(X)
        parts = self._batches.over(
            len(X), lambda part: _started(self.model, X[part], self.settings)
        )
        return np.concatenate([np.empty(0, np.float32), *parts])


def _inverted(encoder: InvertibleEncoder, X: Floats, settings: OtiSettings) -> tuple[Floats, ...]:
    """Return texts (m, d), words (m, width), and cosines (m,) before and after."""
    import torch

    encode, device = _prompted(encoder, settings.template)
    target = torch.from_numpy(X).to(device)
    starts = _starts(X, encoder.token_width, settings)
    words = torch.from_numpy(starts).to(device).requires_grad_()
    optimizer = torch.optim.AdamW(
        [words], lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    with torch.no_grad():
        started = torch.cosine_similarity(encode(words), target)
    for _ in range(settings.n_steps):
        loss = (1 - torch.cosine_similarity(encode(words), target)).sum()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    with torch.no_grad():
        texts = encode(words)
        found = (texts, words, started, torch.cosine_similarity(texts, target))
    return tuple(part.detach().float().cpu().numpy() for part in found)


def _started(encoder: InvertibleEncoder, X: Floats, settings: OtiSettings) -> Floats:
    """Return the cosines (m,) before the first step."""
    import torch

    encode, device = _prompted(encoder, settings.template)
    words = torch.from_numpy(_starts(X, encoder.token_width, settings)).to(device)
    with torch.no_grad():
        found = torch.cosine_similarity(encode(words), torch.from_numpy(X).to(device))
    return np.asarray(found.float().cpu().numpy())


def _prompted(encoder: TextInvertible, template: str) -> tuple[Callable[[Tensor], Tensor], Any]:
    """Return the function from words (m, width) to texts (m, d), and the device of both."""
    import torch

    prompt, placeholder = _placed(encoder, template)
    base, at = encoder.embed_prompt(prompt, placeholder)

    def encode(words: Tensor) -> Tensor:
        row = base.expand(len(words), -1, -1)
        whole = torch.cat([row[:, :at], words[:, None], row[:, at + 1 :]], dim=1)
        features: Tensor = encoder.encode_token_embeddings(whole, prompt)
        return features

    return encode, base.device


def _placed(encoder: TextInvertible, template: str) -> tuple[str, str]:
    """Return the prompt with a placeholder that is one token of this model."""
    for placeholder in PLACEHOLDERS:
        prompt = template.format(placeholder)
        try:
            encoder.embed_prompt(prompt, placeholder)
        except InputError:
            continue
        return prompt, placeholder
    raise ModelError(
        f"none of {', '.join(PLACEHOLDERS)} is one token of this model in {template!r}; write "
        "another template"
    )


def _starts(X: Floats, width: int, settings: OtiSettings) -> Floats:
    """Return where the words (n, width) start.

    The signs of a vector are what neither scaling nor a store's half precision changes; pictures
    that share them all start alike.
    """
    rows = []
    for signs in np.packbits(X > 0, axis=1):
        digest = hashlib.sha256(signs.tobytes()).digest()
        rng = np.random.default_rng([settings.seed, int.from_bytes(digest[:8], "little")])
        rows.append(settings.init_std * rng.standard_normal(width, dtype=np.float32))
    return np.stack(rows).astype(np.float32)


def _recipe(encoder: InvertibleEncoder, settings: OtiSettings) -> dict[str, Any]:
    """Return what decides the result."""
    decides = {name: value for name, value in asdict(settings).items() if name != "batch_size"}
    return {"encoder": encoder.fingerprint, **decides}


def _check_model(encoder: Encoder) -> None:
    if not isinstance(encoder, TextInvertible):
        raise ModelError(
            f"{encoder.name} has no text tower to invert pictures with; take a CLIP-like model"
        )


def _check(encoder: InvertibleEncoder, X: Floats, keys: Sequence[PointId]) -> None:
    _check_model(encoder)
    if X.ndim != 2 or X.shape[1] != encoder.dim or len(X) != len(keys):
        raise InputError(
            f"{len(keys)} keys and {encoder.dim} dimensions need vectors of shape "
            f"({len(keys)}, {encoder.dim}), got {X.shape}"
        )
    if not keys:
        raise InputError("there are no pictures to invert; give one at least")
    if len(set(keys)) != len(keys):
        raise InputError("keys must be different, and one is there twice; give each picture one")
    if not np.isfinite(X).all() or not X.any(axis=1).all():
        raise InputError("a vector is zero, NaN or infinity; leave those pictures out")
