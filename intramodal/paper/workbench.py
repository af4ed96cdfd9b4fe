"""What reproducing needs of each model and data set: images ingested, encoders, projections."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from intramodal import __version__
from intramodal.errors import InputError, IntramodalError, LedgerError
from intramodal.ground_truth import GroundTruth
from intramodal.ingest.augmentation import augmented
from intramodal.ingest.encoders.registry import load_encoder
from intramodal.ingest.pipeline import IngestSummary, images_collection, ingest_images
from intramodal.paper.base import Case, DataSet, Model
from intramodal.projection.fit import check_text_directions, fit_projection
from intramodal.projection.projection import Projection
from intramodal.runs.ledger import RunLedger
from intramodal.runs.records import RunRecord
from intramodal.store.base import Store
from intramodal.store.collection import ImageCollection
from intramodal.store.default_vectors import RAW
from intramodal.store.manifest import VectorOrigin
from intramodal.types import Encoder, ImageRecord

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Bench:
    """Where a call works.

    Parameters
    ----------
    store : Store
    ledger : RunLedger
    root : Path
        The data root.
    work : Path
        A folder for projections and inverted texts.
    recipe : str
    limit : int, optional
        Images per class and split.
    crop : bool
        Whether queries are cropped to their boxes, where a data set has them.
    augment : bool
        Whether shots are augmented views, for models of which the authors' are.
    device, precision : str, optional
        As `load_encoder` takes them.
    batch_size : int
    parent : str, optional
        The run that all runs of this call belong to.
    on : ImageCollection, optional
        Measure a collection that is there, and ingest nothing.
    vector : str
        Its named vector.
    fitted : Projection, optional
        Taken for PCA← instead of fitting one.
    """

    store: Store
    ledger: RunLedger
    root: Path | None
    work: Path
    recipe: str
    limit: int | None = None
    crop: bool = False
    augment: bool = False
    device: str | None = None
    precision: str | None = None
    batch_size: int = 32
    parent: str | None = None
    on: ImageCollection | None = None
    vector: str = RAW
    fitted: Projection | None = None
    _loaded: dict[str, Encoder | IntramodalError] = field(default_factory=dict, repr=False)
    _lists: dict[str, str | None] = field(default_factory=dict, repr=False)

    def stated(self) -> dict[str, Any]:
        """Return what all cells of this call share, as their runs record it."""
        stated = {"recipe": self.recipe, "limit": self.limit, "store": self.store.location}
        stated |= {name: True for name in ("crop", "augment") if getattr(self, name)}
        return stated | ({"projection": self.fitted.fingerprint} if self.fitted else {})

    @property
    def maps(self) -> str:
        """What PCA← is, for people."""
        return f"recipe {self.recipe}" if self.fitted is None else f"the given {self.fitted!r}"

    def encoder(self, model: Model) -> Encoder:
        """Return a model, loaded once; one that cannot be loaded is tried once, too."""
        if model.name not in self._loaded:
            self._loaded.clear()  # one model at a time fits most memories
            self._loaded[model.name] = self._tried(model)
        found = self._loaded[model.name]
        if isinstance(found, IntramodalError):
            raise found
        return found

    def _tried(self, model: Model) -> Encoder | IntramodalError:
        if model.condition:
            log.warning("%s: %s", model.title, model.condition)
        try:
            return load_encoder(
                model.encoder,
                device=self.device,
                precision=self.precision,
                preprocessing=model.preprocessing,
            )
        except IntramodalError as error:
            return error

    def projection(self, model: Model, origin: VectorOrigin) -> Projection:
        """Return PCA← of a model by the recipe, fitted once and kept: a fit differs by threads."""
        if self.fitted is not None:
            check_text_directions(self.fitted, (origin.encoder, origin.encoder_fingerprint))
            return self.fitted
        path = self.work / f"{model.name}-{self.recipe}.safetensors"
        if path.exists():  # one that is damaged is an error: a new fit would differ from it
            kept = Projection.load(path)
            if kept.encoder_fingerprint == origin.encoder_fingerprint:
                return kept
        fitted = fit_projection(self.encoder(model), recipe=self.recipe)
        self.work.mkdir(parents=True, exist_ok=True)
        fitted.save(path)
        return fitted

    def collection_name(self, dataset: DataSet, model: Model) -> str:
        """Return the name of the collection of a data set's images under a model."""
        limited = f"-limit-{self.limit}" if self.limit else ""
        views = "-augmented" if self._augments(model) else ""
        cropped = "-cropped" if self._crops(dataset) else ""
        return f"paper-{dataset.name}-{model.name}{views}{cropped}{limited}"

    def _crops(self, dataset: DataSet) -> bool:
        return self.crop and dataset.open_cropped is not None

    def _augments(self, model: Model) -> bool:
        return self.augment and model.augments_shots

    def case(self, dataset: DataSet, model: Model) -> Case:
        """Return the case of a data set and a model, after ingesting what is missing."""
        collection, notes = (self.on, ()) if self.on else self._ingested(dataset, model)
        origin = collection.origin(self.vector)
        return Case(
            dataset,
            model,
            collection,
            vector=self.vector,
            root=self.root,
            work=self.work,
            load=lambda: self.encoder(model),
            fit=lambda: self.projection(model, origin),
            notes=notes,
            augmented=augmented(self.vector) if self._augments(model) else None,
            limit=self.limit,
        )

    def is_ingested(self, dataset: DataSet, model: Model) -> bool:
        """Return whether an earlier call has ingested all of it, without a failure."""
        if self.on is not None:
            return True
        stated = self._stated(dataset, model)
        if stated["lists"] is None:  # gone since, as images may be once they are ingested
            del stated["lists"]
        try:
            latest = self._latest_ingest(stated)
            return (
                latest is not None
                and latest.status == "COMPLETE"
                and self.store.exists(stated["collection"])
                and all(latest.parameters.get(name) == value for name, value in stated.items())
                and not self.ledger.failures(latest.id)
            )
        except LedgerError:  # warned of where it is written to; an ingest skips what is there
            return False

    def _latest_ingest(self, stated: Mapping[str, Any]) -> RunRecord | None:
        """Return the run that wrote to a collection last: an older one may be undone by it."""
        place = ("collection", "store")
        for record in self.ledger.runs(kind="ingest"):
            if all(record.parameters.get(name) == stated[name] for name in place):
                return record
        return None

    def _stated(self, dataset: DataSet, model: Model) -> dict[str, Any]:
        return {
            "dataset": dataset.name,
            "model": model.encoder,
            "collection": self.collection_name(dataset, model),
            "root": str(self.root),
            "store": self.store.location,
            "lists": self._lists_of(dataset),
        }

    def _lists_of(self, dataset: DataSet) -> str | None:
        """Return the identity of what the lists of a data set say; None if they are not there."""
        if dataset.name not in self._lists:
            try:
                self._lists[dataset.name] = _digest(self.images(dataset))
            except IntramodalError:
                self._lists[dataset.name] = None
        return self._lists[dataset.name]

    def _ingested(self, dataset: DataSet, model: Model) -> tuple[ImageCollection, tuple[str, ...]]:
        """Return the collection, and what could not be read."""
        stated = self._stated(dataset, model)
        if self.is_ingested(dataset, model):
            return ImageCollection.open(self.store, stated["collection"]), ()
        images = self.images(dataset)
        encoder = self.encoder(model)
        with self.ledger.run("ingest", parameters=stated, parent=self.parent) as run:
            augment = self._augments(model)
            collection = images_collection(
                self.store, stated["collection"], encoder=encoder, augment=augment
            )
            done = ingest_images(
                images,
                collection,
                encoder=encoder,
                dataset=dataset.name,
                augment=augment,
                batch_size=self.batch_size,
                run=run,
            )
            _check_none_left(collection, dataset, done)
        return collection, _unread(done)

    def images_per_second(self, model: Model) -> float | None:
        """Return the rate of this model's latest ingest of a batch at least; None without one."""
        for record in self.ledger.runs(kind="ingest", status="COMPLETE"):
            if record.parameters.get("model") == model.encoder and record.seconds > 0:
                figures = {one.name: one.value for one in self.ledger.metrics(record.id)}
                n_written = figures.get("written") or 0
                if n_written >= self.batch_size:
                    return n_written / record.seconds
        return None

    def images(self, dataset: DataSet) -> Iterable[ImageRecord]:
        """Return the images of a data set, or the first of every class and split.

        Of a data set with a ground truth, the first queries and the first images judged for each.
        """
        root = self.root or Path()
        opened = dataset.open_cropped if self.crop else None
        found = (opened or dataset.open)(root)
        if self.limit is None:
            return found
        truth = dataset.truth(root, self.limit)
        return list(limited(found, dataset, self.limit) if truth is None else named(found, truth))


