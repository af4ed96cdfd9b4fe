"""The folder of a reader of the docs: a collection of somebody else's, texts, images, votes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from intramodal import AnchorSet, load_encoder, open_store
from intramodal.commands.options import DEFAULT_STORE
from intramodal.demo import pictures_list
from intramodal.evaluation.preference import VOTES_FORMAT
from intramodal.ingest.sources.formats import open_source
from intramodal.store.base import VectorSpec

N_CODE_POINTS = 40


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with all that the docs name; the shipped model has made the vectors."""
    pytest.importorskip("open_clip", reason="the docs' commands need intramodal[encoders]")
    folder = tmp_path_factory.mktemp("shop")
    encoder = load_encoder("demo")
    X = np.random.default_rng(0).normal(size=(3, encoder.dim))
    np.save(folder / "X.npy", X.astype(np.float32))
    (folder / "meta.csv").write_text("sku,price\na,1\nb,2\nc,3\n")
    np.save(folder / "T.npy", encoder.encode_texts(AnchorSet.imagenet().prompts()))
    shown = list(open_source(str(pictures_list())))
    records = [
        r for row, r in enumerate(shown) if row // 4 % (len(shown) // 4 // N_CODE_POINTS) == 0
    ]
    records = records[: 4 * N_CODE_POINTS]  # of every kind, each by all four vendors
    embeddings = encoder.encode_images([record.read() for record in records])
    payloads = [{k: r.payload[k] for k in ("category", "vendor")} for r in records]
    with open_store(str(folder / DEFAULT_STORE)) as store:
        store.create("products", {"image": VectorSpec(encoder.dim)})
        store.upsert("products", list(range(len(records))), {"image": embeddings}, payloads)
    lines = [f"{number},{row['category']}" for number, row in enumerate(payloads)]
    (folder / "labels.csv").write_text("\n".join(["id,category", *lines, ""]))
    (folder / "votes.json").write_text(json.dumps(_votes()))
    (folder / "photos" / "cats").mkdir(parents=True)
    for place, record in zip(("query.jpg", "new.jpg", "photos/cats/1.jpg"), records, strict=False):
        (folder / place).write_bytes(record.read())
    return folder


def _votes() -> dict[str, object]:
    """Return what a judging page saves: five queries for the projected vector, one against it."""
    votes = [
        {"query": n, "choice": "b" if n else "a", "left": "a", "right": [n + 6], "wrong": [n + 9]}
        for n in range(6)
    ]
    about = {"collection": "products", "vectors": ["image", "pca"], "run_id": None}
    return {"format": VOTES_FORMAT, **about, "votes": votes}
