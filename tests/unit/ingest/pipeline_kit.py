"""What the tests of the ingest share."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any

from PIL import Image

from intramodal.ingest.pipeline import IngestSummary
from intramodal.store.collection import ImageCollection
from intramodal.types import ImageRecord

N = 70


def png(shade: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (20, 12), (shade % 256, shade // 256, 9)).save(file, "PNG")
    return file.getvalue()


def record(n: int, **payload: Any) -> ImageRecord:
    return ImageRecord(f"{n:05}.png", lambda: png(n), {"label": f"l{n % 3}", **payload})


def records(n: int = N) -> list[ImageRecord]:
    return [record(i) for i in range(n)]


def broken(n: int) -> ImageRecord:
    return ImageRecord(f"broken-{n}.png", lambda: b"no picture")


def counts(summary: IngestSummary) -> tuple[int, int, int, int, int]:
    return (summary.written, summary.skipped, summary.updated, summary.failed, summary.pruned)


def contents(collection: ImageCollection, vectors: Iterable[str] = ("raw",)) -> dict[str, Any]:
    """Return the payload and the bytes of the vectors of every point, by path."""
    found = {}
    for page in collection.scroll(vectors=list(vectors), payload=True):
        for row, payload in enumerate(page.payloads):
            rows = {name: X[row].tobytes() for name, X in page.vectors.items()}
            found[payload["path"]] = (page.ids[row], payload, rows)
    return found
