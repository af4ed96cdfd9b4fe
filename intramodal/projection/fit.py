"""Maps from an encoder, text embeddings or projectors, and from labelled vectors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from dataclasses import field as dataclass_field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from intramodal.errors import InputError, ManifestMismatchError, ModelError
from intramodal.fit_rows import FEW_ROWS, FitRows, LabelFit
from intramodal.model_names import check_dimension, warn_of_custom_name
from intramodal.projection.anchors import AnchorSet
from intramodal.projection.isoclip import IsoClip, Projectors
from intramodal.projection.posterior import PosteriorMap
from intramodal.projection.projection import CENTERED, Projection, libraries
from intramodal.projection.recipes import PAPER_TEXT, Recipe, recipe_named
from intramodal.types import (
    Encoder,
    Floats,
    HasProjectors,
    declared_fingerprint,
    encoders_agree,
    short_repr,
)

Method = Literal["pca", "isoclip"]


@short_repr
@dataclass(frozen=True, eq=False)
class Center:
    """Mean (d,) of a collection's unit vectors, the encoder that made them, and its origin.

    `made_by` is None where nobody has declared it.
    """

    mean: Floats
    made_by: tuple[str, str] | None
    origin: str
    facts: Mapping[str, Any]


@dataclass(frozen=True, eq=False, repr=False)
class LabelledRows:
    """Vectors with labels, and others that need none; what maps that see labels are fitted to.

    Parameters
    ----------
    X : ndarray of shape (n, d)
    y : sequence of str
        n class names.
    field : str
        What the labels are of.
    rows : FitRows
        Which points these are: they never judge the map.
    made_by : (str, str)
        Name and fingerprint of the model.
    gallery : ndarray of shape (m, d), optional
        Vectors of the same collection that are not for fitting; `X` without any.
    facts : mapping
        Where they are from: JSON values.
    witnesses : mapping of str to str
        A few of them, as `LabelFit` keeps them.
    """

    X: NDArray[Any]
    y: Sequence[str]
    field: str
    rows: FitRows
    made_by: tuple[str, str]
    gallery: NDArray[Any] | None = None
    facts: Mapping[str, Any] = dataclass_field(default_factory=dict)
    witnesses: Mapping[str, str] = dataclass_field(default_factory=dict)

    @property
    def labels(self) -> LabelFit:
        """What a map fitted to them has seen."""
        counts = dict(sorted(Counter(self.y).items()))
        return LabelFit(self.field, self.rows, counts, witnesses=self.witnesses)

    def take(self, places: NDArray[np.intp]) -> LabelledRows:
        """Return some of them, by their places (n,), with the same others."""
        return replace(self, X=self.X[places], y=[self.y[place] for place in places])

    def __repr__(self) -> str:
        """Return the labels and the number of rows."""
        n_others = 0 if self.gallery is None else len(self.gallery)
        return f"LabelledRows({self.labels}, {len(self.X):,} rows, {n_others:,} others)"


@dataclass(frozen=True, eq=False, repr=False)
class Images:
    """Vectors `X` (n, d) of a collection, the model that made them, and where they are from."""

    X: NDArray[Any]
    made_by: tuple[str, str]
    facts: Mapping[str, Any] = dataclass_field(default_factory=dict)

    def __repr__(self) -> str:
        """Return the model and the number of images."""
        return f"Images({self.made_by[0]}, {len(self.X):,})"


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
        If the centre is that of another model's vectors, or the embeddings or projectors are of
        another dimension than those of a known model.
    RankError
        If the anchors span fewer dimensions than are to be kept.
    """
    name, fingerprint = _model(source, made_by)
    if method == "isoclip":
        if recipe is not None:
            raise InputError("a recipe is for PCA←, and IsoCLIP uses no texts; leave it out")
        image, text = _projectors(source)
        sizes = _sizes(k_top, k_bottom, name)
        found = sizes.projection(image, text, encoder=name, encoder_fingerprint=fingerprint)
        if made_by is not None:
            check_dimension(name, "the space of the projectors", found.dim_in)
        return found
    chosen = _recipe(recipe, anchors, normalize_text)
    anchors = anchors or chosen.anchors()
    embeddings: Any = anchors.embed(source) if isinstance(source, Encoder) else source
    if made_by is not None and np.ndim(embeddings) == 2:
        check_dimension(name, "each text embedding", np.shape(embeddings)[1])
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


