from __future__ import annotations

import numpy as np

from intramodal.store.base import Page
from intramodal.store.collection import draw_ids
from intramodal.types import PointId, point_id

IDS: list[PointId] = [*range(300), *(point_id("pets", f"{i}.jpg") for i in range(300))]


def pages(ids: list[PointId], size: int = 100) -> list[Page]:
    return [Page(ids[i : i + size], {}, []) for i in range(0, len(ids), size)]


def test_a_sample_depends_on_the_seed_and_not_on_the_order() -> None:
    drawn, n_there = draw_ids(pages(IDS), 50, seed=1)
    assert (len(set(drawn)), n_there) == (50, 600)
    assert drawn == sorted(drawn, key=str)
    assert draw_ids(pages(IDS[::-1], size=7), 50, seed=1)[0] == drawn
    assert draw_ids(pages(IDS), 50, seed=-2)[0] != drawn


def test_a_larger_sample_holds_the_smaller_one_and_growth_replaces_few() -> None:
    half = set(draw_ids(pages(IDS[:300]), 100)[0])
    assert half < set(draw_ids(pages(IDS[:300]), 150)[0])
    after_growth = set(draw_ids(pages(IDS[:330]), 100)[0])
    new = after_growth - half
    assert len(new) < 30
    assert new <= set(IDS[300:330])


def test_every_point_is_drawn_equally_often() -> None:
    n_draws, n_drawn = 400, 150
    times = np.zeros(len(IDS))
    place = {point: row for row, point in enumerate(IDS)}
    for seed in range(n_draws):
        times[[place[i] for i in draw_ids(pages(IDS), n_drawn, seed=seed)[0]]] += 1
    share = n_drawn / len(IDS)
    deviations = (times - n_draws * share) / np.sqrt(n_draws * share * (1 - share))
    assert abs((deviations**2).mean() - 1) < 6 * np.sqrt(2 / len(IDS))  # chi-square, 6 sigma


def test_a_sample_of_more_than_there_is_is_everything() -> None:
    drawn, n_there = draw_ids(pages(IDS), 10_000)
    assert (sorted(drawn, key=str), n_there) == (sorted(IDS, key=str), 600)
