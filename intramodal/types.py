"""The words all layers share: encoders, image records, tables of vectors, fingerprints."""

from __future__ import annotations

import hashlib
import json
import re
import reprlib
import uuid
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from intramodal.errors import InputError
from intramodal.fit_rows import LabelFit

if TYPE_CHECKING:
    from PIL import Image

T = TypeVar("T")

Floats = NDArray[np.float32]
"""float32 array; two dimensions unless the docstring says otherwise."""

PointId = str | int
"""A Qdrant point id at our border: an unsigned integer, or a UUID in its canonical text; in a
collection with shard keys a `KeyedId`, or its text."""

Distance = Literal["Cosine", "Dot", "Euclid", "Manhattan"]
"""By what Qdrant compares vectors."""

ShardKey = str | int
"""What names a shard of a collection with custom sharding."""

K = TypeVar("K", bound=type)

_NEEDS_QUOTES = re.compile(r'\d+|".*|.*,.*|\s.*|.*\s', re.DOTALL)


class _Brief(reprlib.Repr):
    """Prints the beginning of a value: the shape of an array, the first items of a list."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlist = self.maxtuple = self.maxset = self.maxfrozenset = self.maxdict = 3
        self.maxstring = self.maxother = 80

    def repr_ndarray(self, array: NDArray[Any], level: int) -> str:
        """Return the shape in place of the values."""
        return f"<{array.dtype} array of shape {array.shape}>"


_BRIEF = _Brief()
MOST_LINES = 8
"""Of a repr with one line per result."""


def short_repr(kind: K) -> K:
    """Give a dataclass a repr of one short line, however much it holds: for notebooks."""

    def shown(self: Any) -> str:
        values = [
            f"{each.name}={_BRIEF.repr(getattr(self, each.name))}"
            for each in fields(self)
            if each.repr
        ]
        return f"{type(self).__name__}({', '.join(values)})"

    kind.__repr__ = shown  # type: ignore[method-assign, assignment]
    return kind


def first_lines(lines: Iterable[str]) -> str:
    """Return the first lines of a repr, and how many more there are."""
    found = list(lines)
    n_more = len(found) - MOST_LINES
    return "\n".join(found[:MOST_LINES] + ([f"... and {n_more:,} more"] if n_more > 0 else []))


class KeyedId(str):
    """The name of a point in a collection with shard keys, where an id is unique in a shard only.

    It reads ``KEY/ID``: ``tenant-a/7``. A number as key is written bare, a text that looks like
    one in quotes, so that the two never mix; so is one with a comma, or with a blank at an end.

    Parameters
    ----------
    shard_key : str or int
    point : str or int
        The id in that shard: an unsigned integer, or a UUID in its canonical text.

    Examples
    --------
    >>> KeyedId("tenant-a", 7), KeyedId(12, 7), KeyedId("12", 7)
    ('tenant-a/7', '12/7', '"12"/7')
    """

    __slots__ = ("point", "shard_key")
    shard_key: ShardKey
    point: PointId

    def __new__(cls, shard_key: ShardKey, point: PointId) -> KeyedId:
        """Make the name of a point."""
        found = super().__new__(cls, f"{key_text(shard_key)}/{point}")
        found.shard_key, found.point = shard_key, point
        return found

    def __reduce__(self) -> tuple[type[KeyedId], tuple[ShardKey, PointId]]:
        """Return how it is made again."""
        return KeyedId, (self.shard_key, self.point)


def key_text(shard_key: ShardKey) -> str:
    """Return a shard key as the names of its points begin."""
    is_plain = isinstance(shard_key, int) or not _NEEDS_QUOTES.fullmatch(shard_key)
    return str(shard_key) if is_plain else json.dumps(shard_key, ensure_ascii=False)


def read_key(text: str) -> ShardKey:
    """Return the shard key that a person writes: ``7`` is a number, ``"7"`` in quotes a text.

    Examples
    --------
    >>> read_key("7"), read_key('"7"'), read_key("tenant-a")
    (7, '7', 'tenant-a')
    """
    if text.isdecimal():
        return int(text)
    try:
        found = json.loads(text) if text.startswith('"') else text
    except ValueError:
        return text
    return str(found)


_QUOTED = re.compile(r'\s*("(?:[^"\\]|\\.)*")\s*(?:,|\Z)', re.DOTALL)
_QUOTED_FIELD = re.compile(r'\s*("(?:[^"\\]|\\.)*")\s*=', re.DOTALL)
_LISTED_NEEDS_QUOTES = re.compile(r'|".*|.*,.*|\s.*|.*\s', re.DOTALL)


def split_list(text: str) -> list[str]:
    """Return the items of a comma-separated list; one with a comma stands in double quotes.

    Quotes count where they enclose the whole item; within, a backslash escapes, as in JSON.
    Blanks around items, and empty items without quotes, are left out.

    Examples
    --------
    >>> split_list('cat, "Smith, Sons", 5" screen')
    ['cat', 'Smith, Sons', '5" screen']
    """
    found: list[str] = []
    at = 0
    while at < len(text):
        match = _QUOTED.match(text, at)
        if match and (item := _unquoted(match[1])) is not None:
            found.append(item)
            at = match.end()
            continue
        item, _, _ = text[at:].partition(",")
        at += len(item) + 1
        found += [item.strip()] if item.strip() else []
    return found


def split_field(text: str) -> tuple[str, str]:
    """Return field and values of ``field=value,value``; a field with ``=`` stands in quotes."""
    match = _QUOTED_FIELD.match(text)
    if match and (field := _unquoted(match[1])) is not None:
        return field, text[match.end() :]
    field, _, values = text.partition("=")
    return field.strip(), values


def listed(item: str) -> str:
    """Return an item as `split_list` reads it."""
    needs_quotes = _LISTED_NEEDS_QUOTES.fullmatch(item)
    return json.dumps(item, ensure_ascii=False) if needs_quotes else item


def _unquoted(text: str) -> str | None:
    try:
        return str(json.loads(text, strict=False))
    except ValueError:
        return None


def unkeyed(point: PointId) -> PointId:
    """Return the id of a point without the key of its shard.

    Examples
    --------
    >>> unkeyed(KeyedId("tenant-a", 7)), unkeyed(8)
    (7, 8)
    """
    return point.point if isinstance(point, KeyedId) else point


Payload = dict[str, Any]
"""What a point carries beside its vectors (JSON values)."""

_NAMESPACE = uuid.UUID("5f2d7a0e-6c43-5d0b-9f5e-1d8b7a3c9e10")
_NAMED = hashlib.sha1(_NAMESPACE.bytes, usedforsecurity=False)
_VARIANT = {f"{digit:x}": f"{digit & 3 | 8:x}" for digit in range(16)}


def fingerprint(declared: Mapping[str, Any], *blobs: bytes) -> str:
    """Return the SHA-256 of JSON values in canonical form, then of bytes of arrays or files."""
    text = json.dumps(declared, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    digest = hashlib.sha256(text.encode())
    for blob in blobs:
        digest.update(len(blob).to_bytes(8, "little"))
        digest.update(blob)
    return digest.hexdigest()


_DECLARED = "declared:"


def declared_fingerprint(model: str) -> str:
    """Return the identity of a model that was named by its owner but never loaded here."""
    return _DECLARED + model


def encoders_agree(a: tuple[str, str], b: tuple[str, str]) -> bool:
    """Return whether two (name, fingerprint) pairs mean the same encoder.

    Fingerprints decide; where one side was only declared there is nothing but the name.
    """
    if a[1].startswith(_DECLARED) or b[1].startswith(_DECLARED):
        return a[0] == b[0]
    return a[1] == b[1]


def point_id(dataset: str, key: str) -> str:
    """Return the UUIDv5 of a picture: data set name and relative path, nothing else."""
    # `uuid.uuid5`, spelled out: at a quarter of its time, which a load of ready vectors feels.
    digest = _NAMED.copy()
    digest.update(f"{dataset}/{key}".encode())
    h = digest.hexdigest()
    return f"{h[:8]}-{h[8:12]}-5{h[13:16]}-{_VARIANT[h[16]]}{h[17:20]}-{h[20:32]}"


def require_finite(X: NDArray[Any], what: str) -> None:
    """Raise `InputError` that names the first row of `X` (n, d) with NaN or infinity."""
    if np.isfinite(X).all():
        return
    row = int(np.flatnonzero(~np.isfinite(np.atleast_2d(X)).all(axis=-1))[0])
    raise InputError(
        f"row {row} of {what} (counted from 0) holds NaN or infinity; leave it out or correct it"
    )


_PLAIN_LENGTHS = (1e-15, 1e15)
"""Lengths between which float32 holds vectors and their unit rows without loss."""


def unit_rows(X: NDArray[Any]) -> Floats:
    """Return the rows of `X` (n, d) scaled to unit length, as float32; zero rows stay zero.

    Rows of any other length that float64 holds are scaled, however short or long.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        kept = np.asarray(X, dtype=np.float32)
        norms = np.sqrt(np.einsum("ij,ij->i", kept, kept, dtype=np.float64))
        is_plain = (norms > _PLAIN_LENGTHS[0]) & (norms < _PLAIN_LENGTHS[1])
        divisors = np.where(is_plain, norms, 1.0).astype(np.float32)
        unit = np.asarray(kept / divisors[:, None], dtype=np.float32)
        if not is_plain.all():
            unit[~is_plain] = _unit_rows_of_any_length(np.asarray(X)[~is_plain])
    return unit


