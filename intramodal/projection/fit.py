"""A projection from an encoder, text embeddings or projectors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from intramodal.errors import InputError, ManifestMismatchError, ModelError
from intramodal.projection.anchors import AnchorSet
from intramodal.projection.isoclip import IsoClip, Projectors
from intramodal.projection.projection import Projection
from intramodal.projection.recipes import PAPER_TEXT, Recipe, recipe_named
from intramodal.types import Encoder, Floats, HasProjectors, declared_fingerprint, encoders_agree

Method = Literal["pca", "isoclip"]


@dataclass(frozen=True, eq=False)
class Center:
    """Mean (d,) of a collection's unit vectors, the encoder that made them, and its origin.

    `made_by` is None where nobody has declared it.
    """

    mean: Floats
    made_by: tuple[str, str] | None
    origin: str
    facts: Mapping[str, Any]


def fit_projection(  # noqa: PLR0913  a job has as many knobs as it has
    source: Encoder | Floats | Projectors,
    *,
    method: Method = "pca",
    made_by: str | None = None,
    recipe: Recipe | str | None = None,
    anchors: AnchorSet | None = None,
    normalize_text: bool | None = None,
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
    recipe : Recipe or str, optional
        For ``"pca"``: one of `intramodal.projection.recipes.RECIPES`, in place of `anchors` and
        `normalize_text`. By default ``"paper-text"`` as far as these do not say otherwise. Ready
        embeddings are scaled and centred as it says.
    anchors : AnchorSet, optional
        For ``"pca"``; by default the class names of ImageNet.
    normalize_text : bool, optional
        Whether texts are scaled to unit length before their covariance; by default they are.
    components : int, optional
        Kept dimensions; by default half.
    center : Center, optional
        A mean that is subtracted first; see `intramodal.store.origins.center_of`.
    k_top, k_bottom : int, optional
        Strongest and weakest directions that IsoCLIP drops; by default as published.

    Raises
    ------
    InputError
        For ready embeddings or projectors without the name of their model, a recipe that there
        is not, or one together with what it decides.
    ModelError
        If an encoder has no text tower or no projectors.
    ManifestMismatchError
        If the centre is that of another model's vectors.
    RankError
        If the anchors span fewer dimensions than are to be kept.
    """
    name, fingerprint = _model(source, made_by)
    if method == "isoclip":
        if recipe is not None:
            raise InputError("a recipe is for PCA←, and IsoCLIP uses no texts; leave it out")
        image, text = _projectors(source)
        sizes = _sizes(k_top, k_bottom, name)
        return sizes.projection(image, text, encoder=name, encoder_fingerprint=fingerprint)
    chosen = _recipe(recipe, anchors, normalize_text)
    anchors = anchors or chosen.anchors()
    embeddings: Any = anchors.embed(source) if isinstance(source, Encoder) else source
    if center is not None:
        _check_center(center, name, fingerprint)
    projection = Projection.from_text(
        embeddings,
        anchors=anchors,
        encoder=name,
        encoder_fingerprint=fingerprint,
        n_components=components,
        center=center.mean if center else None,
        normalize=chosen.unit if normalize_text is None else normalize_text,
        center_text=chosen.centred,
    )
    facts: dict[str, Any] = {} if recipe is None else {"recipe": chosen.name}
    facts |= {} if center is None else {"center": dict(center.facts)}
    return replace(projection, recipe={**projection.recipe, **facts})


def _recipe(
    recipe: Recipe | str | None, anchors: AnchorSet | None, normalize_text: bool | None
) -> Recipe:
    """Return the recipe asked for; the default one where single choices are made instead."""
    if recipe is None:
        return PAPER_TEXT
    found = recipe_named(recipe) if isinstance(recipe, str) else recipe
    single = {"anchors": anchors, "normalize_text": normalize_text}
    for name, value in single.items():
        if value is not None:
            raise InputError(
                f"recipe {found.name!r} already decides on names, templates and scaling; leave "
                f"out {name}, or the recipe"
            )
    return found


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
    made_by = center.made_by
    if made_by is not None and not encoders_agree(made_by, (encoder, encoder_fingerprint)):
        raise ManifestMismatchError(
            f"{center.facts['vector']!r} of {center.facts['collection']!r} was made by "
            f"{center.origin}, the texts by {encoder} ({encoder_fingerprint[:12]}); centre with "
            f"vectors of the same model"
        )
