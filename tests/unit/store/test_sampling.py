from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from qdrant_client.local.siphash import point_id_slice

from intramodal.store.base import Page, Slice
from intramodal.store.samples import draw_from_slices, draw_ids
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


PLACES = {point: point_id_slice(point, 1 << 31) for point in IDS}


class Sliced:
    """Points that are read slice by slice, as from a server, and how many were."""

    def __init__(self, ids: list[PointId]) -> None:
        self.ids = ids
        self.n_read = 0

    def __call__(self, part: Slice) -> list[Page]:
        found = [i for i in self.ids if PLACES[i] % part.total == part.index]
        self.n_read += len(found)
        return pages(found)


def sliced(ids: list[PointId], n: int, *, seed: int = 0, n_about: int | None = None) -> set[Any]:
    read = Sliced(ids)
    drawn, n_there, is_about = draw_from_slices(
        read, n, n_about=len(ids) if n_about is None else n_about, seed=seed
    )
    assert drawn == sorted(set(drawn), key=str)
    assert len(drawn) == min(n, len(ids))
    assert is_about or n_there == len(ids)
    return set(drawn)


@pytest.mark.parametrize("n_about", [1, 100, 600, 20_000, 10**12])
@pytest.mark.parametrize("n", [1, 20, 60, 75, 80, 300, 600, 700])
def test_a_sample_from_slices_does_not_depend_on_the_estimate(n: int, n_about: int) -> None:
    for seed in range(3):
        drawn = sliced(IDS, n, seed=seed)
        assert sliced(IDS[::-1], n, seed=seed, n_about=n_about) == drawn


def test_a_larger_sample_from_slices_holds_the_smaller_one_at_every_size() -> None:
    smaller: set[Any] = set()
    for n in range(1, len(IDS) + 1):
        larger = sliced(IDS, n, seed=5)
        assert smaller < larger
        smaller = larger


def test_growth_replaces_few_of_a_sample_from_slices() -> None:
    half = sliced(IDS[:500], 40)
    new = sliced(IDS[:550], 40) - half
    assert len(new) < 12
    assert new <= set(IDS[500:550])


@pytest.mark.parametrize("n_drawn", [5, 50, 150])
def test_every_point_is_drawn_equally_often_from_slices(n_drawn: int) -> None:
    n_draws = 400
    times = np.zeros(len(IDS))
    place = {point: row for row, point in enumerate(IDS)}
    for seed in range(n_draws):
        times[[place[i] for i in sliced(IDS, n_drawn, seed=seed)]] += 1
    share = n_drawn / len(IDS)
    deviations = (times - n_draws * share) / np.sqrt(n_draws * share * (1 - share))
    assert abs((deviations**2).mean() - 1) < 6 * np.sqrt(2 / len(IDS))  # chi-square, 6 sigma


def test_two_seeds_share_few_points_even_within_the_same_slice() -> None:
    samples = [sliced(IDS, 30, seed=seed) for seed in range(40)]
    shared = [len(a & b) for a, b in itertools.combinations(samples, 2)]
    assert max(shared) < 20  # of 30; those of slices without a second hash are the same by fours
    assert np.mean(shared) < 3  # 30 * 30 / 600 is 1.5


def test_slices_read_few_ids_and_a_large_sample_is_that_of_all_pages() -> None:
    read = Sliced(IDS)
    _, n_there, is_about = draw_from_slices(read, 20, n_about=len(IDS))
    assert is_about
    assert abs(n_there / len(IDS) - 1) < 4 / np.sqrt(8 * 20)  # 4 sigma, of one seed
    assert read.n_read < 16 * 20 * 1.2
    assert sliced(IDS, 120, seed=3) == set(draw_ids(pages(IDS), 120, seed=3)[0])
