"""Optimisation-based textual inversion: the pseudo-word whose text is nearest to a picture.

Inverted here, kept in a file so that a run can go on, and judged beside the pictures themselves.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from intramodal.errors import InputError, MismatchError, ModelError
from intramodal.evaluation.intervals import Effect
from intramodal.evaluation.resampling import Population, interval_population
from intramodal.evaluation.retrieval import RetrievalResult, run_task
from intramodal.evaluation.tasks import Mask, RetrievalTask
from intramodal.memory import FittingBatches
from intramodal.progress import progress
from intramodal.store.manifest import TEXT_INVERSION
from intramodal.types import (
    Encoder,
    Floats,
    PointId,
    TextInvertible,
    VectorTable,
    fingerprint,
    unit_rows,
)

if TYPE_CHECKING:
    from torch import Tensor


FORMAT = "intramodal inversion"

_ARRAYS = ("texts", "words", "started", "cosines")
_SAVE_EVERY_S = 30.0


class Inverted(NamedTuple):
    """One picture: digest of its vector, text (d,), word (width,), cosine before and after."""

    digest: str
    texts: Floats
    words: Floats
    started: Floats
    cosines: Floats


@dataclass
class InversionFile:
    """Results by picture, in memory and, with a path, on disk.

    Parameters
    ----------
    path : Path or None
    recipe : mapping
        JSON values: model and settings, which every result of the file shares.
    found : dict of str or int to Inverted
    """

    path: Path | None
    recipe: Mapping[str, Any]
    found: dict[PointId, Inverted] = field(default_factory=dict)
    _saved_at: float = field(default_factory=time.monotonic)
    _is_changed: bool = False

    @classmethod
    def open(cls, path: Path | None, recipe: Mapping[str, Any]) -> InversionFile:
        """Return the results at `path`, if there are any yet.

        Raises
        ------
        InputError
            If the file is none of these.
        MismatchError
            If it was made with another model or other settings.
        """
        if path is None or not path.exists():
            return cls(path, recipe)
        about, arrays = _read(path)
        differing = sorted(k for k in recipe if about["recipe"].get(k) != recipe[k])
        if differing:
            raise MismatchError(
                f"{path} was made with another {differing[0]}; name another file, or invert with "
                "the same model and settings"
            )
        rows = zip(about["keys"], about["digests"], *(arrays[n] for n in _ARRAYS), strict=True)
        return cls(path, recipe, {key: Inverted(*values) for key, *values in rows})

    def holds(self, key: PointId, digest: str) -> bool:
        """Return whether the picture was inverted with this very vector."""
        return key in self.found and self.found[key].digest == digest

    def add(
        self, keys: Sequence[PointId], digests: Sequence[str], arrays: Sequence[NDArray[Any]]
    ) -> None:
        """Take the results of a batch, and save if the last time was long ago."""
        for key, digest, *values in zip(keys, digests, *arrays, strict=True):
            self.found[key] = Inverted(digest, *values)
        self._is_changed = True
        if time.monotonic() - self._saved_at > _SAVE_EVERY_S:
            self.save()

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Save at the end, also when an error or Ctrl-C ends the block."""
        try:
            yield
        finally:
            self.save()

    def save(self) -> None:
        """Write what is new under a temporary name first, then rename."""
        self._saved_at = time.monotonic()
        if self.path is None or not self._is_changed:
            return
        from safetensors.numpy import save

        rows = list(self.found.values())
        about = {
            "format": FORMAT,
            "recipe": dict(self.recipe),
            "keys": list(self.found),
            "digests": [row.digest for row in rows],
        }
        arrays = {name: np.stack([getattr(row, name) for row in rows]) for name in _ARRAYS}
        partial = self.path.with_name(self.path.name + ".part")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(save(arrays, metadata={"intramodal": json.dumps(about)}))
        partial.replace(self.path)
        self._is_changed = False

    def arrays(self, keys: Sequence[PointId]) -> tuple[Floats, Floats, Floats, Floats]:
        """Return texts, words, and cosines before and after, of some pictures in their order."""
        rows = [self.found[key] for key in keys]
        texts, words, started, cosines = (
            np.array([getattr(row, name) for row in rows], dtype=np.float32) for name in _ARRAYS
        )
        return texts, words, started, cosines


def row_digests(X: Floats) -> list[str]:
    """Return a short hash of the bytes of every row."""
    X = np.ascontiguousarray(X, dtype=np.float32)
    return [hashlib.sha256(row.tobytes()).hexdigest()[:16] for row in X]


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Floats]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            about = dict(json.loads((file.metadata() or {})["intramodal"]))
            arrays = {name: file.get_tensor(name) for name in _ARRAYS}
        if about["format"] != FORMAT or not isinstance(about["recipe"], dict):
            raise KeyError("format")
        sizes = {len(about["keys"]), len(about["digests"]), *map(len, arrays.values())}
        if len(sizes) != 1:
            raise ValueError("lengths differ")
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path} is no inversion of intramodal ({error}); name another file"
        ) from error
    return about, arrays


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

    method = TEXT_INVERSION
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


