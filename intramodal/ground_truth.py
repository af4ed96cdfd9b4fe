"""Which images are relevant for which query, and which do not count: judgments by image.

In the form of revisited Oxford and Paris (easy, hard, junk): their pickles, or the same as JSON.
"""

from __future__ import annotations

import itertools
import json
import math
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from intramodal.errors import SourceError
from intramodal.pickles import DAMAGE, Call, RefusedPickleError, short, shown, unpickled
from intramodal.types import fingerprint, parsed_json

Ints = NDArray[np.int64]
Floats64 = NDArray[np.float64]

Difficulty = Literal["easy", "medium", "hard"]
DIFFICULTIES: tuple[Difficulty, ...] = get_args(Difficulty)
"""The three protocols of the benchmark."""

MAX_BYTES = 16 * 2**20
"""Larger files are not read; that of revisited Paris has 276,508 bytes."""

_JUDGED = ("easy", "hard", "junk")
_FORM = (
    "a pickle or JSON of a dictionary with imlist and qimlist (names of images) and gnd, one "
    "dictionary per query with easy, hard and junk (places in imlist) and bbx, as "
    "gnd_roxford5k.pkl"
)


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """Which gallery images each query must find, and which do not count for it.

    Parameters
    ----------
    gallery : tuple of str
        Names of the gallery images, without a suffix.
    queries : tuple of str
        Names of the query images.
    easy, hard, junk : tuple of ndarray of int64
        For each query the places in `gallery` of images that show the same landmark clearly, show
        it under difficult conditions, and hardly show it.
    boxes : ndarray of shape (n_queries, 4) or None
        Left, upper, right and lower end of what each query image is cropped to, in pixels.
    """

    gallery: tuple[str, ...]
    queries: tuple[str, ...]
    easy: tuple[Ints, ...]
    hard: tuple[Ints, ...]
    junk: tuple[Ints, ...]
    boxes: Floats64 | None = None

    def judged(self, difficulty: Difficulty) -> tuple[list[Ints], list[Ints]]:
        """Return each query's relevant places and those that do not count.

        Easy: the easy images are relevant, hard ones do not count. Medium: both are relevant.
        Hard: the hard images are relevant, easy ones do not count. Junk never counts.
        """
        easy, hard, junk = self.easy, self.hard, self.junk
        if difficulty == "easy":
            return list(easy), _joined(junk, hard)
        if difficulty == "hard":
            return list(hard), _joined(junk, easy)
        return _joined(easy, hard), list(junk)

    @property
    def fingerprint(self) -> str:
        """Identity of the content: a run records it, as files of one name may differ."""
        lists = {
            name: [places.tolist() for places in getattr(self, name)]
            for name in ("easy", "hard", "junk")
        }
        boxes = None if self.boxes is None else self.boxes.tolist()
        return fingerprint(
            {"gallery": list(self.gallery), "queries": list(self.queries), "boxes": boxes, **lists}
        )

    def to_json(self) -> str:
        """Return the text of a file that `read_ground_truth` reads."""
        lists = [
            {name: getattr(self, name)[q].tolist() for name in _JUDGED}
            | ({} if self.boxes is None else {"bbx": self.boxes[q].tolist()})
            for q in range(len(self.queries))
        ]
        return json.dumps(
            {"imlist": list(self.gallery), "qimlist": list(self.queries), "gnd": lists}, indent=1
        )

    def limited(self, n: int) -> GroundTruth:
        """Return the first n queries, with the first n easy, hard and junk images of each."""
        judged = [[some[:n] for some in of[:n]] for of in (self.easy, self.hard, self.junk)]
        kept = np.unique(np.concatenate(list(itertools.chain(*judged))))
        easy, hard, junk = (tuple(np.searchsorted(kept, some) for some in of) for of in judged)
        gallery = tuple(self.gallery[g] for g in kept)
        boxes = None if self.boxes is None else self.boxes[:n]
        return GroundTruth(gallery, self.queries[:n], easy, hard, junk, boxes)

    def __repr__(self) -> str:
        """Return the numbers of queries and gallery images."""
        return f"GroundTruth({len(self.queries):,} queries, {len(self.gallery):,} gallery images)"


