"""What a data set, a model, a method and a table declare."""

from __future__ import annotations

import difflib
import importlib
import json
import pkgutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Literal, Protocol, TypeVar

from intramodal.errors import InputError
from intramodal.evaluation.tasks import Sides
from intramodal.ground_truth import GroundTruth
from intramodal.ingest.encoders.preprocess import Preprocessing
from intramodal.projection.projection import Projection
from intramodal.runs.run import Run
from intramodal.store.collection import ImageCollection
from intramodal.types import Encoder, ImageRecord, VectorTable, fingerprint

RankingProtocol = Literal["query-gallery", "leave-one-out", "revisited"]


@dataclass(frozen=True)
class DataSet:
    """A data set as it lies on disk, and how the paper evaluates on it.

    Parameters
    ----------
    name : str
        As commands name it, and the name of its file: ``"oxford_pets"``.
    title : str
        As the paper's text names it.
    column : str
        As its tables do, where that is shorter.
    open : callable
        From the data root to its images, with their payload; it reads lists, no images. Raises
        `SourceError` in one sentence, with the expected place and form and where the data set
        comes from, if something is missing or malformed.
    layout : str
        Where its files lie below the data root, for people.
    origin : str
        Where it comes from.
    licence : str
        As its authors state it.
    n_images : int
        Images of the whole data set, over all splits that are read.
    fields : tuple of str
        Payload fields that say what is relevant; the paper's column is the first.
    metric : str
        The figure of the paper's column.
    protocol : {"query-gallery", "leave-one-out", "revisited"}
        Section 7 of the paper's protocol: the test split queries the train split, every image all
        others, or as the revisited benchmark of Oxford and Paris.
    split : str
        Payload field with ``test``, ``train`` and ``val``; empty if there is none.
    template : str
        Prompt of a class name.
    open_cropped : callable, optional
        As `open`, with queries cropped to their boxes, as the published benchmark of Oxford and
        Paris does and the authors do not.
    ground_truth : callable, optional
        From the data root to what the revisited protocol judges by; images then have their names
        in the payload field ``name``.
    """

    name: str
    title: str
    open: Callable[[Path], Iterable[ImageRecord]]
    layout: str
    origin: str
    licence: str
    n_images: int
    fields: tuple[str, ...] = ("class",)
    metric: str = "mAP"
    protocol: RankingProtocol = "query-gallery"
    split: str = "split"
    template: str = "a photo of a {}."
    column: str = ""
    open_cropped: Callable[[Path], Iterable[ImageRecord]] | None = None
    ground_truth: Callable[[Path], GroundTruth] | None = None

    @property
    def sides(self) -> Sides:
        """Who queries whom: the test split the train split, or every image all others."""
        return Sides.of(self.split if self.protocol == "query-gallery" else None)

    def truth(self, root: Path, limit: int | None = None) -> GroundTruth | None:
        """Return the ground truth, or as much of it as a limited look reads; None without one."""
        if self.ground_truth is None:
            return None
        found = self.ground_truth(root)
        return found if limit is None else found.limited(limit)

    def figure(self, metric: str, field: str) -> str:
        """Return the name of a metric of a field: the metric alone where there is one field."""
        return metric if len(self.fields) == 1 else f"{metric}:{field}"


@dataclass(frozen=True)
class Model:
    """A model of the paper.

    Parameters
    ----------
    name : str
        As commands name it, and the name of its file: ``"clip_b32"``.
    title : str
        As the paper's tables name it.
    encoder : str
        What `load_encoder` takes, with a pinned revision where the hub has one.
    has_text : bool
        Whether it has a text tower: OTI and all projections by class names need one.
    rules : str
        How images and texts become its inputs, and which output is the embedding. They are read
        from the checkpoint, at the pinned revision, but for `preprocessing`.
    preprocessing : Preprocessing, optional
        What the authors do to images where it is not the checkpoint's own.
    isoclip : pair of int, optional
        Strongest and weakest directions that IsoCLIP drops, where that is published.
    augments_shots : bool
        Whether the authors encode one augmented view of each shot (section 4.3's code).
    licence : str
        As its authors state it; what must be accepted before a download is `condition`.
    condition : str
        What a user must do once before the weights can be downloaded; empty if nothing.
    """

    name: str
    title: str
    encoder: str
    has_text: bool = True
    rules: str = ""
    preprocessing: Preprocessing | None = None
    isoclip: tuple[int, int] | None = None
    augments_shots: bool = False
    licence: str = ""
    condition: str = ""


