"""The paper's text and its published code fit PCA← in four ways; each has a name here.

Facts of github.com/Vision-Kek/Is-CLIP-Really-Misaligned (folder ``cvpr26-suppl``), read there.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from intramodal.errors import InputError
from intramodal.projection.anchors import TEMPLATE, AnchorSet
from intramodal.types import short_repr


@short_repr
@dataclass(frozen=True)
class Recipe:
    """Which texts PCA← takes its directions from, and how.

    Half of the dimensions are kept in all of them.

    Parameters
    ----------
    name : str
        As options and files name it: ``"paper-text"``.
    names : {"cleaned", "wordnet"}
        Which of ImageNet's lists of class names; see `AnchorSet.imagenet`.
    template : str or tuple of str
        Prompt of a name, or several: its text then is the mean of the unit texts.
    unit : bool
        Whether texts are scaled to unit length before the directions are taken.
    centred : bool
        Whether the directions are those of the texts' covariance, or of the texts as they are.
    vector : str
        What the name of its vector ends in, so that each can stand beside the others.
    used_for : str
        What its authors used it for.

    Examples
    --------
    >>> RECIPES["paper-table3"].anchors().prompts()[:2]
    ['tench', 'goldfish']
    """

    name: str
    names: Literal["cleaned", "wordnet"]
    template: str | tuple[str, ...]
    unit: bool
    centred: bool
    vector: str
    used_for: str

    def anchors(self) -> AnchorSet:
        """Return its class names and templates."""
        names = AnchorSet.imagenet(self.names).names
        return AnchorSet(names, self.template, self.vector)


SEVEN_TEMPLATES = (
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
)
"""The subset of CLIP's 80 prompts that its authors chose for ImageNet."""

PAPER_TEXT = Recipe(
    "paper-text", "cleaned", TEMPLATE, True, True, "", "section 3.3 of the paper; the default"
)
# The published list of names, pytorch/hub's imagenet_classes.txt, is the one from WordNet.
_TABLE_3 = Recipe("paper-table3", "wordnet", "{}", False, True, "table3", "table 3: retrieval")
_README = Recipe(
    "paper-readme", "wordnet", "{}", True, False, "readme", "the example in its README"
)
_FEWSHOT = Recipe(
    "paper-fewshot", "cleaned", SEVEN_TEMPLATES, True, True, "fewshot", "table 2, figure 6"
)

RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {recipe.name: recipe for recipe in (PAPER_TEXT, _TABLE_3, _README, _FEWSHOT)}
)
"""By name."""


def recipe_named(name: str) -> Recipe:
    """Return a recipe by its name."""
    if name not in RECIPES:
        close = difflib.get_close_matches(name, RECIPES, n=1) or list(RECIPES)
        raise InputError(
            f"there is no recipe {name!r}; did you mean {' or '.join(close)}? There are "
            f"{', '.join(RECIPES)}"
        )
    return RECIPES[name]