def _joined(a: Sequence[Ints], b: Sequence[Ints]) -> list[Ints]:
    return [np.concatenate(pair) for pair in zip(a, b, strict=True)]


def read_ground_truth(path: str | os.PathLike[str]) -> GroundTruth:
    """Return what a ground-truth file of revisited Oxford or Paris says.

    Parameters
    ----------
    path : path
        ``gnd_roxford5k.pkl``, ``gnd_rparis6k.pkl``, or a pickle of the same form, of any protocol
        and of Python 2 or 3, or JSON of the same form. Nothing in a pickle is run: dictionaries,
        lists, texts, numbers and NumPy arrays of numbers are read, anything else is refused by
        name.

    Raises
    ------
    SourceError
        If the file is absent, too large, damaged, holds anything else, or is not of this form.
    """
    data = _bytes_of(path)
    try:
        is_json = data.lstrip().startswith(b"{")  # which begins no pickle
        found = _from_json(data) if is_json else _plain(unpickled(data, _KNOWN))
        return _ground_truth(found, n_bytes=len(data))
    except RefusedPickleError as error:
        raise SourceError(f"{path} {error}; give {_FORM}") from error
    except DAMAGE as error:
        raise SourceError(
            f"{path} is no readable pickle ({short(error)}); give {_FORM}"
        ) from error


def _from_json(data: bytes) -> Any:
    try:
        return parsed_json(data)
    except ValueError as error:
        raise RefusedPickleError(f"is no valid JSON ({short(error)})") from error


def _bytes_of(path: str | os.PathLike[str]) -> bytes:
    file = Path(path)
    try:
        if not file.is_file():
            what = "is no file" if file.exists() else "does not exist"
            raise SourceError(f"the ground truth {path} {what}; give {_FORM}")
        with file.open("rb") as opened:
            data = opened.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise SourceError(f"{path} cannot be read ({short(error)}); give {_FORM}") from error
    if len(data) > MAX_BYTES:
        raise SourceError(f"{path} has more than {MAX_BYTES:,} bytes; give {_FORM}")
    return data


# Not even NumPy sees what a pickle says of an array: stand-ins keep it, and bytes become numbers
# only where type, shape and length fit together.

_NUMBERS = frozenset(("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"))
"""NumPy's codes of the types that are read."""

_MOST_DIMS = 2


class _Type:
    """Stands for ``numpy.dtype``."""

    def __init__(self, code: str, *flags: object) -> None:
        if not isinstance(code, str) or code not in _NUMBERS:
            raise RefusedPickleError(f"holds an array of type {shown(code)}, not of numbers")
        self.code, self.order = code, "<"

    def __setstate__(self, state: Any) -> None:
        """Keep the order of bytes; all else of the state is for types that are not read."""
        order = state[1]
        if order not in ("<", ">", "|", "="):
            raise RefusedPickleError(f"holds an array whose order of bytes is {shown(order)}")
        self.order = order

    def array(self, data: Any, shape: Any, *, is_fortran: bool) -> NDArray[Any]:
        """Return the numbers in some bytes, which Python 2 has kept as text."""
        raw = data.encode("latin1") if isinstance(data, str) else data
        dtype = np.dtype(self.order + self.code)
        is_shape = isinstance(shape, tuple) and len(shape) <= _MOST_DIMS
        if not is_shape or not all(isinstance(n, int) and n >= 0 for n in shape):
            raise RefusedPickleError(f"holds an array of shape {shown(shape)}")
        if not isinstance(raw, bytes | bytearray) or len(raw) != math.prod(shape) * dtype.itemsize:
            raise RefusedPickleError(f"holds an array of shape {shape} without as many numbers")
        return np.frombuffer(raw, dtype).reshape(shape, order="F" if is_fortran else "C")