def _unit_rows_of_any_length(X: NDArray[Any]) -> NDArray[np.float64]:
    """Return unit rows by float64, in which squares of scaled components cannot overflow."""
    X = X.astype(np.float64)
    largest = np.abs(X).max(axis=1, initial=0.0, keepdims=True)
    X = X / np.where(largest == 0, 1.0, largest)
    norms = np.sqrt((X * X).sum(axis=1, keepdims=True))
    found: NDArray[np.float64] = X / np.where(norms == 0, 1.0, norms)
    return found


@dataclass(frozen=True)
class ImageRecord:
    """One picture of a source, not yet read.

    Parameters
    ----------
    key : str
        The path relative to the source, with forward slashes: its identity in the data set.
    read : callable
        Returns the bytes of the file; raises `OSError` or `ImageError`.
    payload : dict
        Label and any further columns.
    held_bytes : int
        What `read` holds of it in memory, where the source cannot read it later.
    """

    key: str
    read: Callable[[], bytes]
    payload: Payload = field(default_factory=dict)
    held_bytes: int = 0


@runtime_checkable
class Encoder(Protocol):
    """Turns pictures, and texts if it has a text tower, into embeddings.

    All results are float32, not normalised, in the order of the input, and do not depend on the
    batch size (beyond float32 rounding).

    Attributes
    ----------
    name : str
        The name it was loaded by, for example ``"open_clip:ViT-B-32:openai"``.
    dim : int
        Length of an embedding.
    has_text : bool
        Whether `encode_texts` works.
    image_size : int
        Side of the square input in pixels; files may be decoded at down to twice this size.
    precision : str
        ``"fp32"`` or ``"bf16"``; recorded, not part of the identity.
    device : str
        ``"cpu"``, ``"cuda"``, ...; recorded, not part of the identity.
    identity : mapping
        Everything that changes the vectors: weights, revision, tokenizer, preprocessing.
    fingerprint : str
        SHA-256 of `identity`.
    """

    name: str
    dim: int
    has_text: bool
    image_size: int
    precision: str
    device: str
    identity: Mapping[str, Any]
    fingerprint: str

    def preprocess(self, image: Image.Image) -> NDArray[np.uint8]:
        """Return the crop as (image_size, image_size, 3) uint8; thread-safe, without torch."""
        ...

    def encode_pixels(self, pixels: NDArray[np.uint8]) -> Floats:
        """Return the embeddings (n, dim) of `preprocess` results stacked to (n, side, side, 3)."""
        ...

    def encode_images(self, images: Sequence[Any], *, batch_size: int = 32) -> Floats:
        """Return the embeddings (n, dim) of pictures: PIL, uint8 array, file name or bytes."""
        ...

    def encode_texts(self, texts: Sequence[str], *, batch_size: int = 256) -> Floats:
        """Return the embeddings (n, dim) of texts; raises `ModelError` without a text tower."""
        ...


