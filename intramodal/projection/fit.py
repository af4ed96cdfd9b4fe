"""A projection from an encoder, text embeddings or projectors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from intramodal.errors import InputError, ManifestMismatchError, ModelError
from intramodal.projection.anchors import AnchorSet
from intramodal.projection.isoclip import IsoClip, Projectors
from intramodal.projection.projection import Projection
from intramodal.types import Encoder, Floats, HasProjectors, declared_fingerprint, encoders_agree

Method = Literal["pca", "isoclip"]


@dataclass(frozen=True, eq=False)
class Center:
    """Mean (d,) of a collection's unit vectors, the encoder that made them, and its origin."""

    mean: Floats
    made_by: tuple[str, str]
    origin: str
    facts: Mapping[str, Any]


def fit_projection(  # noqa: PLR0913  a job has as many knobs as it has
    source: Encoder | Floats | Projectors,
    *,
    method: Method = "pca",
    made_by: str | None = None,
    anchors: AnchorSet | None = None,
    normalize_text: bool = True,
    components: int | None = None,
    center: Center | None = None,
    k_top: int | None = None,
    k_bottom: int | None = None,
) -> Projection:
    """Fit PCA← (centred if asked) or IsoCLIP.

    Parameters
    ----------
    source : Encoder, ndarray of shape (n_anchors, d), or pair of ndarray
        An encoder, whose text tower embeds the anchors, or whose projectors are taken; the text
        embeddings of the anchors; or the projectors of image and text tower, (d, width) each.
    method : {"pca", "isoclip"}
    made_by : str, optional
        The model that made ready embeddings or projectors.
    anchors : AnchorSet, optional
        For ``"pca"``; by default the class names of ImageNet.
    normalize_text : bool
        Whether texts are scaled to unit length before their covariance.
    components : int, optional
        Kept dimensions; by default half.
    center : Center, optional
        A mean that is subtracted first; see `intramodal.store.origins.center_of`.
    k_top, k_bottom : int, optional
        Strongest and weakest directions that IsoCLIP drops; by default as published.

    Raises
    ------
    InputError
        For ready embeddings or projectors without the name of their model.
    ModelError
        If an encoder has no text tower or no projectors.
    ManifestMismatchError
        If the centre is that of another model's vectors.
    RankError
        If the anchors span fewer dimensions than are to be kept.
    """
    name, fingerprint = _model(source, made_by)
    if method == "isoclip":
        image, text = _projectors(source)
        sizes = _sizes(k_top, k_bottom, name)
        return sizes.projection(image, text, encoder=name, encoder_fingerprint=fingerprint)
    anchors = anchors or AnchorSet.imagenet()
    embeddings: Any = source
    if isinstance(source, Encoder):
        embeddings = source.encode_texts(anchors.prompts())
    if center is not None:
        _check_center(center, name, fingerprint)
    projection = Projection.from_text(
        embeddings,
        anchors=anchors,
        encoder=name,
        encoder_fingerprint=fingerprint,
        n_components=components,
        center=center.mean if center else None,
        normalize=normalize_text,
    )
    if center is None:
        return projection
    return replace(projection, recipe={**projection.recipe, "center": dict(center.facts)})


def _model(source: Any, made_by: str | None) -> tuple[str, str]:
    """Return name and fingerprint of the model."""
    if isinstance(source, Encoder):
        return source.name, source.fingerprint
    if made_by is None:
        raise InputError("ready embeddings or projectors need made_by, the model that made them")
    return made_by, declared_fingerprint(made_by)


def _projectors(source: Any) -> Projectors:
    if not isinstance(source, Encoder):
        image, text = source
        return image, text
    if not isinstance(source, HasProjectors):
        raise ModelError(
            f"{source.name} has no text tower, so there are no two projectors for IsoCLIP; take "
            f"a CLIP-like model"
        )
    try:
        return source.projectors()
    except ModelError as error:
        raise ModelError(f"{source.name}: {error}") from error


def _sizes(k_top: int | None, k_bottom: int | None, model: str) -> IsoClip:
    """Return the sizes asked for; what is not given is the published one of the model."""
    if k_top is not None and k_bottom is not None:
        return IsoClip(k_top, k_bottom)
    published = IsoClip.published(model)
    return IsoClip(
        published.k_top if k_top is None else k_top,
        published.k_bottom if k_bottom is None else k_bottom,
    )


def _check_center(center: Center, encoder: str, encoder_fingerprint: str) -> None:
    if not encoders_agree(center.made_by, (encoder, encoder_fingerprint)):
        raise ManifestMismatchError(
            f"{center.facts['vector']!r} of {center.facts['collection']!r} was made by "
            f"{center.origin}, the texts by {encoder} ({encoder_fingerprint[:12]}); centre with "
            f"vectors of the same model"
        )