class _Array:
    """Stands for ``numpy.ndarray``."""

    values: NDArray[Any] | None = None

    def __setstate__(self, state: Any) -> None:
        """Read version, shape, type, whether columns come first, and bytes."""
        _, shape, kind, is_fortran, data = state
        if not isinstance(kind, _Type):
            raise RefusedPickleError(f"holds an array of type {shown(kind)}, not of numbers")
        self.values = kind.array(data, shape, is_fortran=bool(is_fortran))


def _reconstruct(kind: object, *nothing: object) -> _Array:
    if kind is not _Array:
        raise RefusedPickleError(f"makes an array of {shown(kind)}, which is no array")
    return _Array()


def _frombuffer(data: Any, kind: Any, shape: Any, order: Any) -> _Array:
    """Stand for what protocol 5 makes arrays with."""
    found = _Array()
    found.__setstate__((1, shape, kind, order == "F", data))
    return found


def _scalar(kind: Any, data: Any) -> Any:
    if not isinstance(kind, _Type):
        raise RefusedPickleError(f"holds a number of type {shown(kind)}")
    return kind.array(data, (), is_fortran=False).item()


def _encoded(text: Any, encoding: Any) -> bytes:
    """Stand for what Python 3 makes bytes with in the protocols of Python 2."""
    if not isinstance(text, str) or encoding != "latin1":
        raise RefusedPickleError(f"encodes {shown(text)} as {shown(encoding)}")
    return text.encode("latin1")


def _no_bytes(*arguments: object) -> bytes:
    """Stand for how Python 3 writes no bytes at all in the protocols of Python 2."""
    if arguments:
        raise RefusedPickleError("makes bytes of something else")
    return b""


def _known() -> dict[tuple[str, str], Callable[..., Any]]:
    found: dict[tuple[str, str], Callable[..., Any]] = {
        ("numpy", "ndarray"): _Array,
        ("numpy", "dtype"): _Type,
        ("_codecs", "encode"): Call(_encoded),
        ("builtins", "bytes"): Call(_no_bytes),
        ("__builtin__", "bytes"): Call(_no_bytes),
    }
    for core in ("numpy.core", "numpy._core"):  # before and from NumPy 2.0
        found[core + ".multiarray", "_reconstruct"] = Call(_reconstruct)
        found[core + ".multiarray", "scalar"] = Call(_scalar)
        found[core + ".numeric", "_frombuffer"] = Call(_frombuffer)
    return found


_KNOWN = _known()


def _plain(value: Any) -> Any:
    """Return an array's numbers in place of what stands for it; anything else as it is."""
    if not isinstance(value, _Array):
        return value
    if value.values is None:
        raise RefusedPickleError("holds an array without numbers")
    return value.values


# The form of what was unpickled.


def _ground_truth(found: Any, *, n_bytes: int) -> GroundTruth:
    imlist, qimlist, gnd = _parts(found)
    gallery, queries = _names(imlist, "imlist"), _names(qimlist, "qimlist")
    if len(gnd) != len(queries):
        raise RefusedPickleError(
            f"has {len(queries):,} queries in qimlist but {len(gnd):,} in gnd"
        )
    rows = [_judgements(gnd[q], f"gnd[{q}]") for q in range(len(queries))]
    # Lists may be shared, so that a small file means more than memory holds.
    if sum(len(row[name]) for row in rows for name in _JUDGED) > n_bytes:
        raise RefusedPickleError("names more images than it has bytes")
    judged = {
        name: tuple(_places(row[name], f"gnd[{q}][{name}]", gallery) for q, row in enumerate(rows))
        for name in _JUDGED
    }
    for q, lists in enumerate(zip(*judged.values(), strict=True)):
        _check_once(np.concatenate(lists), gallery, f"gnd[{q}]")
    return GroundTruth(gallery, queries, **judged, boxes=_boxes(rows))


