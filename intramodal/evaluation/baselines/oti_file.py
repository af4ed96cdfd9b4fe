"""The file of an inversion: what was found for each picture, so that a run can go on."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from intramodal.errors import InputError, MismatchError
from intramodal.types import Floats, PointId

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
