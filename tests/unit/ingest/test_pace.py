"""As many threads decode as keep up with the encoder, by what its second batch took."""

from __future__ import annotations

import os
import time
from dataclasses import replace

import pytest

from intramodal.ingest.pipeline import ingest_images
from intramodal.ingest.workers import MOST_WORKERS, workers_for
from intramodal.store.base import Store
from intramodal.types import ImageRecord
from tests.plain_encoder import PlainEncoder, collection_for
from tests.unit.ingest.pipeline_kit import png, record

pytestmark = pytest.mark.serial  # workers come by how long reading takes

MOST = min(MOST_WORKERS, os.cpu_count() or 1)


@pytest.mark.parametrize(
    ("decode_s", "forward_s", "expected"),
    [
        (0.05, 1.0, 1),
        (1.0, 1.0, 1),
        (1.01, 1.0, min(2, MOST)),
        (1e9, 1.0, MOST),
        (1.0, 0.0, MOST),
        (0.0, 1.0, 1),
    ],
)
def test_there_are_as_many_workers_as_forward_passes_that_decoding_fills(
    decode_s: float, forward_s: float, expected: int
) -> None:
    assert workers_for(decode_s, forward_s) == expected


def test_a_slow_encoder_keeps_one_worker(store: Store) -> None:
    # Two pictures of 16 x 16 would have to take half a second.
    encoder = PlainEncoder(seconds=0.5)
    ingest_images(
        [record(n) for n in range(5)],
        collection_for(store, encoder),
        encoder=encoder,
        batch_size=2,
    )
    assert encoder.threads == {"decode-0"}


@pytest.mark.skipif(MOST < 2, reason="one core: there is never more than one worker")
def test_slow_reading_gets_more_workers(store: Store, encoder: PlainEncoder) -> None:
    def slow(n: int) -> ImageRecord:
        def read() -> bytes:
            time.sleep(0.02)
            return png(n)

        return replace(record(n), read=read)

    # Batches of two pictures take 40 ms to read, and no time to encode.
    source = [slow(n) for n in range(30)]
    ingest_images(source, collection_for(store, encoder), encoder=encoder, batch_size=2)
    assert {"decode-0", "decode-1"} <= encoder.threads