def _parts(found: Any) -> list[Any]:
    """Return imlist, qimlist and gnd."""
    if not isinstance(found, dict):
        raise RefusedPickleError(f"holds {_kind(found)}, not a dictionary")
    missing = [name for name in ("imlist", "qimlist", "gnd") if name not in found]
    if missing:
        names = ", ".join(shown(name) for name in itertools.islice(found, 5)) or "nothing"
        raise RefusedPickleError(f"has no {missing[0]}; it has {names}")
    for name in ("imlist", "qimlist", "gnd"):
        if not isinstance(found[name], list | tuple) or not found[name]:
            raise RefusedPickleError(f"has {_kind(found[name])} as {name}, not a list")
    return [found[name] for name in ("imlist", "qimlist", "gnd")]


def _names(names: Sequence[Any], where: str) -> tuple[str, ...]:
    for n, name in enumerate(names):
        if not isinstance(name, str) or not name.strip() or not name.isprintable():
            raise RefusedPickleError(f"has {_kind(name)} as {where}[{n}], not a name")
    found, n_times = Counter(names).most_common(1)[0]
    if n_times > 1:
        raise RefusedPickleError(f"has {shown(found)} {n_times} times in {where}")
    return tuple(names)


def _judgements(row: Any, where: str) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise RefusedPickleError(f"has {_kind(row)} as {where}, not a dictionary")
    missing = [name for name in _JUDGED if name not in row]
    if missing:
        raise RefusedPickleError(f"has no {missing[0]} in {where}")
    plain = {name: _plain(row[name]) for name in (*_JUDGED, "bbx") if name in row}
    for name, value in plain.items():
        is_list = isinstance(value, list | tuple)
        if not is_list and not (isinstance(value, np.ndarray) and value.ndim):
            raise RefusedPickleError(f"has {_kind(value)} as {where}[{name}], not a list")
    return plain


def _places(values: Any, where: str, gallery: Sequence[str]) -> Ints:
    """Return places in the gallery (n,), checked."""
    if isinstance(values, np.ndarray):
        values = values.reshape(-1).tolist()  # MATLAB's are (1, n)
    for value in values:
        if type(value) is not int:
            raise RefusedPickleError(f"has {_kind(value)} in {where}, not a place in imlist")
        if not 0 <= value < len(gallery):
            raise RefusedPickleError(
                f"has place {value:,} in {where}, and imlist has {len(gallery):,} images"
            )
    return np.array(values, dtype=np.int64)


def _check_once(places: Ints, gallery: Sequence[str], where: str) -> None:
    found, n_times = np.unique(places, return_counts=True)
    if (n_times > 1).any():
        twice = gallery[found[n_times > 1][0]]
        raise RefusedPickleError(
            f"has {shown(twice)} twice in {where}, where it can be one thing only"
        )


def _boxes(rows: Sequence[dict[str, Any]]) -> Floats64 | None:
    """Return the boxes (n_queries, 4); None where no query has one."""
    if not any("bbx" in row for row in rows):
        return None
    found = np.empty((len(rows), 4))
    for q, row in enumerate(rows):
        values = np.asarray(row.get("bbx", ()), dtype=object).reshape(-1)
        if len(values) != 4 or not all(_is_number(value) for value in values):
            raise RefusedPickleError(f"has no box of four numbers as gnd[{q}][bbx]")
        found[q] = values
        left, upper, right, lower = found[q]
        if not (left < right and upper < lower):
            raise RefusedPickleError(f"has an empty box as gnd[{q}][bbx]")
    return found


def _is_number(value: Any) -> bool:
    is_plain = isinstance(value, int | float) and not isinstance(value, bool)
    return is_plain and abs(value) <= 1e9


def _kind(value: Any) -> str:
    """Return what a value is, for a sentence."""
    if isinstance(value, _Array | np.ndarray):
        return "an array"
    if isinstance(value, list | tuple | dict):
        return f"a {type(value).__name__} of {len(value):,}"
    return shown(value)
