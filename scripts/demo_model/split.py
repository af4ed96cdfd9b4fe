"""Which emoji train the text tower, which choose its settings, and which are only shown."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from make_demo_pictures import Emoji, choose_shown

SEED = 7
SHARE_VALIDATION, MOST_IN_SUBGROUP = 0.3, 5

# OpenMoji is left out: its licence is share-alike, and the demo keeps one style never trained on.
TRAINED_VENDORS = ("noto", "twemoji", "fluent")


@dataclass(frozen=True)
class Split:
    """Three sets of emoji; a joined sequence is never on another side than its parts.

    Parameters
    ----------
    shown : list of Emoji
        In the demo's pictures; no picture and no name of them is used here.
    validation : list of Emoji
        Every setting was chosen on these.
    training : list of Emoji
        The rest.
    """

    shown: list[Emoji]
    validation: list[Emoji]
    training: list[Emoji]


def split(emoji: list[Emoji]) -> Split:
    """The fixed split; what shares a part with a shown emoji is dropped."""
    shown = choose_shown(emoji)
    rest = _apart(emoji, shown)
    validation = _drawn(rest)
    return Split(shown, validation, _apart(rest, validation))


def _apart(emoji: list[Emoji], others: list[Emoji]) -> list[Emoji]:
    taken = frozenset().union(*(one.parts for one in others))
    return [one for one in emoji if not one.parts & taken]


def _drawn(emoji: list[Emoji]) -> list[Emoji]:
    rng = np.random.default_rng(SEED)
    by_subgroup = defaultdict(list)
    for one in emoji:
        if len(one.parts) == 1:
            by_subgroup[one.subgroup].append(one)
    chosen: set[str] = set()
    for members in by_subgroup.values():
        n = min(MOST_IN_SUBGROUP, round(SHARE_VALIDATION * len(members)))
        chosen |= {members[i].code_point for i in rng.choice(len(members), n, replace=False)}
    return [one for one in emoji if one.code_point in chosen]
