from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest

from intramodal.errors import ManifestMismatchError
from intramodal.fit_rows import FitRows, LabelFit
from intramodal.store.manifest import (
    METADATA_KEY,
    VECTOR_KEY,
    Manifest,
    VectorOrigin,
    foreign_metadata,
)
from intramodal.types import declared_fingerprint

CLIP = VectorOrigin("clip", "3f9a", precision="fp32")
PROJECTED = VectorOrigin("clip", "3f9a", projection="aa11", source="raw", method="text-pca")


def test_a_manifest_survives_the_collection_metadata() -> None:
    manifest = Manifest({"raw": CLIP, "pca": PROJECTED}, "pets")
    assert Manifest.from_metadata(manifest.to_metadata()) == manifest
    assert set(manifest.to_metadata()) == {METADATA_KEY, VECTOR_KEY + "raw", VECTOR_KEY + "pca"}


def test_a_vector_that_was_removed_unsafely_is_remembered_until_it_is_declared_again() -> None:
    begun = Manifest({"raw": CLIP, "pca": PROJECTED}, "pets").with_removed("pca", "1.18.3")
    done = begun.without_vector("pca")
    for manifest in (begun, done):
        assert Manifest.from_metadata(manifest.to_metadata()) == manifest
    assert begun.vectors["pca"] == PROJECTED
    assert (set(done.vectors), done.removed) == ({"raw"}, {"pca": "1.18.3"})
    assert done.change_of("pca")[VECTOR_KEY + "pca"] == {"removed_by": "1.18.3"}
    assert not done.with_vector("pca", CLIP).removed


OLD = {
    METADATA_KEY: {
        "version": 1,
        "dataset": "pets",
        "vectors": {"raw": CLIP.to_dict(), "pca": PROJECTED.to_dict()},
    }
}