@runtime_checkable
class HasProjectors(Protocol):
    """An encoder whose towers end in bias-free linear projectors (needed by IsoCLIP)."""

    def projectors(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the image projector (dim, d_image) and the text projector (dim, d_text)."""
        ...


@runtime_checkable
class TextInvertible(Protocol):
    """An encoder whose text tower accepts token embeddings (needed by OTI).

    Tensors are torch tensors; typed loosely so that this module never imports torch.
    """

    token_width: int

    def embed_prompt(self, prompt: str, placeholder: str) -> tuple[Any, int]:
        """Return the token embeddings (1, n_tokens, width) and the placeholder's position."""
        ...

    def encode_token_embeddings(self, embeddings: Any, prompt: str) -> Any:
        """Return text embeddings (n, dim), differentiable, of token embeddings of `prompt`."""
        ...


class VectorMap(Protocol):
    """Makes one vector of a point from another one: a projection, or a textual inversion."""

    @property
    def method(self) -> str:
        """Return how, for people."""
        ...

    @property
    def fingerprint(self) -> str:
        """Return the identity: whatever changes the result changes it."""
        ...

    @property
    def recipe(self) -> Mapping[str, Any]:
        """Return how it was made, as JSON values."""
        ...

    @property
    def encoder(self) -> str:
        """Return the model whose vectors it takes."""
        ...

    @property
    def encoder_fingerprint(self) -> str:
        """Return the identity of that model."""
        ...

    @property
    def dim_in(self) -> int:
        """Return the length of the vectors that it takes."""
        ...

    @property
    def dim_out(self) -> int:
        """Return the length of the vectors that it makes."""
        ...

    @property
    def default_vector(self) -> str:
        """Return what the new vector is called unless somebody says otherwise."""
        ...

    @property
    def distance(self) -> Distance:
        """Return by what the new vectors are compared."""
        ...

    @property
    def labels(self) -> LabelFit | None:
        """Return the labels that it has seen; None where it has seen none."""
        ...

    def apply(self, X: NDArray[Any]) -> Floats:
        """Return the new vectors (n, dim_out) of `X` (n, dim_in), row by row."""
        ...


@dataclass(frozen=True)
class FittedVector:
    """A vector whose map has seen labels, of which `source` it maps, and its distance."""

    labels: LabelFit
    source: str
    distance: Distance = "Cosine"
    made: str | None = None
    """Where it holds queries for stored vectors: the vector that holds what the map makes."""


@dataclass(frozen=True, eq=False)
class HeldOut:
    """What left a table before anything was judged: the rows that maps were fitted on.

    Parameters
    ----------
    fitted : dict of str to FittedVector
        The vectors that these maps made, by name.
    rows : VectorTable
        The rows for fitting, of the same collection: those that have every vector of the table,
        or, where none has, all with the vectors that the maps took.
    ids : frozenset of str or int
        Those of the table that left: rows for fitting, and near-copies of them.
    n_rows, n_copies : int
        How many of either.
    kept : ndarray of shape (n,), bool
        Which rows of the table stayed.
    """

    fitted: Mapping[str, FittedVector]
    rows: VectorTable
    ids: frozenset[PointId]
    n_rows: int
    n_copies: int
    kept: NDArray[np.bool_]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "n_fit_rows": self.n_rows,
            "n_near_copies": self.n_copies,
            "vectors": {
                name: {
                    "field": one.labels.field,
                    "n_classes": len(one.labels.counts),
                    "n_labelled": one.labels.n_rows,
                    "fit_rows": str(one.labels.rows),
                }
                for name, one in self.fitted.items()
            },
        }


