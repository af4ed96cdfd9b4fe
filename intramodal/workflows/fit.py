"""A projection from a model, or from ready text embeddings or projectors, into one file."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from intramodal.errors import InputError, ManifestMismatchError, ModelError
from intramodal.ingest.encoders.registry import load_encoder
from intramodal.ingest.vectors.matrices import read_matrix
from intramodal.projection.anchors import AnchorSet
from intramodal.projection.isoclip import IsoClip
from intramodal.projection.projection import Projection
from intramodal.runs.ledger import RunLedger
from intramodal.store.collection import ImageCollection
from intramodal.store.manifest import VectorOrigin
from intramodal.types import Encoder, Floats, HasProjectors, declared_fingerprint, encoders_agree
from intramodal.workflows.corpus import mean_unit_vector
from intramodal.workflows.projectors import Projectors, read_projectors
from intramodal.workflows.workspace import reach_store


@dataclass(frozen=True)
class FitRequest:
    """What to fit from; the options of ``intramodal fit``."""

    out: Path
    runs: str
    store: str
    method: str = "pca"
    model: str | None = None
    text_vectors: Path | None = None
    projectors: Path | None = None
    made_by: str | None = None
    anchors: str = "imagenet"
    template: str = "a photo of a {}"
    normalize_text: bool = True
    components: int | None = None
    center: str | None = None
    k_top: int | None = None
    k_bottom: int | None = None
    device: str | None = None
    precision: str | None = None


@dataclass(frozen=True)
class _Center:
    """Mean of a collection's unit vectors, and where it comes from."""

    mean: Floats
    origin: VectorOrigin
    facts: dict[str, Any]


def fit_projection(request: FitRequest) -> dict[str, Any]:
    """Fit PCA← (centred if asked) or IsoCLIP, save it, and return what ``--json`` prints."""
    fit = _METHODS[request.method]
    parameters = {key: str(value) for key, value in asdict(request).items() if value is not None}
    with (
        RunLedger.open(request.runs) as ledger,
        ledger.run("fit", parameters=parameters) as run,
    ):
        projection = fit(request)
        projection.save(request.out)
        run.log_fingerprint(
            "projection", projection.method, projection.fingerprint, projection.recipe
        )
        return {**describe_projection(projection, request.out), "run_id": run.id}


def fit_for_encoder(encoder: Encoder, anchors: AnchorSet, n: int | None = None) -> Projection:
    """Fit PCA← from an encoder's own text tower."""
    return Projection.from_text(
        encoder.encode_texts(anchors.prompts()),
        anchors=anchors,
        encoder=encoder.name,
        encoder_fingerprint=encoder.fingerprint,
        n_components=n,
    )


BUILT_IN = ("imagenet", "wordnet")


def load_anchors(which: str, template: str) -> AnchorSet:
    """Return a built-in anchor set (imagenet, wordnet) or the names in a file."""
    if which == "imagenet":
        return AnchorSet.imagenet(template=template)
    if which == "wordnet":
        return AnchorSet.imagenet("wordnet", template=template)
    if not Path(which).exists():
        close = difflib.get_close_matches(which, BUILT_IN) or BUILT_IN
        raise InputError(
            f"there is no file of anchors {which!r}; did you mean {' or '.join(close)}, which are "
            f"built in?"
        )
    return AnchorSet.from_file(Path(which), template=template)


def describe_projection(projection: Projection, path: Path) -> dict[str, Any]:
    """Return the facts about a saved projection that a person or a script needs."""
    recipe = projection.recipe
    return {
        "projection": str(path),
        "method": projection.method,
        "dim_in": projection.dim_in,
        "dim_out": projection.dim_out,
        "vector": projection.default_vector,
        "fingerprint": projection.fingerprint,
        "encoder": projection.encoder,
        **{key: recipe.get(key) for key in ("n_anchors", "rank", "k_top", "k_bottom")},
        "warnings": list(projection.warnings()),
    }


