"""Pictures into a collection: decode, encode and write, all at the same time.

The calling thread encodes. Threads read and decode ahead of it, up to one batch; others ask and
write the store, one for each of its upload streams, and one batch more may wait for them. Memory
does not grow with the number of pictures.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any

from intramodal.errors import InputError
from intramodal.ingest.counting import counted
from intramodal.ingest.failures import Failures
from intramodal.ingest.pace import Pace
from intramodal.ingest.plan import Plan
from intramodal.ingest.reading import Reading
from intramodal.ingest.stored import Seen, count_dataset, find_gone
from intramodal.ingest.stored import prune as prune_points
from intramodal.ingest.threads import Threads
from intramodal.ingest.writing import Writing
from intramodal.progress import progress
from intramodal.projection.artifact import Projection
from intramodal.runs import NullRun, Run
from intramodal.store.collection import ImageCollection
from intramodal.types import Encoder, ImageRecord

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class IngestSummary:
    """What an ingest did.

    Parameters
    ----------
    collection : str
    written, skipped, updated, projected, failed, pruned : int
        Pictures encoded and written; left as they were; given other payload only; given only the
        projection of their stored vector; not readable; points deleted because their picture has
        left the source.
    failures : list of dict
        "item", "stage" and "reason" of each failure; the first 10,000.
    seconds : float
    """

    collection: str
    written: int
    skipped: int
    updated: int
    projected: int
    failed: int
    pruned: int
    failures: list[dict[str, str]]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)


def ingest(  # noqa: PLR0913  a job with many settings, each with a default
    source: Iterable[ImageRecord],
    collection: ImageCollection,
    encoder: Encoder,
    *,
    projection: Projection | None = None,
    dataset: str | None = None,
    batch_size: int = 32,
    workers: int | None = None,
    max_failures: int | None = None,
    prune: bool = False,
    yes: bool = False,
    run: Run | None = None,
) -> IngestSummary:
    """Bring a collection up to a source of pictures.

    A picture whose file is stored already, by the hash of its bytes, is not encoded again; if
    its payload has changed, that alone is written, and if it lacks the projected vector alone,
    that is made of the stored one. Of points that exist only these vectors and payload keys are
    set: other vectors and keys stay as they are. Killed at any moment, the same call resumes.

    Parameters
    ----------
    source : iterable of ImageRecord
        For example from `open_source`; iterated over once.
    collection : ImageCollection
        With the vector ``raw`` of this encoder and, with a projection, its vector.
    encoder : Encoder
    projection : Projection, optional
        Its vector is written with ``raw``; new pictures get both in one write.
    dataset : str, optional
        Namespace of the point ids; the collection's name by default.
    batch_size : int
        Pictures encoded and written at once.
    workers : int, optional
        Threads that read and decode; 0 does it between the batches. By default one, and after the
        second batch as many as keep up with the encoder; see `workers_for`.
    max_failures : int, optional
        Stop when more pictures have failed; by default never.
    prune : bool
        Delete the data set's points whose image has left the source. Nothing is deleted if the
        source may hold more than it yields, as with a folder that cannot be listed, or yields
        nothing. `plan_prune` lists the points without deleting them.
    yes : bool
        Delete them also where they are more than a tenth of the data set and more than 10 points.
    run : Run, optional
        Takes failures and figures.

    Returns
    -------
    IngestSummary

    Raises
    ------
    ManifestMismatchError
        If the collection's vectors were made by another model, preprocessing or projection.
    InputError
        If a setting cannot be used, too many pictures have failed, or `prune` would delete more
        than it may without `yes`; in the last case all pictures were written.
    StoreError
        If the store fails for longer than its deadline.
    """
    started = time.perf_counter()
    run = run or NullRun()
    if workers is not None and workers < 0:
        raise InputError(f"workers must be at least 0, got {workers}")
    name = collection.name if dataset is None else dataset
    plan = Plan(collection, encoder, projection, name, batch_size)
    plan.check()
    failures = Failures(run, max_failures)
    with closing(Seen()) as seen:
        n_before = count_dataset(collection, name) if prune else 0
        writing = _load(source, plan, failures, seen, workers)
        counts = {
            "written": writing.n_written,
            "skipped": writing.n_skipped,
            "updated": writing.n_updated,
            "projected": writing.n_projected,
            "failed": failures.n,
        }
        for figure, n in counts.items():  # they hold also where pruning is refused
            run.log_metric(figure, n)
        n_pruned = _pruned(source, plan, seen, n_before, yes=yes) if prune else 0
    run.log_metric("pruned", n_pruned)
    return IngestSummary(
        collection=collection.name,
        **counts,
        pruned=n_pruned,
        failures=failures.listed,
        seconds=round(time.perf_counter() - started, 3),
    )


def _load(
    source: Iterable[ImageRecord],
    plan: Plan,
    failures: Failures,
    seen: Seen,
    workers: int | None,
) -> Writing:
    collection = plan.collection
    with (
        progress(None, "ingest", unit="img") as bar,
        counted(source, bar),
        Threads(collection.store.upload_streams(collection.name), "store") as storing,
        Threads(1 if workers is None else workers, "decode") as decoding,
    ):
        reading = Reading(plan, seen, decoding, storing)
        pace = Pace(decoding, is_fixed=workers is not None)
        writing = Writing(plan, failures, storing, pace, bar.update)
        try:
            for outcome in reading.outcomes(source):
                writing.take(outcome)
            writing.finish()
        finally:
            failures.flush()
        return writing


def _pruned(
    source: Iterable[ImageRecord], plan: Plan, seen: Seen, n_before: int, *, yes: bool
) -> int:
    collection = plan.collection
    found = find_gone(source, collection, plan.dataset, seen, n_before=n_before)
    if found.gap is not None:
        log.warning("nothing is pruned, as the source may hold more images: %s", found.gap)
        return 0
    return prune_points(collection, found, seen, yes=yes)
