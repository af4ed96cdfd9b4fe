from __future__ import annotations

import json
import pickle
import uuid

import numpy as np
import pytest

from intramodal.errors import InputError
from intramodal.types import (
    KeyedId,
    VectorTable,
    declared_fingerprint,
    encoders_agree,
    fingerprint,
    point_id,
    require_finite,
    unit_rows,
    unkeyed,
)


def test_point_ids_are_uuids_that_depend_on_data_set_and_path_only() -> None:
    first = point_id("pets", "cats/1.jpg")
    assert uuid.UUID(first).version == 5
    assert first == point_id("pets", "cats/1.jpg")
    assert len({first, point_id("pets", "cats/2.jpg"), point_id("zoo", "cats/1.jpg")}) == 3


NAMESPACE = uuid.UUID("5f2d7a0e-6c43-5d0b-9f5e-1d8b7a3c9e10")  # never changes: ids are stored


@pytest.mark.parametrize("dataset", ["pets", "", "тест/🦊"])
@pytest.mark.parametrize("key", ["1.jpg", "a/b/1.jpg", "é/ü.png", "", "\0\n", "x" * 5000])
def test_point_ids_are_the_ones_that_the_standard_library_makes(dataset: str, key: str) -> None:
    for n in ("", *range(20)):  # every variant digit
        expected = uuid.uuid5(NAMESPACE, f"{dataset}/{key}{n}")
        assert point_id(dataset, f"{key}{n}") == str(expected)


def test_a_name_that_is_no_unicode_has_no_id_as_in_the_standard_library() -> None:
    half = "\ud800.jpg"  # of a surrogate pair
    with pytest.raises(UnicodeEncodeError):
        uuid.uuid5(NAMESPACE, half)
    with pytest.raises(UnicodeEncodeError):
        point_id("pets", half)


def test_fingerprint_separates_blobs_that_only_differ_in_where_they_end() -> None:
    assert fingerprint({}, b"ab", b"c") != fingerprint({}, b"a", b"bc")


def test_fingerprint_ignores_the_order_of_keys_but_not_the_values() -> None:
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})


def test_unit_rows_have_length_one_and_zero_rows_stay_zero() -> None:
    X = unit_rows(np.array([[3.0, 4.0], [0.0, 0.0]]))
    assert X.dtype == np.float32
    np.testing.assert_allclose(X, [[0.6, 0.8], [0.0, 0.0]], atol=1e-7)  # float32 rounding


def test_unit_rows_survive_values_whose_squares_leave_float32() -> None:
    X = unit_rows(np.array([[1e30, 0.0], [1e-30, 0.0]]))
    np.testing.assert_allclose(X, [[1.0, 0.0], [1.0, 0.0]], atol=1e-6)  # float32 rounding


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("length", [1e-40, 1e-30, 1e-4, 1e4, 1e30, 1e38])
def test_rows_of_any_length_are_scaled(length: float, dtype: type) -> None:
    X = np.array([[3.0, 4.0]]) * length / 5
    # Subnormal float32 has lost digits before: 1e-40 is a few tens of thousands of its steps.
    atol = 1e-4 if length < 1e-37 and dtype is np.float32 else 1e-7
    np.testing.assert_allclose(unit_rows(X.astype(dtype)), [[0.6, 0.8]], atol=atol)


@pytest.mark.parametrize("length", [5e-324, 1e-200, 1e200, 1e308])
def test_rows_that_only_float64_holds_are_scaled(length: float) -> None:
    X = unit_rows(np.array([[length, 0.0], [0.0, 0.0], [np.inf, 1.0]]))
    np.testing.assert_allclose(X[:2], [[1.0, 0.0], [0.0, 0.0]], atol=1e-7)
    assert np.isnan(X[2]).any()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_row_that_is_not_finite_is_named(bad: float) -> None:
    X = np.ones((5, 3))
    require_finite(X, "the texts")
    X[3, 1] = bad
    with pytest.raises(
        InputError, match=r"row 3 of the texts \(counted from 0\) holds NaN or inf"
    ):
        require_finite(X, "the texts")


def test_loaded_encoders_agree_by_fingerprint_and_declared_ones_by_name() -> None:
    loaded = ("clip", "3f9a")
    assert encoders_agree(loaded, ("clip at another path", "3f9a"))
    assert not encoders_agree(loaded, ("clip", "77aa"))
    assert encoders_agree(loaded, ("clip", declared_fingerprint("clip")))
    assert not encoders_agree(loaded, ("siglip", declared_fingerprint("siglip")))


def test_taking_rows_of_a_table_keeps_vectors_and_payload_together() -> None:
    table = VectorTable(["a", "b", "c"], {"raw": np.eye(3, dtype=np.float32)}, {"l": [1, 2, 3]})
    taken = table.take(np.array([2, 0]))
    assert taken.ids == ["c", "a"]
    assert taken.payload == {"l": [3, 1]}
    np.testing.assert_array_equal(taken.vectors["raw"], np.eye(3, dtype=np.float32)[[2, 0]])


def test_the_name_of_a_point_tells_its_key_and_is_a_text_like_any_other() -> None:
    name = KeyedId("tenant-a", 7)
    assert (name.shard_key, name.point, str(name)) == ("tenant-a", 7, "tenant-a/7")
    assert type(str(name)) is str
    assert {name: 1}["tenant-a/7"] == 1
    assert json.dumps([name]) == '["tenant-a/7"]'
    kept = pickle.loads(pickle.dumps(name))
    assert (kept, kept.shard_key, kept.point) == (name, "tenant-a", 7)
    assert sorted([KeyedId("b", 1), KeyedId("a", 2)]) == ["a/2", "b/1"]
    assert (unkeyed(name), unkeyed(8), unkeyed("plain")) == (7, 8, "plain")


def test_no_two_keys_make_the_same_name() -> None:
    keys = [7, "7", '"7"', "a", "a/b", "", "07", "-7", "seven"]
    names = {KeyedId(key, point) for key in keys for point in (1, "b0b5e3d2")}
    assert len(names) == 2 * len(keys)