@dataclass(frozen=True, repr=False)
class VectorTable:
    """Vectors and payload of many points, read once from a store.

    Parameters
    ----------
    ids : list of str or int
        In ascending order of their text, so that no result depends on the insertion order.
    vectors : dict of str to ndarray of shape (n, d)
        One float32 array per named vector; rows follow `ids`.
    payload : dict of str to list
        One list of n values per payload field; None where a point lacks the field.
    n_incomplete : int
        Points left out because they lack one of the vectors.
    drawn_from : int, optional
        How many points there were, where these are a random sample of them.
    is_drawn_from_about : bool
        Whether that number is an estimate: not all of them were read, and none was counted.
    labels_from : mapping, optional
        Which file some fields are from and how its rows and the points belong together, see
        `LabelledCollection`.
    fitted : dict of str to FittedVector
        Of the vectors, those whose maps have seen labels.
    held_out : HeldOut, optional
        What left the table before it is judged; see `intramodal.evaluation.held_out`.
    """

    ids: list[PointId]
    vectors: dict[str, Floats]
    payload: dict[str, list[Any]] = field(default_factory=dict)
    n_incomplete: int = 0
    drawn_from: int | None = None
    is_drawn_from_about: bool = False
    labels_from: Mapping[str, Any] | None = None
    fitted: Mapping[str, FittedVector] = field(default_factory=dict)
    held_out: HeldOut | None = None
    _remembered: dict[Hashable, Any] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __len__(self) -> int:
        """Return the number of points."""
        return len(self.ids)

    def __repr__(self) -> str:
        """Return the number of points, the vectors with their lengths, and the fields."""
        vectors = ", ".join(f"{name!r}: {X.shape[1]}" for name, X in self.vectors.items())
        fields = ", ".join(map(repr, self.payload))
        return f"VectorTable({len(self):,} points, vectors {{{vectors}}}, fields [{fields}])"

    def remember(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what `make` gives; made once a key, however many evaluations ask for it."""
        if key not in self._remembered:
            self._remembered[key] = make()
        found: T = self._remembered[key]
        return found

    def unit(self, vector: str, rows: NDArray[np.intp] | None = None) -> Floats:
        """Return the rows of a vector (n, d) scaled to unit length, once for all evaluations.

        Some rows only are scaled by themselves unless all have been. Rows of a vector that its
        map means to be compared by their inner products stay as they are.
        """
        if vector in self.fitted and self.fitted[vector].distance == "Dot":
            X = self.vectors[vector]
            return X if rows is None else X[rows]
        if rows is None:
            return self.remember(("unit", vector), lambda: unit_rows(self.vectors[vector]))
        if ("unit", vector) in self._remembered:
            return self.unit(vector)[rows]
        return unit_rows(self.vectors[vector][rows])

    def with_unit_vectors(self, vectors: Mapping[str, Floats]) -> VectorTable:
        """Return the table with further vectors, held as the unit rows that they are."""
        return self._with_units(vectors, self.held_out)

    def with_made(
        self, source: str, makers: Mapping[str, Callable[[Floats], Floats]]
    ) -> VectorTable:
        """Return the table with what is made of the unit rows of a vector, and held as it is.

        Rows that have left, because maps were fitted on them, get these vectors, too.
        """
        made = {name: make(self.unit(source)) for name, make in makers.items()}
        gone = self.held_out
        if gone is not None:
            gone = replace(gone, rows=gone.rows.with_made(source, makers))
        return self._with_units(made, gone)

    def _with_units(self, units: Mapping[str, Floats], held_out: HeldOut | None) -> VectorTable:
        found = replace(self, vectors={**self.vectors, **units}, held_out=held_out)
        known = {("unit", name): X for name, X in units.items()}
        found._remembered.update(self._remembered | known)
        return found

    def take(self, rows: NDArray[np.intp]) -> VectorTable:
        """Return the given rows, in the given order."""
        return replace(
            self,
            ids=[self.ids[i] for i in rows],
            vectors={name: X[rows] for name, X in self.vectors.items()},
            payload={name: [column[i] for i in rows] for name, column in self.payload.items()},
        )


def parsed_json(text: str | bytes) -> Any:
    """Return JSON; `ValueError` also for nesting that goes deeper than Python reads.

    Examples
    --------
    >>> parsed_json("[" * 100_000)
    Traceback (most recent call last):
    ValueError: it nests too deeply
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it nests too deeply") from error