def fit_centering(center: Center, *, text: Projection | Floats | None = None) -> Projection:
    """Fit a map that subtracts the mean of a collection, and keeps all or texts' directions.

    Parameters
    ----------
    center : Center
        See `intramodal.store.origins.center_of`.
    text : Projection or ndarray of shape (n_texts, d), optional
        Which directions to keep: those of a projection, such as PCA←, or half as many as there
        are dimensions, of these texts. By default all.

    Raises
    ------
    InputError
        If nothing says which model made the vectors, or a projection does more than to keep
        directions of texts.
    ManifestMismatchError
        If the projection is another model's.
    """
    made_by = center.made_by
    if made_by is None and isinstance(text, Projection):
        made_by = text.encoder, text.encoder_fingerprint
    if made_by is None:
        raise InputError(
            f"nothing says which model made {center.facts['vector']!r} of "
            f"{center.facts['collection']!r}, and the map is for that model's vectors alone; "
            f"declare it with `intramodal adopt`"
        )
    facts = {"center": dict(center.facts)}
    if text is None:
        keeps_all = np.eye(len(center.mean), dtype=np.float32)
        recipe = {**facts, **libraries()}
        return Projection(keeps_all, CENTERED, *made_by, offset=center.mean, recipe=recipe)
    kept = text_projection(text, made_by, len(center.mean))
    if kept.offset is not None:
        raise InputError(f"{kept.place or repr(kept)} subtracts a mean already; give one of none")
    method, recipe = f"{kept.method}_centered", {**kept.recipe, **facts}
    return replace(kept, method=method, offset=center.mean, recipe=recipe, place=None)


