"""Are a collection's vectors of the model that its owner says? Two means tell, for some models.

Pictures and texts of one CLIP lie at a certain angle; vectors of another model of the same size
stand about at right angles to its texts. One dot product of two means tells them apart, where the
angle has been measured. Kept energy does not: a wrong model looks like the right one there.
"""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from typing import Any, Literal

from intramodal.errors import InputError
from intramodal.projection.stored_map import StoredMap
from intramodal.store.collection import ImageCollection
from intramodal.store.default_vectors import own_vector
from intramodal.types import encoders_agree

log = logging.getLogger(__name__)

MOST_POINTS = 2000
"""Points that are read. Pictures of a set differ by 0.014: their mean is exact to 0.001."""


@dataclass(frozen=True)
class Family:
    """What was measured on a model, with the 1000 class names of ImageNet as texts.

    Parameters
    ----------
    models : frozenset of str
        Names without prefix of the hub and without revision.
    expected : tuple of float
        Lowest and highest mean image-text cosine on collections of the right model.
    least : float
        Below it the model is doubted.
    """

    models: frozenset[str]
    expected: tuple[float, float]
    least: float


# OpenAI's ViT-B/32: 0.199 (CIFAR-10), 0.180 (Flickr8k), 0.166 (product photos; 0.150 for the
# lowest of 37 article types, 0.125 for the lowest picture). Other models' vectors of 512
# dimensions: -0.02 to 0.003; axes rotated or permuted at random, 200 times a set: at most 0.09.
# No other model is here: of these no right and wrong pairs were at hand. With the demo's model the
# check says nothing (0.000 on its own pictures): its image tower is not trained with texts.
FAMILIES = (
    Family(
        models=frozenset(
            {
                "open_clip:ViT-B-32:openai",
                "open_clip:ViT-B-32-quickgelu:openai",
                "open_clip:hf-hub:timm/vit_base_patch32_clip_224.openai",
                "openai/clip-vit-base-patch32",
            }
        ),
        expected=(0.15, 0.2),
        least=0.1,
    ),
)

Verdict = Literal["agrees", "wrong model?", "not checked"]


@dataclass(frozen=True)
class ModelCheck:
    """The mean image-text cosine of a collection, and what it says about the model.

    Parameters
    ----------
    cosine : float or None
        Mean over all pairs of a picture and a class name; None if not measured.
    expected : tuple of float or None
        Range on collections of the right model.
    verdict : {"agrees", "wrong model?", "not checked"}
    says : str
        The same as a sentence; a warning if the verdict is "wrong model?".
    n_points : int
        Pictures it rests on.
    """

    cosine: float | None
    expected: tuple[float, float] | None
    verdict: Verdict
    says: str
    n_points: int = 0

    @property
    def is_doubtful(self) -> bool:
        """Whether a person should be warned."""
        return self.verdict == "wrong model?"

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)


def check_model(collection: ImageCollection, projection: StoredMap, source: str) -> ModelCheck:
    """Compare a collection's vectors with the texts that a projection was fitted on.

    Reads at most `MOST_POINTS` points, and none where nothing is known about the model.
    """
    said_by = collection.manifest.vectors.get(source)
    fitted_for = (projection.encoder, projection.encoder_fingerprint)
    if said_by and not encoders_agree(fitted_for, (said_by.encoder, said_by.encoder_fingerprint)):
        return _unchecked(f"the vectors are declared to be of {said_by.encoder}")
    family = family_of(projection.encoder)
    if family is None:
        return _unchecked(f"no mean image-text cosine was measured for {projection.encoder}")
    if projection.text_mean is None:
        return _unchecked("the projection holds no mean of texts")
    spec = collection.vectors.get(source)
    if spec is None or spec.size != projection.dim_in:
        return _unchecked(f"there is no vector {source!r} of {projection.dim_in} dimensions")
    try:
        mean, n = collection.center(source, most=MOST_POINTS)
    except InputError:
        return _unchecked(f"no point has a vector {source!r}")
    cosine = round(float(mean.astype(float) @ projection.text_mean.astype(float)), 4)
    return _judged(projection.encoder, family, cosine, n)


def warn_of_wrong_model(
    collection: ImageCollection, projection: StoredMap, source: str | None
) -> ModelCheck:
    """Return `check_model`, and log a warning at once if the model is doubtful."""
    found = check_model(collection, projection, own_vector(collection, source))
    if found.is_doubtful:
        log.warning("%s", found.says)
    return found


def _judged(model: str, family: Family, cosine: float, n: int) -> ModelCheck:
    low, high = family.expected
    measured = (
        f"the mean image-text cosine is {cosine:.3f}, and {low:.2f} to {high:.2f} was measured "
        f"with {model}"
    )
    if cosine >= family.least:
        return ModelCheck(cosine, family.expected, "agrees", measured, n)
    doubt = (
        f"{measured}: the vectors may come from another model; compare a few stored vectors with "
        f"fresh ones before relying on the result"
    )
    return ModelCheck(cosine, family.expected, "wrong model?", doubt, n)


def family_of(model: str) -> Family | None:
    """Return what was measured on a model, if anything."""
    name = model.partition("@")[0].removeprefix("hf:")
    return next((family for family in FAMILIES if name in family.models), None)


def _unchecked(reason: str) -> ModelCheck:
    return ModelCheck(None, None, "not checked", f"the model was not checked: {reason}")
