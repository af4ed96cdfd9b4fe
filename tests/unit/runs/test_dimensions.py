"""What a recorded figure is of, for every kind of run that records one."""

from __future__ import annotations

from typing import Any

import pytest

from intramodal.runs.dimensions import dimensions_of
from intramodal.runs.ledger import RunLedger


def recorded(
    parameters: dict[str, Any], name: str, vector: str | None, made_by: dict[str, str]
) -> dict[str, Any]:
    with RunLedger.open(":memory:") as ledger:
        with ledger.run("evaluate-retrieval", parameters=parameters) as run:
            run.log_metric(name, 0.5, vector=vector, field="label")
            for made, model in made_by.items():
                kind = "projection" if "through" in model else "encoder"
                run.log_fingerprint(kind, model, "3f9a" * 16, {"vector": made})  # type: ignore[arg-type]
        (metric,) = ledger.metrics(str(run.id))
        return dimensions_of(ledger.get(str(run.id)), metric, ledger.fingerprints(str(run.id)))


CLIP = "open_clip:ViT-B-32:openai (3f9a3f9a3f9a)"
MADE_BY = {"raw": CLIP, "pca": f"{CLIP} through pca 3f9a3f9a3f9a"}


@pytest.mark.parametrize("vector", ["raw", "pca"])
def test_the_model_of_a_collection_is_that_of_its_manifest(vector: str) -> None:
    found = recorded({"collection": "photos"}, "mAP", vector, MADE_BY)
    assert found == {
        "metric": "mAP",
        "collection": "photos",
        "dataset": "photos",
        "model": "open_clip:ViT-B-32:openai",
        "method": vector,
        "classifier": None,
        "shots": None,
    }


def test_an_accuracy_is_taken_apart() -> None:
    found = recorded({"collection": "photos"}, "accuracy, lda+text, 16 shots", "pca", MADE_BY)
    assert (found["metric"], found["classifier"], found["shots"]) == ("accuracy", "lda+text", 16)


def test_a_target_names_its_collection() -> None:
    assert recorded({"target": "a:b:raw"}, "mAP", "raw", {})["collection"] == "a:b"
    assert recorded({"target": "photos"}, "mAP", "oti", {})["collection"] == "photos"


def test_what_a_run_names_itself_comes_first() -> None:
    stated = {"collection": "c", "dataset": "dtd", "model": "clip_b32", "method": "pca_centered"}
    found = recorded(stated, "mAP", "raw", MADE_BY)
    assert [found[name] for name in ("dataset", "model", "method")] == [
        *("dtd", "clip_b32", "pca_centered")
    ]


def test_a_part_of_a_data_set_is_another_one() -> None:
    assert recorded({"dataset": "dtd", "limit": 5}, "mAP", None, {})["dataset"] == "dtd (limit 5)"


def test_vectors_of_two_models_have_no_common_one() -> None:
    other = {"raw": CLIP, "dino": "hf:facebook/dinov2-base (3f9a3f9a3f9a)"}
    assert recorded({"collection": "c"}, "mAP delta", None, other)["model"] is None
    assert (
        recorded({"collection": "c"}, "mAP", "dino", other)["model"] == "hf:facebook/dinov2-base"
    )


def test_two_models_of_one_vector_are_not_taken_for_one() -> None:
    with RunLedger.open(":memory:") as ledger:
        parameters = {"collection": "clip, siglip"}
        with ledger.run("evaluate-misalignment", parameters=parameters) as run:
            run.log_metric("auc", 0.5, vector="clip:raw", field="label")
            for model in ("clip", "siglip"):
                name = f"{model} (3f9a3f9a3f9a)"
                run.log_fingerprint("encoder", name, "3f9a" * 16, {"vector": "raw"})
        (metric,) = ledger.metrics(str(run.id))
        record, made_by = ledger.get(str(run.id)), ledger.fingerprints(str(run.id))
    found = dimensions_of(record, metric, made_by)
    assert (found["collection"], found["method"], found["model"]) == ("clip", "raw", None)


def test_a_model_of_texts_is_not_that_of_the_vectors() -> None:
    found = recorded({"collection": "photos", "model": "texts"}, "mAP", "raw", MADE_BY)
    assert found["model"] == "open_clip:ViT-B-32:openai"
