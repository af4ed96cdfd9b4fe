"""What the text tower says about the classes: one embedding a class, and a bank of texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intramodal.errors import InputError, reason
from intramodal.signatures import decoded
from intramodal.types import Encoder, Floats, parsed_json, require_finite, short_repr, unit_rows

TEMPLATES = ("a photo of a {}.",)
"""The prompt of the few-shot papers where a data set has none of its own."""

_FORM = (
    'write {"class": ["text", ...]}, or {"class": {"names": [...], "attributes": [...]}}, with '
    "one text at least in each list"
)


@short_repr
@dataclass(frozen=True)
class ClassWords:
    """What a user says of a class, beside its name.

    Parameters
    ----------
    names : tuple of str
        Synonyms; they are put into the template, as the name is.
    attributes : tuple of str
        Whole texts, taken as they are: attributes, descriptions, analogous classes.
    """

    names: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()


@short_repr
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
        Unit rows of all texts, which CODER describes pictures by: of every class its row of `W`,
        then its further texts.
    owners : ndarray of shape (B,), int64
        The class of each, an index into `names`.
    is_name : ndarray of shape (B,), bool
        Whether it is the class's name or a synonym, and no attribute.
    """

    names: list[str]
    W: Floats
    bank: Floats
    owners: NDArray[np.int64]
    is_name: NDArray[np.bool_]

    @classmethod
    def from_arrays(
        cls,
        names: Sequence[str],
        W: Floats,
        attributes: Mapping[str, Floats] | None = None,
        synonyms: Mapping[str, Floats] | None = None,
    ) -> ClassTexts:
        """Return the texts of embeddings that are there already.

        Parameters
        ----------
        names : sequence of str
            The K classes.
        W : ndarray of shape (K, d)
            One embedding a class; rows are normalised here.
        attributes, synonyms : mapping of str to ndarray of shape (m, d), optional
            Embeddings of further texts, by class; a class without any has its row of `W` alone.

        Raises
        ------
        InputError
            If names repeat, or an array has another shape, a zero row, NaN or infinity.
        """
        names = list(names)
        if len(set(names)) != len(names):
            raise InputError("class names must be different, and one is there twice; rename it")
        W = _checked(W, "the class texts", len(names))
        parts: list[Floats] = []
        for name, row in zip(names, W[:, None], strict=True):
            parts += [row, _more(synonyms, name, W.shape[1]), _more(attributes, name, W.shape[1])]
        sizes = [len(part) for part in parts]
        owners = np.repeat(np.repeat(np.arange(len(names)), 3), sizes)
        is_name = np.repeat(np.tile([True, True, False], len(names)), sizes)
        return cls(names, W, np.concatenate(parts), owners, is_name)

    @classmethod
    def encode(
        cls,
        encoder: Encoder,
        names: Sequence[str],
        *,
        templates: Sequence[str] = TEMPLATES,
        words: Mapping[str, ClassWords] | None = None,
    ) -> ClassTexts:
        """Return the texts of classes as an encoder embeds them.

        A name is the mean of its unit prompts, one for each template, scaled to unit length
        (Radford et al. 2021, section 3.1.4).

        Parameters
        ----------
        encoder : Encoder
            With a text tower.
        names : sequence of str
            The K classes.
        templates : sequence of str
            Prompts with ``{}`` where the class goes.
        words : mapping of str to ClassWords, optional
            Further texts by class, as `read_texts` returns.
        """
        if not templates or not all("{}" in template for template in templates):
            raise InputError(f"templates need {{}} for the class, got {list(templates)}")
        said = {name: words[name] for name in names if name in words} if words else {}

        def embed(of: Sequence[str]) -> Floats:
            prompts = [template.format(name) for name in of for template in templates]
            embedded = unit_rows(encoder.encode_texts(prompts))
            means = embedded.reshape(len(of), len(templates), -1).mean(axis=1)
            return np.asarray(means, dtype=np.float32)

        return cls.from_arrays(
            names,
            embed(list(names)),
            {k: encoder.encode_texts(list(w.attributes)) for k, w in said.items() if w.attributes},
            {k: embed(w.names) for k, w in said.items() if w.names},
        )

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
        kept, names = np.concatenate(found), [self.names[row] for row in rows]
        return ClassTexts(names, self.W[rows], self.bank[kept], owners, self.is_name[kept])


@short_repr
@dataclass(frozen=True)
class DescribedClasses:
    """Further texts by class, and where they come from, for messages."""

    by_class: Mapping[str, ClassWords]
    place: str = "the class texts"

    @classmethod
    def read(cls, path: Path) -> DescribedClasses:
        """Read the texts of a JSON file; see `read_texts`."""
        return cls(read_texts(path), str(path))


def read_texts(path: Path) -> dict[str, ClassWords]:
    """Return the texts by class of a JSON file.

    A class has a list of texts, ``{"class": ["text", ...]}``, which are attributes; or both kinds,
    ``{"class": {"names": ["synonym", ...], "attributes": ["text", ...]}}``.
    """
    try:
        found = parsed_json(decoded(Path(path).read_bytes()))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} cannot be read as JSON ({reason(error)}); give another file"
        ) from error
    if not isinstance(found, dict):
        raise InputError(f"{path} must hold one object; {_FORM}")
    return {name: _words(path, name, said) for name, said in found.items()}


def _words(path: Path, name: str, said: Any) -> ClassWords:
    """Return what the file says of one class."""
    kinds = {"attributes": said} if isinstance(said, list) else said
    is_known = isinstance(kinds, dict) and bool(kinds) and set(kinds) <= {"names", "attributes"}
    if not is_known or not all(_are_texts(texts) for texts in kinds.values()):
        raise InputError(f"{path} says of class {name!r} what is no list of texts; {_FORM}")
    return ClassWords(**{kind: tuple(texts) for kind, texts in kinds.items()})


def _are_texts(texts: Any) -> bool:
    is_list = isinstance(texts, list) and bool(texts)
    return is_list and all(isinstance(text, str) and text.strip() for text in texts)


def _more(texts: Mapping[str, Floats] | None, name: str, dim: int) -> Floats:
    """Return the unit rows of a class's further texts, of shape (0, d) without any."""
    if texts is None or name not in texts:
        return np.empty((0, dim), dtype=np.float32)
    found = _checked(texts[name], f"the texts of class {name!r}")
    if found.shape[1] != dim:
        raise InputError(
            f"the texts of class {name!r} have {found.shape[1]} dimensions and the classes {dim}; "
            "embed all with one model"
        )
    return found


def _checked(X: Floats, what: str, n_rows: int | None = None) -> Floats:
    X = np.asarray(X, dtype=np.float32)
    if X.ndim != 2 or len(X) == 0 or (n_rows is not None and len(X) != n_rows):
        wanted = "n" if n_rows is None else n_rows
        raise InputError(f"{what} must have the shape ({wanted}, d), got {X.shape}")
    require_finite(X, what)
    if not X.any(axis=1).all():
        raise InputError(f"{what} hold a zero row; embed them again")
    return unit_rows(X)
