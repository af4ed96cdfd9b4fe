"""What the text tower says about the classes: one embedding a class, and a bank of texts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from intramodal.errors import InputError
from intramodal.types import Encoder, Floats, unit_rows

TEMPLATES = ("a photo of a {}.",)
"""The prompt of the few-shot papers where a data set has none of its own."""


@dataclass(frozen=True, eq=False)
class ClassTexts:
    """Text embeddings of classes.

    Parameters
    ----------
    names : list of str
        The K classes, as the label field writes them.
    W : ndarray of shape (K, d)
        One unit row a class: the zero-shot classifier.
    bank : ndarray of shape (B, d)
        Unit rows of further texts, which CODER describes pictures by; without any, `W`.
    owners : ndarray of shape (B,), int64
        The class of each, an index into `names`.
    """

    names: list[str]
    W: Floats
    bank: Floats
    owners: NDArray[np.int64]

    @classmethod
    def from_arrays(
        cls, names: Sequence[str], W: Floats, bank: Mapping[str, Floats] | None = None
    ) -> ClassTexts:
        """Return the texts of embeddings that are there already.

        Parameters
        ----------
        names : sequence of str
            The K classes.
        W : ndarray of shape (K, d)
            One embedding a class; rows are normalised here.
        bank : mapping of str to ndarray of shape (m, d), optional
            Embeddings of further texts, by class; classes without any are described by `W`.

        Raises
        ------
        InputError
            If names repeat, or an array has another shape, a zero row, NaN or infinity.
        """
        names = list(names)
        if len(set(names)) != len(names):
            raise InputError("class names must be different, and one is there twice; rename it")
        W = _checked(W, "the class texts", len(names))
        parts = (
            [
                _checked(bank[name], f"the texts of class {name!r}")
                if name in (bank or {})
                else row
                for name, row in zip(names, W[:, None], strict=True)
            ]
            if bank
            else list(W[:, None])
        )
        owners = np.repeat(np.arange(len(names)), [len(part) for part in parts])
        return cls(names, W, np.concatenate(parts), owners)

    @classmethod
    def encode(
        cls,
        encoder: Encoder,
        names: Sequence[str],
        *,
        templates: Sequence[str] = TEMPLATES,
        bank: Mapping[str, Sequence[str]] | None = None,
    ) -> ClassTexts:
        """Return the texts of classes as an encoder embeds them.

        A class is the mean of its unit prompts, one for each template, scaled to unit length
        (Radford et al. 2021, section 3.1.4).

        Parameters
        ----------
        encoder : Encoder
            With a text tower.
        names : sequence of str
            The classes.
        templates : sequence of str
            Prompts with ``{}`` where the class goes.
        bank : mapping of str to sequence of str, optional
            Further texts by class, as `read_texts` returns.
        """
        names = list(names)
        if not templates or not all("{}" in template for template in templates):
            raise InputError(f"templates need {{}} for the class, got {list(templates)}")
        prompts = [template.format(name) for name in names for template in templates]
        embedded = unit_rows(encoder.encode_texts(prompts))
        W = embedded.reshape(len(names), len(templates), -1).mean(axis=1)
        described = (
            {name: encoder.encode_texts(list(bank[name])) for name in names if name in bank}
            if bank
            else None
        )
        return cls.from_arrays(names, W, described)

    def of(self, names: Sequence[str]) -> ClassTexts:
        """Return the texts of some classes, in their order.

        Raises
        ------
        InputError
            If one of them has no text.
        """
        at = {name: row for row, name in enumerate(self.names)}
        absent = [name for name in names if name not in at]
        if absent:
            raise InputError(
                f"{len(absent)} of {len(names)} classes have no text, among them {absent[0]!r}; "
                "give one for each, or leave these classes out"
            )
        return self.take(np.array([at[name] for name in names], dtype=np.intp))

    def take(self, rows: NDArray[np.intp]) -> ClassTexts:
        """Return the classes at `rows`, in this order, with their texts of the bank."""
        found = [np.flatnonzero(self.owners == row) for row in rows]
        owners = np.repeat(np.arange(len(rows)), [len(part) for part in found])
        bank = self.bank[np.concatenate(found)]
        return ClassTexts([self.names[row] for row in rows], self.W[rows], bank, owners)


def read_texts(path: Path) -> dict[str, list[str]]:
    """Return the texts by class of a JSON file ``{"class": ["text", ...]}``.

    Raises
    ------
    InputError
        If it is no such file.
    """
    try:
        found = json.loads(Path(path).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as JSON ({error}); give another file") from error
    is_bank = isinstance(found, dict) and all(
        isinstance(texts, list) and texts and all(isinstance(text, str) for text in texts)
        for texts in found.values()
    )
    if not is_bank:
        raise InputError(
            f'{path} must hold {{"class": ["text", ...]}}, with one text at least each'
        )
    return {str(name): list(texts) for name, texts in found.items()}


def _checked(X: Floats, what: str, n_rows: int | None = None) -> Floats:
    X = np.asarray(X, dtype=np.float32)
    if X.ndim != 2 or len(X) == 0 or (n_rows is not None and len(X) != n_rows):
        wanted = "n" if n_rows is None else n_rows
        raise InputError(f"{what} must have the shape ({wanted}, d), got {X.shape}")
    if not np.isfinite(X).all() or not X.any(axis=1).all():
        raise InputError(f"{what} hold a zero row, NaN or infinity; embed them again")
    return unit_rows(X)