def merged(metadata: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a store holds after a change."""
    return {key: value for key, value in {**metadata, **change}.items() if value is not None}


def test_the_form_of_version_1_is_read_and_left_by_the_first_change() -> None:
    old = Manifest.from_metadata({**OLD, "team": "search"})
    assert old == Manifest({"raw": CLIP, "pca": PROJECTED}, "pets")
    change = old.with_vector("oti", CLIP).change_of("oti")
    assert set(change) == {METADATA_KEY, VECTOR_KEY + "oti"}
    assert change[METADATA_KEY] == {**OLD[METADATA_KEY], "version": 2}
    stored = Manifest.from_metadata(merged(OLD, change))
    assert stored == Manifest({"raw": CLIP, "pca": PROJECTED, "oti": CLIP}, "pets")
    assert set(stored.with_vector("pca", PROJECTED).change_of("pca")) == {VECTOR_KEY + "pca"}
    assert stored.to_metadata() == Manifest(stored.vectors, "pets").to_metadata()


@pytest.mark.parametrize("is_first", [True, False])
def test_a_removed_vector_of_version_1_stays_removed(is_first: bool) -> None:
    metadata: dict[str, Any] = dict(OLD)
    if not is_first:
        change = Manifest.from_metadata(metadata).with_vector("oti", CLIP).change_of("oti")
        metadata = merged(metadata, change)
    known = Manifest.from_metadata(metadata)
    metadata = merged(metadata, known.without_vector("pca").change_of("pca"))
    gone = Manifest.from_metadata(metadata)
    assert gone == known.without_vector("pca")
    again = gone.with_vector("pca", CLIP)
    assert Manifest.from_metadata(merged(metadata, again.change_of("pca"))) == again
    unsafely = known.with_removed("pca", "1.18.3").without_vector("pca")
    assert Manifest.from_metadata(merged(metadata, unsafely.change_of("pca"))) == unsafely


def test_two_who_change_a_manifest_of_version_1_at_once_lose_nothing() -> None:
    """One has found that points lack `pca`; the other has looked before, and adds `oti`."""
    old = Manifest.from_metadata(OLD)
    half = replace(PROJECTED, is_complete=False)
    changes = [
        old.with_vector("pca", half).change_of("pca"),
        old.with_vector("oti", CLIP).change_of("oti"),
        old.without_vector("raw").change_of("raw"),
    ]
    for order in permutations(changes):
        metadata: dict[str, Any] = dict(OLD)
        for change in order:
            metadata = merged(metadata, change)
        assert Manifest.from_metadata(metadata).vectors == {"pca": half, "oti": CLIP}


def test_a_vector_of_its_own_key_is_newer_than_one_of_version_1() -> None:
    complete = {VECTOR_KEY + "pca": PROJECTED.to_dict()}
    half = {"raw": CLIP.to_dict(), "pca": replace(PROJECTED, is_complete=False).to_dict()}
    found = Manifest.from_metadata({METADATA_KEY: {"version": 1, "vectors": half}, **complete})
    assert found.vectors == {"raw": CLIP, "pca": PROJECTED}


def test_version_1_of_intramodal_refuses_the_form_of_now() -> None:
    # Its test, word for word: anything but 1 is "not a manifest of version 1; upgrade".
    assert Manifest({"raw": CLIP}).to_metadata()[METADATA_KEY]["version"] != 1


def test_what_is_no_manifests_is_left_to_a_copy() -> None:
    metadata = {"team": "search", "intramodal_copy": {}, **Manifest({"": CLIP}).to_metadata()}
    assert foreign_metadata(metadata) == {"team": "search", "intramodal_copy": {}}


def test_metadata_without_our_key_gives_an_empty_manifest() -> None:
    assert Manifest.from_metadata({"team": "search"}) == Manifest()


@pytest.mark.parametrize(
    "stored",
    ["text", {"version": 99, "vectors": {}}, {"version": 1, "vectors": {"raw": {}}}, {}, [1]],
)
def test_metadata_in_another_form_is_refused_in_one_sentence(stored: object) -> None:
    with pytest.raises(ManifestMismatchError, match="is not a manifest of version 2 or older"):
        Manifest.from_metadata({METADATA_KEY: stored})


@pytest.mark.parametrize("stored", ["text", {}, [1], {"encoder": "clip"}, {"is_gone": 1.5}])
def test_a_vector_in_another_form_is_refused_by_the_name_of_its_key(stored: object) -> None:
    with pytest.raises(ManifestMismatchError, match="key 'intramodal:raw' is not a manifest"):
        Manifest.from_metadata({VECTOR_KEY + "raw": stored})


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


LABELLED = replace(
    PROJECTED,
    method="posterior",
    distance="Dot",
    labels=LabelFit("gender", FitRows(share=0.5), {"Men": 20, "Women": 30}),
)


def test_what_a_map_has_seen_survives_the_collection_metadata() -> None:
    manifest = Manifest({"raw": CLIP, "codes": LABELLED})
    stored = json.loads(json.dumps(manifest.to_metadata()))
    assert Manifest.from_metadata(stored).vectors["codes"] == LABELLED
    assert not {"labels", "distance"} & set(stored[VECTOR_KEY + "raw"])
    assert "through posterior of 'gender' aa11" in str(LABELLED)


def test_a_map_of_another_field_is_refused_under_the_same_name() -> None:
    manifest = Manifest({"codes": LABELLED})
    hue = LabelFit("hue", FitRows(share=0.5), {"red": 20, "blue": 30})
    with pytest.raises(ManifestMismatchError, match=r"of 'gender' aa11, not by .* of 'hue' bb22"):
        manifest.check("codes", replace(LABELLED, labels=hue, projection="bb22"))


@pytest.mark.parametrize("labels", [[], "x", {"field": 3}, {"field": "a", "rows": {"ids": "x"}}])
def test_a_hostile_description_of_labels_is_refused_in_one_sentence(labels: Any) -> None:
    stored = {VECTOR_KEY + "codes": {**CLIP.to_dict(), "labels": labels or ["x"]}}
    with pytest.raises(ManifestMismatchError, match="is not a manifest of version"):
        Manifest.from_metadata(stored)