@dataclass(frozen=True, eq=False)
class Case:
    """One data set as one model sees it: what methods and experiments work on.

    Parameters
    ----------
    dataset : DataSet
    model : Model
    collection : ImageCollection
        Its images with the model's output.
    vector : str
        The named vector of that output.
    root : Path, optional
        The data root, for the ground truth of the revisited protocol.
    work : Path
        A folder for what takes long to compute again.
    load : callable
        Loads the encoder.
    fit : callable
        Fits or reads the projection of the recipe asked for.
    notes : tuple of str
        What a reader must know of its images, such as how many could not be read.
    augmented : str, optional
        The named vector of one augmented view of each image, from which shots are taken.
    limit : int, optional
        How many images per class and split were read, of a limited look.
    """

    dataset: DataSet
    model: Model
    collection: ImageCollection
    vector: str
    root: Path | None
    work: Path
    load: Callable[[], Encoder]
    fit: Callable[[], Projection]
    notes: tuple[str, ...] = ()
    augmented: str | None = None
    limit: int | None = None

    @cached_property
    def encoder(self) -> Encoder:
        """The model; loaded when it is first needed."""
        return self.load()

    @cached_property
    def projection(self) -> Projection:
        """PCA← by the recipe asked for."""
        return self.fit()

    @cached_property
    def table(self) -> VectorTable:
        """The images' vectors, with the payload that the data set's evaluation reads."""
        split = (self.dataset.split,) if self.dataset.split else ()
        views = (self.augmented,) if self.augmented else ()
        fields = [*self.dataset.fields, *split]
        return self.collection.table([self.vector, *views], payload=fields)

    @cached_property
    def points(self) -> str:
        """Identity of the images, their labels and their splits, as they are stored."""
        split = (self.dataset.split,) if self.dataset.split else ()
        pages = self.collection.scan(payload=["sha256", *self.dataset.fields, *split])
        rows = (row for page in pages for row in zip(page.ids, page.payloads, strict=True))
        return fingerprint({"rows": sorted(json.dumps(row, sort_keys=True) for row in rows)})


@dataclass(frozen=True)
class Method:
    """How images are compared, or classified with the help of texts.

    Parameters
    ----------
    name : str
        As commands name it, and the name of its file.
    title, symbol : str
        As the paper's tables name it, and what it compares, as in ``⟨I←, I←⟩``.
    needs_text : bool
        Whether it needs the model's text tower.
    project : callable, optional
        From a case to the map into the space that images are compared in; by default they are
        compared as the model embeds them.
    retrieve : callable, optional
        Instead, for what is no map of the images: from a case, and the run that records it, to
        figures of retrieval.
    classifier : str, optional
        For few-shot classification with text: one of
        `intramodal.evaluation.fewshot_text.METHODS`.
    """

    name: str
    title: str
    symbol: str = ""
    needs_text: bool = False
    project: Callable[[Case], Projection] | None = None
    retrieve: Callable[[Case, Run], Mapping[str, float]] | None = None
    classifier: str | None = None


@dataclass(frozen=True, order=True)
class Cell:
    """One evaluation: an experiment on a data set with a model and a method, by their names."""

    experiment: str
    dataset: str
    model: str
    method: str

    def __str__(self) -> str:
        """Return its parts, separated by slashes."""
        return "/".join((self.experiment, self.dataset, self.model, self.method))


@dataclass(frozen=True)
class Entry:
    """What stands in one place of a table: the mean of figures of some cells.

    Parameters
    ----------
    sources : tuple of (Cell, str)
        Cells and the figure of each, such as ``"mAP"`` or ``"prototype@16"``.
    published : float, optional
        What the paper prints there.
    minus : tuple of (Cell, str)
        Figures whose mean is subtracted, for a difference.
    """

    sources: tuple[tuple[Cell, str], ...]
    published: float | None = None
    minus: tuple[tuple[Cell, str], ...] = ()


