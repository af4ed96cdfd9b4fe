from __future__ import annotations

import pytest

from intramodal.errors import ManifestMismatchError
from intramodal.store.manifest import METADATA_KEY, Manifest, VectorOrigin
from intramodal.types import declared_fingerprint

CLIP = VectorOrigin("clip", "3f9a", precision="fp32")
PROJECTED = VectorOrigin("clip", "3f9a", projection="aa11", source="raw", method="text-pca")


def test_a_manifest_survives_the_collection_metadata() -> None:
    manifest = Manifest({"raw": CLIP, "pca": PROJECTED}, "pets")
    assert Manifest.from_metadata(manifest.to_metadata()) == manifest


def test_metadata_without_our_key_gives_an_empty_manifest() -> None:
    assert Manifest.from_metadata({"team": "search"}) == Manifest()


@pytest.mark.parametrize(
    "stored",
    ["text", {"version": 99, "vectors": {}}, {"version": 1, "vectors": {"raw": {}}}, {}, [1]],
)
def test_metadata_in_another_form_is_refused_in_one_sentence(stored: object) -> None:
    with pytest.raises(ManifestMismatchError, match="is not a manifest of version 1"):
        Manifest.from_metadata({METADATA_KEY: stored})


def test_precision_is_recorded_but_not_part_of_the_identity() -> None:
    gpu = VectorOrigin("clip", "3f9a", precision="bf16")
    assert Manifest({"raw": CLIP}).with_vector("raw", gpu).vectors["raw"].precision == "bf16"


@pytest.mark.parametrize(
    "other",
    [
        VectorOrigin("siglip", "77aa"),
        VectorOrigin("clip", "3f9a", projection="bb22"),
        VectorOrigin("siglip", declared_fingerprint("siglip")),
    ],
)
def test_another_encoder_or_projection_under_the_same_name_is_refused(other: VectorOrigin) -> None:
    with pytest.raises(ManifestMismatchError, match="write to another vector name"):
        Manifest({"raw": CLIP}).with_vector("raw", other)


def test_a_declared_model_of_the_same_name_is_accepted() -> None:
    declared = VectorOrigin("clip", declared_fingerprint("clip"))
    assert Manifest({"raw": CLIP}).with_vector("raw", declared)