def _fit_text_pca(request: FitRequest) -> Projection:
    anchors = load_anchors(request.anchors, request.template)
    center = _read_center(request.center, request.store) if request.center else None
    text, name, fingerprint = _text_embeddings(request, anchors)
    if center is not None:
        _check_center(center, name, fingerprint)
    projection = Projection.from_text(
        text,
        anchors=anchors,
        encoder=name,
        encoder_fingerprint=fingerprint,
        n_components=request.components,
        center=center.mean if center else None,
        normalize=request.normalize_text,
    )
    if center is None:
        return projection
    return replace(projection, recipe={**projection.recipe, "center": center.facts})


def _fit_isoclip(request: FitRequest) -> Projection:
    (image, text), name, fingerprint = _projectors(request)
    how = _sizes(request, name)
    return how.projection(image, text, encoder=name, encoder_fingerprint=fingerprint)


_METHODS: dict[str, Callable[[FitRequest], Projection]] = {
    "pca": _fit_text_pca,
    "isoclip": _fit_isoclip,
}


def _text_embeddings(request: FitRequest, anchors: AnchorSet) -> tuple[Floats, str, str]:
    if request.text_vectors is not None:
        made_by = str(request.made_by)
        return read_matrix(request.text_vectors), made_by, declared_fingerprint(made_by)
    encoder = load_encoder(str(request.model), device=request.device, precision=request.precision)
    return encoder.encode_texts(anchors.prompts()), encoder.name, encoder.fingerprint


def _projectors(request: FitRequest) -> tuple[Projectors, str, str]:
    if request.projectors is not None:
        made_by = str(request.made_by)
        return read_projectors(request.projectors), made_by, declared_fingerprint(made_by)
    encoder = load_encoder(str(request.model), device=request.device, precision=request.precision)
    if not isinstance(encoder, HasProjectors):
        raise ModelError(
            f"{encoder.name} has no text tower, so there are no two projectors for IsoCLIP; take "
            f"a CLIP-like model"
        )
    try:
        return encoder.projectors(), encoder.name, encoder.fingerprint
    except ModelError as error:
        raise ModelError(f"{encoder.name}: {error}") from error


def _sizes(request: FitRequest, model: str) -> IsoClip:
    """Return the sizes asked for; what is not given is the published one of the model."""
    if request.k_top is not None and request.k_bottom is not None:
        return IsoClip(request.k_top, request.k_bottom)
    published = IsoClip.published(model)
    return IsoClip(
        published.k_top if request.k_top is None else request.k_top,
        published.k_bottom if request.k_bottom is None else request.k_bottom,
    )


def _read_center(place: str, location: str) -> _Center:
    """Return the mean that ``COLLECTION[:VECTOR]`` names; ``COLLECTION:`` is an unnamed vector."""
    name, has_vector, vector = place.partition(":")
    vector = vector if has_vector else "raw"
    with reach_store(location) as store:
        collection = ImageCollection.open(store, name)
        collection.vector_spec(vector)
        origin = collection.origin(vector)
        if origin.projection:
            raise InputError(
                f"{vector!r} of {name!r} is projected already; average the encoder's own vectors, "
                f"for example --center {name}:{origin.source}"
            )
        mean, n = mean_unit_vector(collection, vector)
    return _Center(mean, origin, {"collection": name, "vector": vector, "n": n})


def _check_center(center: _Center, encoder: str, encoder_fingerprint: str) -> None:
    origin = center.origin
    made_by = (origin.encoder, origin.encoder_fingerprint)
    if not encoders_agree(made_by, (encoder, encoder_fingerprint)):
        raise ManifestMismatchError(
            f"{center.facts['vector']!r} of {center.facts['collection']!r} was made by {origin}, "
            f"the texts by {encoder} ({encoder_fingerprint[:12]}); centre with vectors of the "
            f"same model"
        )
