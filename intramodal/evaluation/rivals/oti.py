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
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from intramodal.errors import InputError, MismatchError, ModelError, reason
from intramodal.evaluation.distances import other_distances
from intramodal.evaluation.intervals import Effect, holm
from intramodal.evaluation.resampling import Population, Resampling, interval_population
from intramodal.evaluation.results import ResultList, log_source
from intramodal.evaluation.retrieval import (
    FIGURES,
    RetrievalResult,
    map_plot,
    note_of,
    record_results,
    run_task,
    with_distance,
    with_label_evidence,
)
from intramodal.evaluation.tasks import Mask, Points, RetrievalTask, Sides, read_labelled, tasks_of
from intramodal.files import write_bytes
from intramodal.memory import FittingBatches
from intramodal.plots import Plot
from intramodal.progress import progress, tracked
from intramodal.runs.run import Run
from intramodal.store.base import Filter
from intramodal.store.collection import ImageCollection
from intramodal.store.default_vectors import own_vector
from intramodal.store.manifest import TEXT_INVERSION
from intramodal.types import (
    Distance,
    Encoder,
    Floats,
    PointId,
    TextInvertible,
    VectorTable,
    fingerprint,
    require_finite,
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
    """Results by picture, in memory and, with a path, on disk; all of one model and settings."""

    path: Path | None
    recipe: Mapping[str, Any]
    found: dict[PointId, Inverted] = field(default_factory=dict)
    _saved_at: float = field(default_factory=time.monotonic)
    _is_changed: bool = False

    @classmethod
    def open(cls, path: Path | None, recipe: Mapping[str, Any]) -> InversionFile:
        """Return the results at `path`, if there are any yet; refuses those of another recipe."""
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
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(self.path, save(arrays, metadata={"intramodal": json.dumps(about)}))
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
            f"{path} is no inversion of intramodal ({reason(error)}); name another file"
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


class KeptTexts(NamedTuple):
    """Texts (n, d) of pictures in their order; how many are new; where all are kept."""

    texts: Floats
    n_new: int
    place: Mapping[str, str]


Invert = Callable[[Sequence[PointId], Floats], KeptTexts]
"""Makes the texts of pictures from their ids and vectors (n, d), and may keep them."""


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
        return f"Inversion({len(self):,} images, cosine {means})"


def invert_images(
    encoder: Encoder,
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
    model = _checked(encoder, X, keys)
    X, digests = unit_rows(X), row_digests(X)
    file = InversionFile.open(path, _recipe(model, settings))
    todo = [row for row, key in enumerate(keys) if not file.holds(key, digests[row])]

    def invert(part: slice) -> tuple[list[int], tuple[Floats, ...]]:
        return todo[part], _inverted(model, X[todo[part]], settings)

    batches = FittingBatches(model.device, settings.batch_size)
    with progress(len(keys), "invert images into text", unit="images") as bar, file.kept():
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
    distance: Distance = "Cosine"
    labels = None

    def __init__(self, model: Encoder, settings: OtiSettings = OtiSettings()) -> None:
        self.model = _invertible(model)
        self.settings = settings
        self.encoder = model.name
        self.encoder_fingerprint = model.fingerprint
        self.dim_in = self.dim_out = model.dim
        self.recipe = _recipe(self.model, settings)
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

    def kept_in(self, path: Path | None) -> Invert:
        """Return what inverts pictures and keeps them in a file; see `invert_images`."""

        def invert(ids: Sequence[PointId], X: Floats) -> KeptTexts:
            found = invert_images(self.model, X, ids, settings=self.settings, path=path)
            return KeptTexts(found.texts, found.n_new, {} if path is None else {"file": str(path)})

        return invert


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
    """Return where the words (n, width) start."""
    rows = []
    # The signs of a vector are what neither scaling nor a store's half precision changes; pictures
    # that share them all start alike.
    for signs in np.packbits(X > 0, axis=1):
        digest = hashlib.sha256(signs.tobytes()).digest()
        rng = np.random.default_rng([settings.seed, int.from_bytes(digest[:8], "little")])
        rows.append(settings.init_std * rng.standard_normal(width, dtype=np.float32))
    return np.stack(rows).astype(np.float32)


def _recipe(encoder: InvertibleEncoder, settings: OtiSettings) -> dict[str, Any]:
    """Return what decides the result."""
    decides = {name: value for name, value in asdict(settings).items() if name != "batch_size"}
    return {"encoder": encoder.fingerprint, **decides}


def _invertible(encoder: Encoder) -> InvertibleEncoder:
    if not isinstance(encoder, TextInvertible):
        raise ModelError(
            f"{encoder.name} has no text tower to invert images with; take a CLIP-like model"
        )
    return cast("InvertibleEncoder", encoder)


def _checked(encoder: Encoder, X: Floats, keys: Sequence[PointId]) -> InvertibleEncoder:
    model = _invertible(encoder)
    if X.ndim != 2 or X.shape[1] != encoder.dim or len(X) != len(keys):
        raise InputError(
            f"{len(keys)} keys and {encoder.dim} dimensions need vectors of shape "
            f"({len(keys)}, {encoder.dim}), got {X.shape}"
        )
    if not keys:
        raise InputError("there are no images to invert; give one at least")
    if len(set(keys)) != len(keys):
        raise InputError("keys must be different, and one is there twice; give each image one")
    require_finite(X, "the vectors")
    if not X.any(axis=1).all():
        raise InputError("a vector is zero; leave those images out")
    return model


TEXTS = "oti"
"""What the texts are called in results."""


@dataclass(frozen=True, eq=False)
class InversionEvidence:
    """How texts and then vectors of pictures retrieve by one field, over the same queries.

    `effects` are the differences in mAP by vector: the texts less that vector; empty where there
    is no population.
    """

    population: Population | None
    results: list[RetrievalResult]
    effects: Mapping[str, Effect]


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class InversionResults(ResultList[RetrievalResult]):
    """How texts of pictures retrieve, and vectors of the pictures, by several label fields.

    ``results[field, "oti"]`` is the `RetrievalResult` of the texts, ``results[field, vector]``
    that of a vector, over the same queries; iterating gives all of them.

    Parameters
    ----------
    vector : str
        The vector that was inverted.
    inversion : InversionMap or Inversion
        What inverted the queries, or had inverted them.
    n_queries : int
        Pictures that have a text.
    kept : KeptTexts
    cosines : mapping of str to number
        Mean cosine of picture and text before the first and after the last step, and how many
        got nearer.
    tasks : list of RetrievalTask
        One a field.
    evidence : list of InversionEvidence
        Of each task.
    """

    vector: str
    inversion: InversionMap | Inversion
    n_queries: int
    kept: KeptTexts
    cosines: Mapping[str, Any]
    tasks: list[RetrievalTask]
    evidence: list[InversionEvidence]

    def __getitem__(self, key: tuple[str, str]) -> RetrievalResult:
        """Return the result of a field and a vector; the texts are called ``"oti"``."""
        return {(result.field, result.vector): result for result in self}[key]

    def __iter__(self) -> Iterator[RetrievalResult]:
        """Iterate over the results, by field."""
        return (result for evidence in self.evidence for result in evidence.results)

    @property
    def effects(self) -> dict[tuple[str, str], Effect]:
        """Difference in mAP by field and vector: the texts less that vector."""
        return {
            (task.field, vector): effect
            for task, evidence in zip(self.tasks, self.evidence, strict=True)
            for vector, effect in evidence.effects.items()
        }

    def to_dict(self) -> dict[str, Any]:
        """Return what ``--json`` prints; p-values are adjusted over all differences (Holm)."""
        points = asdict(self.points)
        made = self.inversion if isinstance(self.inversion, InversionMap) else None
        texts = {**self.kept.place, "n_new": self.kept.n_new, "n": self.n_queries, **self.cosines}
        return {
            "collection": points["collection"],
            "vector": self.vector,
            "model": made and made.encoder,
            "settings": made and asdict(made.settings),
            "texts": texts,
            "n_points": points["n_points"],
            "n_incomplete": points["n_incomplete"],
            "where": points["where"],
            "labels_from": points["labels_from"],
            "held_out": points["held_out"],
            "protocol": self.tasks[0].protocol,
            "fields": self._fields(),
            "distance_note": note_of(self),
            "run_id": self.run_id,
        }

    def _fields(self) -> dict[str, Any]:
        adjusted = iter(holm([effect.p_value for effect in self.effects.values()]))
        return {
            task.field: {
                **task.counts(),
                "vectors": {result.vector: _figures(result) for result in evidence.results},
                "differences": {
                    name: {
                        "delta": effect.delta,
                        "interval": list(effect.interval),
                        "p_value": effect.p_value,
                        "p_adjusted": next(adjusted),
                    }
                    for name, effect in evidence.effects.items()
                },
            }
            for task, evidence in zip(self.tasks, self.evidence, strict=True)
        }

    def record(self, run: Run) -> None:
        """Record cosines, figures, differences, and the scores of every query and class."""
        for name, value in self.cosines.items():
            run.log_metric(name.replace("_", " "), value, vector=TEXTS)
        for task, evidence in zip(self.tasks, self.evidence, strict=True):
            for vector, effect in evidence.effects.items():
                run.log_metric(
                    f"mAP of {TEXTS} minus this",
                    effect.delta,
                    vector=vector,
                    field=task.field,
                    interval=effect.interval,
                    n=len(task.query_rows),
                )
        record_results(run, list(self))

    def plot(self) -> Plot:
        """Return the mAP of every field, by vector and by text, with its interval."""
        return map_plot(self)


def _figures(result: RetrievalResult) -> dict[str, Any]:
    row = result.to_dict()
    return {**{name: row[name] for name in FIGURES}, **row["metrics"]}


def evaluate_inversion(  # noqa: PLR0913  a job has as many knobs as it has
    source: VectorTable | ImageCollection,
    inversion: InversionMap | Inversion,
    *,
    vector: str | None = None,
    vectors: Sequence[str] | None = None,
    fields: Sequence[str],
    sides: Sides | str | tuple[Mask, Mask] | None = None,
    where: Filter | None = None,
    min_class_size: int = 2,
    max_queries: int | None = None,
    invert: Invert | None = None,
    resampling: Resampling = Resampling(),
    seed: int = OtiSettings.seed,
    run: Run | None = None,
) -> InversionResults:
    """Return exact retrieval figures with pseudo-words as queries, beside the images' vectors.

    An image is never in the gallery of its own pseudo-word.

    Parameters
    ----------
    source : ImageCollection or VectorTable
        A collection is read once; or what `ImageCollection.table` has read.
    inversion : InversionMap or Inversion
        Inverts the queries; or images that are inverted already, by their ids: all others only
        answer. With `where`, those that do not match are left out.
    vector : str, optional
        The images in the space of the texts: the vector that is inverted, and answers; by default
        the encoder's own.
    vectors : sequence of str, optional
        Named vectors to compare with; by default `vector` and those projected from it. Where the
        collection does not rank by cosine, each result has the mAP of its ranking, too, with
        texts of unit length.
    fields, sides, where, min_class_size, max_queries
        As in `evaluate_retrieval`.
    invert : callable, optional
        Gets ids and vectors (n, d) of all queries, and returns their `KeptTexts`:
        ``inversion.kept_in(path)`` goes on with a file. To keep them as a named vector, fill it by
        `backfill` and return `stored_texts`. By default texts are kept nowhere.
    resampling : Resampling
        Whom intervals and differences speak for.
    seed : int
        Random seed of the resampling and of drawn queries.
    run : Run, optional
        Records the results.

    Raises
    ------
    InputError
        If the vector is made from another one, an inverted image is not in the source, or as
        `evaluate_retrieval`.
    """
    run, vector = run or Run(), own_vector(source, vector)
    others = vectors_beside(source, vector, vectors)
    if isinstance(inversion, InversionMap):
        run.log_fingerprint(
            "projection", inversion.method, inversion.fingerprint, inversion.recipe
        )
    sides = Sides.of(sides)
    wanted = [*fields, *sides.fields, *resampling.fields]
    table = read_labelled(source, [vector, *others], wanted, where=where)
    if isinstance(inversion, Inversion) and where is None:
        _require_there(inversion.keys, table.ids)
    rows, split = _taking_part(table, sides, vector, inversion)
    tasks = tasks_of(
        rows, fields, split, min_class_size=min_class_size, max_queries=max_queries, seed=seed
    )
    asking = np.unique(np.concatenate([task.query_rows for task in tasks]))
    ids, X = [rows.ids[row] for row in asking], rows.vectors[vector][asking]
    kept, cosines = _inverted_queries(inversion, invert, ids, X)
    texts = text_rows(rows.ids, ids, kept.texts)
    distances = other_distances(source, table, [vector, *others])
    about: Any = {"vector": vector, "others": others, "distances": distances}
    found = InversionResults(
        points=Points.of(source, rows, seed, where),
        run_id=run.id,
        vector=vector,
        inversion=inversion,
        n_queries=len(ids),
        kept=kept,
        cosines=cosines,
        tasks=tasks,
        evidence=[
            compare_inversion(task, rows, texts, cluster=resampling.unit, seed=seed, **about)
            for task in tracked(tasks, "retrieval", unit="field", name=attrgetter("field"))
        ],
    )
    log_source(run, source, found.points)
    run.keep(found)
    return found


def vectors_beside(
    source: VectorTable | ImageCollection, vector: str, vectors: Sequence[str] | None
) -> list[str]:
    """Return the vectors to compare with: those named, or `vector` and its projections."""
    if isinstance(source, VectorTable):
        return list(vectors or [vector])
    origins, there = source.manifest.vectors, source.vectors
    if vector in origins and origins[vector].projection:
        raise InputError(
            f"texts are in the encoder's own space and {vector!r} is made from another "
            f"vector; invert that one"
        )
    projected = [
        name
        for name, origin in origins.items()
        if origin.source == vector and origin.method != TEXT_INVERSION and name in there
    ]
    return list(vectors or [vector, *projected])


def _taking_part(
    table: VectorTable, sides: Sides, vector: str, inversion: InversionMap | Inversion
) -> tuple[VectorTable, tuple[Mask, Mask] | None]:
    """Return the rows of either side that can be inverted, and who asks and who answers."""
    rows, split = sides.apply(table)
    X = rows.vectors[vector]
    usable = np.isfinite(X).all(axis=1) & X.any(axis=1)
    if not usable.all():
        rows = rows.take(np.flatnonzero(usable))
        split = split and (split[0][usable], split[1][usable])
    if isinstance(inversion, InversionMap):
        return rows, split
    inverted = set(inversion.keys)
    may_ask = np.array([point in inverted for point in rows.ids])
    if split is None and may_ask.all():
        return rows, None
    asks, answers = split or (may_ask, np.ones(len(rows), dtype=bool))
    return rows, (asks & may_ask, answers)


def _inverted_queries(
    inversion: InversionMap | Inversion,
    invert: Invert | None,
    ids: Sequence[PointId],
    X: Floats,
) -> tuple[KeptTexts, dict[str, Any]]:
    """Return the texts of queries with vectors (n, d), and how near they came to the pictures."""
    if isinstance(inversion, InversionMap):
        kept = (invert or inversion.kept_in(None))(ids, X)
        before = inversion.started(X)
    else:
        row_of = {key: row for row, key in enumerate(inversion.keys)}
        at = [row_of[point] for point in ids]
        kept = KeptTexts(inversion.texts[at], inversion.n_new, {})
        before = inversion.started[at]
    after = np.einsum("ij,ij->i", unit_rows(X), unit_rows(kept.texts))
    return kept, {
        "cosine_before": float(before.mean()),
        "cosine_after": float(after.mean()),
        "n_nearer": int((after > before).sum()),
    }


_READ_AT_ONCE = 1000


def stored_texts(collection: ImageCollection, vector: str, ids: Sequence[PointId]) -> Floats:
    """Return the texts (n, d) in a named vector of some points, NaN where there is none."""
    parts = []
    for start in range(0, len(ids), _READ_AT_ONCE):
        part = ids[start : start + _READ_AT_ONCE]
        page = collection.store.retrieve(collection.name, part, vectors=[vector])
        parts.append(text_rows(part, page.ids, page.vectors[vector]))
    return np.concatenate(parts)


def compare_inversion(  # noqa: PLR0913  what a job hands on
    task: RetrievalTask,
    table: VectorTable,
    texts: Floats,
    *,
    vector: str,
    others: Sequence[str],
    cluster: str | None = None,
    seed: int = 0,
    distances: Mapping[str, Distance] | None = None,
) -> InversionEvidence:
    """Return how the texts (n, d) of the rows that ask retrieve, beside other vectors.

    `distances` are those of `other_distances`.
    """
    task, table = asked_by_texts(task, table, texts, vector)
    ranked = [
        with_distance(run_task(task, table, name), task, table, (distances or {}).get(found_by))
        for name, found_by in ((TEXTS, vector), *((name, name) for name in others))
    ]
    results = [with_label_evidence(result, task, table, seed=seed) for result in ranked]
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
        raise InputError("a query has no text; invert all queries")
    # Rows without a text never ask.
    table = table.with_unit_vectors({TEXTS: unit_rows(np.nan_to_num(texts))})
    return replace(task, answered_by={TEXTS: vector}), table


def text_rows(ids: Sequence[PointId], keys: Sequence[PointId], texts: Floats) -> Floats:
    """Return the text of each of `ids` as rows (n, d), NaN where there is none."""
    _require_there(keys, ids)
    row_of = {point: row for row, point in enumerate(ids)}
    rows = np.full((len(ids), texts.shape[1]), np.nan, dtype=np.float32)
    rows[[row_of[key] for key in keys]] = texts
    return rows


def _require_there(keys: Sequence[PointId], ids: Sequence[PointId]) -> None:
    there = set(ids)
    absent = [key for key in keys if key not in there]
    if absent:
        raise InputError(f"{len(absent)} inverted images are not in the table, as {absent[0]!r}")


def _negative(effect: Effect) -> Effect:
    low, high = effect.interval
    return replace(effect, delta=-effect.delta, interval=(-high, -low))
