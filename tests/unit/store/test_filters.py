"""Filters as a person writes them."""

from __future__ import annotations

import uuid
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from intramodal.errors import InputError
from intramodal.store.base import Filter
from intramodal.store.filters import parse_filter
from intramodal.store.open import open_store
from tests.contract.store_contract import NAME, PAYLOADS, RAW, N, X


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["all"], Filter()),
        (["label=cat"], Filter({"label": ["cat"]})),
        (["label=cat,dog"], Filter({"label": ["cat", "dog"]})),
        (["label=cat", "label=dog"], Filter({"label": ["cat", "dog"]})),
        (["label=cat", "n=-7"], Filter({"label": ["cat"], "n": ["-7", -7, -7.0]})),
        (["label= cat, dog "], Filter({"label": ["cat", "dog"]})),
        (["w=0.5"], Filter({"w": ["0.5", 0.5]})),
        (["is_new=true"], Filter({"is_new": ["true", True]})),
        (["note=a=b"], Filter({"note": ["a=b"]})),
        (["nested.text=nan"], Filter({"nested.text": ["nan"]})),
        (["id=7,8"], Filter(ids=[7, 8])),
        (
            ["id=6B1B0A3E-0F4C-4F8B-9B5C-0123456789AB"],
            Filter(ids=["6b1b0a3e-0f4c-4f8b-9b5c-0123456789ab"]),
        ),
        (["id=7", "label=cat"], Filter({"label": ["cat"]}, ids=[7])),
        (['shop="Smith, Sons"'], Filter({"shop": ["Smith, Sons"]})),
        (['shop=a, "b,c" ,d'], Filter({"shop": ["a", "b,c", "d"]})),
        (['shop=""'], Filter({"shop": [""]})),
        (['shop=" a "'], Filter({"shop": [" a "]})),
        (['size=5",6"'], Filter({"size": ['5"', '6"']})),
        (['size="open'], Filter({"size": ['"open']})),
        ([r'said="\"yes\", he said"'], Filter({"said": ['"yes", he said']})),
        (['"a=b, c"=d'], Filter({"a=b, c": ["d"]})),
        (["a,b=c"], Filter({"a,b": ["c"]})),
    ],
)
def test_what_is_written_is_meant(texts: list[str], expected: Filter) -> None:
    assert parse_filter(texts) == expected


@given(st.dictionaries(st.text(min_size=1), st.text(), min_size=1, max_size=1))
def test_any_text_can_be_written(wanted: dict[str, str]) -> None:
    """Issue 20, F14."""
    ((field, value),) = wanted.items()
    assume(field.strip() == field and field != "id" and not field.startswith('"'))
    text = str(Filter({field: value}))
    assume(text != "all")
    assert parse_filter([text]).equals[field][0] == value


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (parse_filter(["all"]), "all"),
        (parse_filter(["year=2012,2013.5", "is_new=true"]), "year=2012,2013.5 and is_new=true"),
        (parse_filter(["id=7,8", "label=cat"]), "label=cat and id=7,8"),
        (Filter({"year": np.array([2012.0]), "new": False}), "year=2012 and new=false"),
        (
            Filter({"tag": "a"}) & Filter({"tag": "b"}) & Filter(ids=[1]),
            "tag=a and tag=b and id=1",
        ),
        (Filter() & Filter({"tag": "b"}), "tag=b"),
        (Filter({"shop": ["Smith, Sons", "b"]}), 'shop="Smith, Sons",b'),
        (Filter({"a=b": " c"}), '"a=b"=" c"'),
        (Filter(has_vector="raw", lacks_vector="pca"), "has vector raw and lacks vector pca"),
    ],
)
def test_a_filter_is_shown_as_it_is_written(where: Filter, expected: str) -> None:
    assert str(where) == expected


@pytest.mark.parametrize("texts", [["cat"], ["=cat"], ["label="], ["all", "n=1"], ["id=x"]])
def test_what_cannot_be_meant_is_refused(texts: list[str]) -> None:
    with pytest.raises(InputError):
        parse_filter(texts)


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("label=a,b", lambda p: p["label"] in "ab"),
        ("n=7", lambda p: p["n"] == 7),
        ("weight=0.25,0.5", lambda p: p["weight"] in (0.25, 0.5)),
        ("weight=1", lambda p: p["weight"] == 1),  # 1.0 there
        ("is_even=true", lambda p: p["is_even"]),
        ("nested.text=ü€", lambda p: True),
    ],
)
def test_numbers_and_booleans_are_found_by_their_text(text: str, matches: Any) -> None:
    with open_store(":memory:") as store:
        store.create(NAME, RAW)
        store.upsert(NAME, list(range(N)), {"raw": X}, PAYLOADS)
        assert store.count(NAME, parse_filter([text])) == sum(map(matches, PAYLOADS))


def test_an_id_of_32_digits_is_a_uuid_without_hyphens() -> None:
    """Issue 20, F03: it was a whole number too large."""
    found = parse_filter([f"id={'1' * 32},7"])
    assert found.ids == [str(uuid.UUID("1" * 32)), 7]