@dataclass(frozen=True)
class Layout:
    """One table of rows and columns.

    Parameters
    ----------
    title, caption : str
    row_heads : tuple of tuple of str
        Each row's head, such as model and method.
    column_heads : tuple of str
    entries : mapping of (int, int) to Entry
        By row and column; places without an entry stay empty.
    head_names : tuple of str
        What the parts of a row's head are.
    percent : bool
        Whether figures are fractions that are shown in percent.
    best : {"highest", "lowest", "none"}
        Which figure of a column is printed in bold.
    shots : tuple of int
        Of the columns, where these are numbers of shots and the rows are drawn as curves.
    """

    title: str
    row_heads: tuple[tuple[str, ...], ...]
    column_heads: tuple[str, ...]
    entries: Mapping[tuple[int, int], Entry]
    head_names: tuple[str, ...]
    caption: str = ""
    percent: bool = True
    best: Literal["highest", "lowest", "none"] = "highest"
    shots: tuple[int, ...] = ()


@dataclass(frozen=True)
class Choice:
    """What of a table is asked for: declarations, in the order of its rows and columns."""

    datasets: tuple[DataSet, ...]
    models: tuple[Model, ...]
    methods: tuple[Method, ...]


@dataclass(frozen=True)
class Table:
    """A table or a figure of the paper.

    Parameters
    ----------
    name : str
        As commands name it, and the name of its file: ``"table3"``.
    title : str
    about : str
        What it shows, where it stands in the paper, and how ours differs.
    datasets, models, methods : tuple of str
        Names of those that the paper shows, in its order.
    recipe : str
        Which of the authors' recipes its projections are fitted by.
    layouts : callable
        From a choice to its tables of figures.
    """

    name: str
    title: str
    about: str
    datasets: tuple[str, ...]
    models: tuple[str, ...]
    methods: tuple[str, ...]
    recipe: str
    layouts: Callable[[Choice], Sequence[Layout]] = field(repr=False)


class Declared(Protocol):
    """Whatever has a name and a title."""

    @property
    def name(self) -> str:
        """As commands name it."""
        ...


T = TypeVar("T", bound=Declared)


def declared(folder: str, kind: type[T]) -> dict[str, T]:
    """Return the declarations of a folder of this package by name, each file's ``DECLARED``.

    Parameters
    ----------
    folder : {"datasets", "models", "methods", "tables"}
    kind : type
        `DataSet`, `Model`, `Method` or `Table`.
    """
    package = importlib.import_module(f"intramodal.paper.{folder}")
    files = sorted(module.name for module in pkgutil.iter_modules(package.__path__))
    found = [importlib.import_module(f"{package.__name__}.{name}") for name in files]
    values = [module.DECLARED for module in found if hasattr(module, "DECLARED")]
    return {value.name: value for value in values if isinstance(value, kind)}


def chosen(folder: str, kind: type[T], names: Iterable[str]) -> tuple[T, ...]:
    """Return declarations by name.

    Raises
    ------
    InputError
        If there is none of a name, or one is there twice.
    """
    known, names = declared(folder, kind), list(names)
    for at, name in enumerate(names):
        if name in names[:at]:
            raise InputError(f"{name!r} is there twice among the {folder}; name it once")
        if name not in known:
            close = difflib.get_close_matches(name, known, n=3) or sorted(known)
            raise InputError(
                f"there is no {name!r} among the paper's {folder}; did you mean "
                f"{', '.join(close)}?"
            )
    return tuple(known[name] for name in names)


def models_of(names: Iterable[str]) -> tuple[Model, ...]:
    """Return models by name, or by ``NAME=ENCODER`` with the weights of one's own.

    Examples
    --------
    >>> models_of(["slip_b16=slip:slip_base_100ep.pt"])[0].encoder
    'slip:slip_base_100ep.pt'

    Raises
    ------
    InputError
        If there is no such model, or nothing follows the sign.
    """
    given = [name.partition("=") for name in names]
    for name, sign, encoder in given:
        if sign and not encoder:
            raise InputError(
                f"{name}= names no encoder; write it as in {name}=open_clip:local-dir:PATH"
            )
    found = chosen("models", Model, [name for name, *_ in given])
    return tuple(
        replace(model, encoder=encoder, condition="") if encoder else model
        for model, (*_, encoder) in zip(found, given, strict=True)
    )