def own_data(collection: ImageCollection, labels: Sequence[str], split: str | None) -> DataSet:
    """Return a collection as a data set: leave-one-out, or its test against its train split."""
    return DataSet(
        name=collection.name,
        title=collection.name,
        open=lambda root: (),
        layout="",
        origin="",
        licence="",
        n_images=collection.info().n_points,
        fields=tuple(labels),
        protocol="query-gallery" if split else "leave-one-out",
        split=split or "",
    )


def own_model(collection: ImageCollection, vector: str) -> Model:
    """Return the model that made a vector of a collection, by its manifest."""
    name = collection.origin(vector).encoder
    return Model(name=re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-"), title=name, encoder=name)


def _digest(images: Iterable[ImageRecord]) -> str:
    """Return the identity of keys and payload, in their order, without holding a million."""
    digest = hashlib.sha256()
    for image in images:
        digest.update(json.dumps([image.key, image.payload], sort_keys=True).encode())
    return digest.hexdigest()


def _check_none_left(collection: ImageCollection, dataset: DataSet, done: IngestSummary) -> None:
    """Raise if a collection has images that a data set, as it is now, does not have."""
    n_left = collection.count() - (done.written + done.skipped + done.updated)
    if n_left > 0:
        raise InputError(
            f"{collection.name} has {n_left:,} images that {dataset.title} no longer names, or "
            f"that can no longer be read; delete the collection, or take another store"
        )


def _unread(done: IngestSummary) -> tuple[str, ...]:
    if not done.failed:
        return ()
    first = done.failures[0]
    return (
        f"{done.failed:,} images could not be read and take no part, first {first['item']}: "
        f"{first['reason']}",
    )


def limited(images: Iterable[ImageRecord], dataset: DataSet, limit: int) -> Iterator[ImageRecord]:
    """Yield the first `limit` images of every class and split."""
    n_seen: Counter[tuple[Any, ...]] = Counter()
    for image in images:
        group = tuple(image.payload.get(name) for name in (dataset.split, dataset.fields[0]))
        n_seen[group] += 1
        if n_seen[group] <= limit:
            yield image


def named(images: Iterable[ImageRecord], truth: GroundTruth) -> Iterator[ImageRecord]:
    """Yield the images that a ground truth names."""
    wanted = {*truth.gallery, *truth.queries}
    return (image for image in images if image.payload["name"] in wanted)


def made_from(case: Case) -> Mapping[str, Any]:
    """Return what the figures of a case's cells rest on, without reading its vectors."""
    origin = case.collection.origin(case.vector)
    about = case.dataset
    truth = about.truth(case.root, case.limit) if case.root else None
    return {
        "collection": case.collection.name,
        "vector": case.vector,
        "encoder": origin.encoder_fingerprint,
        "n_points": case.collection.count(),
        "points": case.points,
        "fields": list(about.fields),
        "protocol": about.protocol,
        "split": about.split,
        "template": about.template,
        **({"ground_truth": truth.fingerprint} if truth else {}),
        "version": __version__,
    }