def text_projection(
    text: Projection | Floats, made_by: tuple[str, str], dim_in: int
) -> Projection:
    """Return directions of texts as a projection: a given one, or half as many as dimensions.

    Raises `InputError` for texts of another length, or as `check_text_directions`.
    """
    from intramodal.projection.text_pca import TextPCA

    if isinstance(text, Projection):
        check_text_directions(text, made_by)
        return text
    _check_texts(text, dim_in, made_by[0])
    k = min(max(1, dim_in // 2), TextPCA(1).fit(text).rank_)
    Q = TextPCA(k).fit(text).components_.T.astype(np.float32)
    facts = {"text": {"from": "texts", "n": len(text)}, **libraries()}
    return Projection(Q, "pca", *made_by, recipe=facts)


def fit_label_map(
    rows: LabelledRows,
    *,
    text: Projection | Floats | None = None,
    label_weight: float | None = None,
    components: int | None = None,
) -> Projection:
    """Fit axes that tell the classes of a label apart, beside directions of texts.

    Parameters
    ----------
    rows : LabelledRows
    text : Projection or ndarray of shape (n_texts, d), optional
        Whose directions, or which texts: the first 64. Without it the images' own principal axes
        take their place, which costs about one point of mAP where texts help much.
    label_weight : float, optional
        Share of the label axes in a vector's length; by default .5 below 100 labelled rows,
        else .8.
    components : int, optional
        Label axes at most, 64 by default; there are never more than classes less one.

    Raises
    ------
    InputError
        For labels of one class, a weight or a number of axes that cannot be, or a projection
        that has seen labels itself.
    ManifestMismatchError
        If the projection is another model's.
    """
    from intramodal.projection.label_map import N_AXES, LabelMap

    directions, from_text = _directions(text, rows, N_AXES)
    fitted = LabelMap(directions, label_weight, N_AXES if components is None else components)
    fitted.fit(rows.X, np.asarray(rows.y, dtype=str), gallery=rows.gallery)
    return Projection(
        matrix=fitted.matrix_.astype(np.float32),
        method="label",
        encoder=rows.made_by[0],
        encoder_fingerprint=rows.made_by[1],
        offset=fitted.mean_.astype(np.float32),
        recipe={
            **_seen(rows, from_text),
            "label_weight": fitted.label_weight_,
            "n_text": fitted.n_text_,
            "n_label": fitted.n_label_,
        },
        text_mean=text.text_mean if isinstance(text, Projection) else None,
    )


def fit_posterior(
    rows: LabelledRows,
    *,
    text: Projection | Floats | None = None,
    known: bool = False,
    force: bool = False,
) -> PosteriorMap:
    """Fit the chance of each class, beside half as many text axes as there are dimensions.

    Parameters
    ----------
    rows : LabelledRows
    text : Projection or ndarray of shape (n_texts, d), optional
        As for `fit_label_map`.
    known : bool
        Codes of points whose payload knows the label are certain of it, when a backfill or an
        ingest makes them; a label that changes needs a recomputation. Such codes hold what they
        would be judged by, so that no evaluation takes them: judge the same map without.
    force : bool
        Fit also where a class has fewer than 10 labelled rows: such classes lose.

    Raises
    ------
    InputError
        For a class of too few rows, or as for `fit_label_map`.
    ManifestMismatchError
        If the projection is another model's.
    """
    from intramodal.projection.class_posterior import ClassPosterior
    from intramodal.projection.classes import mean_of
    from intramodal.projection.label_map import text_axes

    names, codes = np.unique(np.asarray(rows.y, dtype=str), return_inverse=True)
    _check_classes(rows.labels, force=force)
    others = rows.X if rows.gallery is None else rows.gallery
    mean, n_axes = mean_of(others), max(1, rows.X.shape[1] // 2)
    directions, from_text = _directions(text, rows, n_axes)
    fitted = ClassPosterior.fit(rows.X, codes, mean)
    return PosteriorMap(
        offset=mean.astype(np.float32),
        weights=fitted.weights.astype(np.float32),
        bias=fitted.bias.astype(np.float32),
        directions=text_axes(directions, others, mean, n_axes).astype(np.float32),
        encoder=rows.made_by[0],
        encoder_fingerprint=rows.made_by[1],
        recipe={
            **_seen(rows, from_text),
            "labels": replace(rows.labels, known=known).to_dict(),
            "temperature": fitted.temperature,
            "classes": names.tolist(),
        },
    )


def fit_words(
    text: Encoder | Floats,
    *,
    values: AnchorSet,
    field: str,
    base: Projection,
    images: Images,
    weight: float = 0.5,
    chosen_on: LabelFit | None = None,
) -> Projection:
    """Fit axes between the names of a field's values, beside the directions of a projection.

    It sees no label, only the names. Each field needs a map of its own: axes of one field harm
    others.

    Parameters
    ----------
    text : Encoder or ndarray of shape (n_values, d)
        What embeds the prompts of the values, or their embeddings in that order.
    values : AnchorSet
        The names of the values, and the template of their prompts.
    field : str
    base : Projection
        PCA←, whose directions come first.
    images : Images
        Of the collection: their mean is subtracted, and both blocks are scaled by their lengths.
    weight : float
        Length of the axes of the field, that of the directions being 1.
    chosen_on : LabelFit, optional
        The labels that `weight` was chosen on: rows that never judge the map.

    Raises
    ------
    InputError
        For texts of another number or length, a weight that is not above 0, values whose texts
        are all the same, or a projection that has seen labels.
    ManifestMismatchError
        If texts, projection and images are not of one model.
    """
    from intramodal.projection.classes import mean_of
    from intramodal.projection.label_map import text_axes, weighted_blocks

    made_by = images.made_by
    if isinstance(text, Encoder) and not encoders_agree((text.name, text.fingerprint), made_by):
        raise ManifestMismatchError(
            f"the texts are of {text.name}, the vectors were made by {made_by[0]}; embed the "
            f"values with that model"
        )
    T = values.embed(text) if isinstance(text, Encoder) else text
    axes = _value_axes(T, values, images.X.shape[1])
    if not weight > 0:
        raise InputError(f"the weight of the field's axes is above 0, got {weight}")
    check_text_directions(base, made_by)
    mean, n_kept = mean_of(images.X), images.X.shape[1] - axes.shape[1]
    directions = text_axes(base.matrix, images.X, mean, min(n_kept, base.dim_out))
    matrix = weighted_blocks(images.X, mean, [directions, axes], (1.0, weight**2))
    seen = {} if chosen_on is None else {"labels": chosen_on.to_dict()}
    return Projection(
        matrix=matrix.astype(np.float32),
        method="words",
        encoder=made_by[0],
        encoder_fingerprint=made_by[1],
        offset=mean.astype(np.float32),
        recipe={
            **seen,
            "words": {"field": field, "values": list(values.names), "weight": weight},
            "text": {"from": "projection", "fingerprint": base.fingerprint},
            "data": dict(images.facts),
            **libraries(),
        },
        text_mean=base.text_mean,
    )


def _value_axes(T: NDArray[Any], values: AnchorSet, d: int) -> NDArray[np.float64]:
    """Return orthonormal axes (d, k) between the texts of values, at most values less one."""
    from intramodal.projection.directions import right_singular
    from intramodal.projection.text_pca import unit_texts

    if np.shape(T) != (len(values), d):
        raise InputError(
            f"{len(values)} values need as many texts of {d} dimensions, got an array of shape "
            f"{np.shape(T)}; embed the prompts of these values, in this order"
        )
    texts = unit_texts(np.asarray(T))
    _, axes = right_singular(texts - texts.mean(axis=0))
    if not len(axes):
        raise InputError("all values have the same text; give names that differ")
    return np.asarray(axes[: len(values) - 1].T)


def _check_classes(labels: LabelFit, *, force: bool) -> None:
    if len(labels.counts) < 2:
        raise InputError(
            f"posterior codes need two classes, got {len(labels.counts)}; choose a field with at "
            f"least two values"
        )
    name, least = min(labels.counts.items(), key=lambda item: item[1])
    if least < FEW_ROWS and not force:
        raise InputError(
            f"class {name!r} of {labels.field!r} has {least} of the labelled images, and "
            f"posterior codes punish classes of fewer than {FEW_ROWS}; label more, fit a "
            f"label map, or give `force`"
        )


def _directions(
    text: Projection | Floats | None, rows: LabelledRows, most: int
) -> tuple[NDArray[Any] | None, Mapping[str, Any]]:
    """Return directions of texts (d, at most `most`), None for the images' own, and from what."""
    d = rows.X.shape[1]
    if text is None:
        return None, {"from": "images"}
    if not isinstance(text, Projection):
        from intramodal.projection.text_pca import TextPCA

        _check_texts(text, d, rows.made_by[0])
        rank = TextPCA(1).fit(text).rank_
        return TextPCA(min(most, rank)).fit(text).components_.T, {"from": "texts", "n": len(text)}
    check_text_directions(text, rows.made_by)
    return text.matrix[:, :most], {"from": "projection", "fingerprint": text.fingerprint}


def _check_texts(text: Floats, dim_in: int, model: str) -> None:
    if text.ndim != 2 or text.shape[1] != dim_in:
        raise InputError(
            f"the texts have shape {text.shape}, the images {dim_in} dimensions; embed them with "
            f"{model or 'the same model'}"
        )


def check_text_directions(text: Projection, made_by: tuple[str, str]) -> None:
    """Raise unless the directions of a projection are those of texts alone, of the same model.

    `InputError` for one that has seen labels, or that keeps all directions,
    `ManifestMismatchError` for another model's.
    """
    if text.method == CENTERED:
        raise InputError(
            f"{text.place or repr(text)} keeps all directions, and none of texts; give a "
            f"projection of texts"
        )
    if text.labels is not None:
        raise InputError(
            f"{text.place or repr(text)} has seen labels itself, and its text axes are mixed with "
            f"those; give the projection it was made with, or one of texts alone"
        )
    if not encoders_agree((text.encoder, text.encoder_fingerprint), made_by):
        raise ManifestMismatchError(
            f"the projection was fitted for {text.encoder} ({text.encoder_fingerprint[:12]}), the "
            f"vectors were made by {made_by[0]} ({made_by[1][:12]}); fit one for this model"
        )


def _seen(rows: LabelledRows, from_text: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parts of a recipe that say what a map has seen."""
    return {
        "labels": rows.labels.to_dict(),
        "text": dict(from_text),
        "n_others": 0 if rows.gallery is None else len(rows.gallery),
        "data": dict(rows.facts),
        **libraries(),
    }


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
    warn_of_custom_name(made_by)
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