TEXTS = "oti"
"""What the texts are called in results."""


@dataclass(frozen=True, eq=False)
class InversionEvidence:
    """How texts of pictures retrieve, and vectors of the pictures, by one label field.

    Parameters
    ----------
    population : Population or None
        What intervals and differences speak of; None where it was left out, or pictures are few.
    results : list of RetrievalResult
        Of the texts, then of every vector, over the same queries.
    effects : mapping of str to Effect
        Difference in mAP: the texts less each vector, by its name; empty without a population.
    """

    population: Population | None
    results: list[RetrievalResult]
    effects: Mapping[str, Effect]


def evaluate_inversion(
    table: VectorTable,
    inversion: Inversion,
    *,
    vector: str,
    field: str,
    split: tuple[Mask, Mask] | None = None,
    min_class_size: int = 2,
) -> RetrievalResult:
    """Return exact retrieval figures with pseudo-words asking and pictures answering.

    A picture is never in the gallery of its own pseudo-word.

    Parameters
    ----------
    table : VectorTable
        With the payload column `field`.
    inversion : Inversion
        Of pictures of the table, by their ids; those that are not inverted only answer.
    vector : str
        The pictures in the space of the texts: the vector that was inverted.
    field : str
        Payload field: relevant is what shares a value.
    split : pair of ndarray of shape (n,), bool, optional
        Rows that ask and rows that answer; without it all that are inverted ask all others.
    min_class_size : int
        Classes with fewer images are left out.
    """
    texts = text_rows(table.ids, inversion.keys, inversion.texts)
    is_inverted = np.isfinite(texts[:, 0])
    asks, answers = split or (is_inverted, np.ones(len(table), dtype=bool))
    sides = None if split is None and is_inverted.all() else (asks & is_inverted, answers)
    task = RetrievalTask.from_table(table, field, split=sides, min_class_size=min_class_size)
    return run_task(*asked_by_texts(task, table, texts, vector), TEXTS)


def compare_inversion(
    task: RetrievalTask,
    table: VectorTable,
    texts: Floats,
    *,
    vector: str,
    others: Sequence[str],
    cluster: str | None = None,
    seed: int = 0,
) -> InversionEvidence:
    """Return how the texts retrieve, and how much better or worse than vectors of the pictures.

    Parameters
    ----------
    task : RetrievalTask
    table : VectorTable
        With `vector`, `others` and the labels.
    texts : ndarray of shape (n, d)
        The text of each row of the table that asks in the task.
    vector : str
        The pictures in the space of the texts, which answer them.
    others : sequence of str
        Vectors by which pictures ask and answer.
    cluster : str, optional
        What is resampled for the intervals; see `evaluate_retrieval`.
    seed : int
        Of the resampling.
    """
    task, table = asked_by_texts(task, table, texts, vector)
    results = [run_task(task, table, name) for name in (TEXTS, *others)]
    population = interval_population(table, task, cluster, seed=seed)
    if population is None:
        return InversionEvidence(None, results, {})
    effects = population.retrieval_effects(table, task, results[0], results[1:])
    found = {name: _negative(effect) for name, effect in zip(others, effects, strict=True)}
    within = [
        replace(result, interval=population.retrieval_interval(table, task, result))
        for result in results
    ]
    return InversionEvidence(population, within, found)


def asked_by_texts(
    task: RetrievalTask, table: VectorTable, texts: Floats, vector: str
) -> tuple[RetrievalTask, VectorTable]:
    """Return a task and a table in which `TEXTS` ask and `vector` answers them."""
    if TEXTS in table.vectors:
        raise InputError(f"the table has a vector {TEXTS!r} already; read it under another name")
    if not np.isfinite(texts[task.query_rows]).all():
        raise InputError("a picture that asks has no text; invert all that ask")
    # Rows without a text never ask, but are scaled with the others.
    vectors = {**table.vectors, TEXTS: np.nan_to_num(texts)}
    return replace(task, answered_by={TEXTS: vector}), replace(table, vectors=vectors)


def text_rows(ids: Sequence[PointId], keys: Sequence[PointId], texts: Floats) -> Floats:
    """Return the text of each of `ids` as rows (n, d), NaN where there is none.

    Raises
    ------
    InputError
        If one of the keys is not among the ids.
    """
    row_of = {point: row for row, point in enumerate(ids)}
    absent = [key for key in keys if key not in row_of]
    if absent:
        raise InputError(f"{len(absent)} inverted pictures are not in the table, as {absent[0]!r}")
    rows = np.full((len(ids), texts.shape[1]), np.nan, dtype=np.float32)
    rows[[row_of[key] for key in keys]] = texts
    return rows


def _negative(effect: Effect) -> Effect:
    low, high = effect.interval
    return replace(effect, delta=-effect.delta, interval=(-high, -low))
