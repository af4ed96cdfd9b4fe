"""`fit --words` with real text embeddings: means of captions stand in for the prompts of values.

The figures are those of an independent program; captions are other photos', of Flickr8k.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from intramodal import ImageCollection, open_store
from intramodal.commands.options import DEFAULT_STORE
from intramodal.store.manifest import VectorOrigin
from intramodal.types import declared_fingerprint, unit_rows
from tests.cli.kit import run

pytestmark = pytest.mark.real_data

MODEL = "open_clip:ViT-B-32:openai"
FIELDS = ("gender", "baseColour", "subCategory")
PEOPLE = ("man", "woman", "boy", "girl")
COLOURS = ("black", "blue", "brown", "green", "orange", "pink", "purple", "red", "tan", "white",
           "yellow")  # fmt: skip
UNRELATED = ("dog", "grass", "water", "snow")


@pytest.fixture(autouse=True)
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, real_data: Path) -> None:
    """Make a collection of product photos, and a projection of ImageNet's prompts."""
    monkeypatch.chdir(tmp_path)
    folder = real_data / "fashion988-clip-b32"
    X = np.load(folder / "image_embeddings.npy").astype(np.float32)
    with (folder / "labels.csv").open(newline="", encoding="utf-8") as file:
        payloads = [{field: row[field] for field in FIELDS} for row in csv.DictReader(file)]
    origin = VectorOrigin(MODEL, declared_fingerprint(MODEL))
    with open_store(DEFAULT_STORE) as store:
        made = ImageCollection.create(store, "photos", {"raw": (512, origin)})
        made.write(list(range(len(X))), {"raw": X}, payloads)
    texts = str(real_data / "imagenet-text-clip-b32" / "a_photo_of_a_X.npy")
    run("fit", "--text-vectors", texts, "--made-by", MODEL, "-o", "pca.safetensors")


def fitted(real_data: Path, words: tuple[str, ...], *how: str) -> dict[str, Any]:
    """Fit and store axes between words, each by the mean of the captions that hold it."""
    folder = real_data / "flickr8k100-clip-b32"
    T = unit_rows(np.load(folder / "text_embeddings.npy"))
    with (folder / "metadata.csv").open(newline="", encoding="utf-8") as file:
        captions = [re.findall("[a-z]+", row["caption"].lower()) for row in csv.DictReader(file)]
    holding = [[i for i, caption in enumerate(captions) if word in caption] for word in words]
    np.save("T.npy", np.stack([T[rows].mean(axis=0) for rows in holding]))
    Path("words.txt").write_text("\n".join(words), encoding="utf-8")
    texts = ("--projection", "pca.safetensors", "--text-vectors", "T.npy")
    found = run("fit", "photos", "--words", "words.txt", *texts, *how, "-o", "w.safetensors")
    run("backfill", "photos", "--projection", "w.safetensors", "--to", "w")
    return dict(found["maps"][0])


def scores(field: str, vector: str) -> tuple[float, float]:
    """Return mAP and precision@10 x 100 under a vector, by leave-one-out."""
    how = ("--labels", field, "--ks", "10", "--min-class-size", "5")
    found = run("evaluate", "retrieval", "photos", "--vectors", vector, *how)
    figures = found["fields"][field]["vectors"][vector]
    return 100 * figures["map"], 100 * figures["precision@10"]


def test_names_of_people_tell_genders_apart(real_data: Path) -> None:
    assert fitted(real_data, PEOPLE)["words"]["weight"] == 0.5
    assert scores("gender", "raw") == pytest.approx((56.5, 77.8), abs=0.2)
    assert scores("gender", "w") == pytest.approx((70.5, 81.0), abs=1)
    # They harm another field, which has 71.4 raw and 78.0 with the projection alone.
    assert scores("subCategory", "w")[0] == pytest.approx(65, abs=3)


def test_names_of_colours_tell_colours_apart(real_data: Path) -> None:
    fitted(real_data, COLOURS, "--word-weight", "1")
    # Which colours the independent program named is not known.
    assert scores("baseColour", "w") == pytest.approx((28.1, 36.9), abs=2)


def test_unrelated_names_give_nothing(real_data: Path) -> None:
    fitted(real_data, UNRELATED)
    assert scores("gender", "w")[0] == pytest.approx(55.7, abs=1.5)
    assert scores("baseColour", "w")[0] < scores("baseColour", "raw")[0] + 2


def test_labels_choose_a_weight_that_serves_images_without_part_in_it(real_data: Path) -> None:
    found = fitted(real_data, PEOPLE, "--labels", "gender")
    assert found["words"]["weight"] > 0.5
    how = ("evaluate", "retrieval", "photos", "--vectors", "raw,w", "--labels", "gender")
    judged = run(*how)
    assert judged["held_out"]["n_fit_rows"] > 400
    figures = judged["fields"]["gender"]["vectors"]
    assert figures["w"]["map"] > figures["raw"]["map"] + 0.1
