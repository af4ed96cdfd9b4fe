"""The gate on real CLIP embeddings: product photos, raw against projected on ImageNet's names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from intramodal import AnchorSet, Projection
from tests.cli.kit import invoke, run

pytestmark = pytest.mark.real_data

junitparser = pytest.importorskip(
    "junitparser", reason="the JUnit file is read with junitparser, in intramodal[dev]"
)

MODEL = "open_clip:ViT-B-32:openai"
COMPARE = ("compare", "fashion", "--no-controls", "--labels")


@pytest.fixture(scope="module")
def folder(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder whose store holds 988 product photos with both vectors."""
    folder = tmp_path_factory.mktemp("fashion")
    texts = np.load(real_data / "imagenet-text-clip-b32" / "a_photo_of_a_X.npy")
    made_by = {"encoder": MODEL, "encoder_fingerprint": f"declared:{MODEL}"}
    projection = Projection.from_text(texts, anchors=AnchorSet.imagenet(), **made_by)
    projection.save(folder / "pca.safetensors")
    photos = real_data / "fashion988-clip-b32"
    ready = (str(photos / "image_embeddings.npy"), "--metadata", str(photos / "labels.csv"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        projected = ("--made-by", MODEL, "--projection", "pca.safetensors")
        run("ingest", *ready, "--collection", "fashion", *projected)
    return folder


@pytest.fixture(autouse=True)
def there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


def cases(file: str) -> dict[str, Any]:
    (suite,) = junitparser.JUnitXml.fromfile(file)
    return {case.name: case for case in suite}


def test_a_field_that_loses_stops_the_pipeline_with_3() -> None:
    result = invoke(*COMPARE, "usage", "--fail-on", "worse", "--junit", "usage.xml", "--wide")
    assert result.exit_code == 3, result.output
    assert result.stderr.splitlines()[-1] == "Gate failed (worse): usage is worse."
    (failure,) = cases("usage.xml")["usage"].result
    assert failure.type == "worse"
    assert f"usage: {failure.message}" in result.stdout


def test_a_field_that_gains_passes_the_strictest_rule() -> None:
    result = invoke(
        *COMPARE, "articleType", "--fail-on", "not-better", "--junit", "type.xml", "--wide"
    )
    assert result.exit_code == 0, result.output
    case = cases("type.xml")["articleType"]
    assert case.is_passed
    assert f"articleType: {case.system_out}" in result.stdout


def test_a_field_without_enough_evidence_never_passes_for_better() -> None:
    asked = (*COMPARE, "year", "--junit", "year.xml", "--fail-on")
    found = run(*asked, "not-better", code=3)
    assert found["fields"]["year"]["verdict"] == "inconclusive"
    assert found["gate"]["failed"] == {"year": "inconclusive"}
    (failure,) = cases("year.xml")["year"].result
    assert failure.message == found["fields"]["year"]["sentence"]
