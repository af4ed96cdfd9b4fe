from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from intramodal.errors import InputError
from intramodal.fit_rows import MOST_IDS, N_WITNESSES, FitRows, LabelFit, witnesses
from intramodal.types import KeyedId


def test_a_share_is_drawn_by_the_documented_hash_of_the_id() -> None:
    for point in (7, "00000000-0000-0000-0000-000000000007", "tenant-a/7"):
        digest = hashlib.blake2b(
            str(point).encode(), digest_size=8, person=b"intramodal fit"
        ).digest()
        drawn = int.from_bytes(digest, "big") / 2**64
        assert FitRows(share=min(1.0, drawn + 1e-9)).holds(point)
        assert not FitRows(share=drawn - 1e-9).holds(point)


def test_the_hash_never_changes() -> None:
    held = [point for point in range(20) if FitRows(share=0.5).holds(point)]
    assert held == [0, 6, 8, 11, 13, 15, 18]


def test_a_larger_share_holds_the_smaller_one_and_is_as_large_as_it_says() -> None:
    small, large = (
        {point for point in range(20_000) if FitRows(share=share).holds(point)}
        for share in (0.2, 0.5)
    )
    assert small < large
    assert len(large) == pytest.approx(10_000, abs=5 * 71)  # 5 standard deviations


@pytest.mark.parametrize(
    "given",
    [{}, {"share": 0.5, "ids": (1,)}, {"share": 0.0}, {"share": 1.5}, {"ids": ()}],
)
def test_fit_rows_are_one_rule_that_can_be_kept(given: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="fit rows"):
        FitRows(**given)


def test_more_ids_than_a_manifest_carries_are_refused() -> None:
    with pytest.raises(InputError, match=r"20,001 ids of fit rows.*give a share"):
        FitRows(ids=tuple(range(MOST_IDS + 1)))


@pytest.mark.parametrize(
    "rows", [FitRows(share=0.25), FitRows(where=("split", ("train", 1))), FitRows(ids=(3, "a/4"))]
)
def test_what_a_map_has_seen_comes_back_from_json(rows: FitRows) -> None:
    labels = LabelFit("kind", rows, {"cat": 12, "dog": 3})
    assert LabelFit.from_dict(json.loads(json.dumps(labels.to_dict()))) == labels
    assert labels.n_rows == 15
    assert labels.warnings() == [
        "1 of 2 classes of 'kind' have fewer than 10 labelled images ('dog'): the map says "
        "little of them"
    ]


@pytest.mark.parametrize(
    "stored",
    [
        {},
        {"field": 1, "rows": {"share": 0.5}, "counts": {}},
        {"field": "a", "rows": {"share": "x"}, "counts": {}},
        {"field": "a", "rows": {"ids": "abc"}, "counts": {}},
        {"field": "a", "rows": {"where": ["b", [{}]]}, "counts": {}},
        {"field": "a", "rows": {"weird": 1}, "counts": {}},
        {"field": "a", "rows": {"share": 0.5}, "counts": {"x": "many"}},
    ],
)
def test_hostile_descriptions_are_no_label_fit(stored: dict[str, Any]) -> None:
    with pytest.raises((TypeError, LookupError, ValueError)):
        LabelFit.from_dict(stored)


def test_a_shard_key_in_the_name_of_a_point_changes_nothing() -> None:
    """A collection may be read with the keys of its shards, and without."""
    share = FitRows(share=0.5)
    for i in range(50):
        assert share.holds(KeyedId("tenant-a", i)) == share.holds(i)
    keyed, bare = KeyedId("tenant-a", 7), FitRows(ids=(7,))
    assert bare.holds(keyed)
    assert FitRows(ids=(keyed,)).holds(7)
    assert FitRows(ids=("tenant-a/7",)).holds(keyed)  # as a file keeps it
    assert not FitRows(ids=(keyed,)).holds(KeyedId("tenant-b", 7))
    assert not FitRows(ids=("cats/7.jpg",)).holds("7.jpg")


def test_witnesses_are_the_same_rows_every_time_and_survive_a_file() -> None:
    found = witnesses(range(1000))
    assert len(found) == N_WITNESSES
    assert found == witnesses(reversed(range(1000)))
    made = LabelFit("kind", FitRows(share=0.5), {"a": 3}, witnesses={"7": "ff00"})
    assert LabelFit.from_dict(made.to_dict()) == made
    with pytest.raises(ValueError, match="hexadecimal"):
        LabelFit.from_dict({**made.to_dict(), "witnesses": {"7": "no hexadecimal"}})
