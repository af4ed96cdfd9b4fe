from __future__ import annotations

import json
import math
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from intramodal.errors import InputError, MismatchError, SourceError
from intramodal.ingest.payload import json_payload
from intramodal.ingest.vectors.ready import Block, ReadyVectors, open_ready, point_of, row_key
from intramodal.types import point_id

D = 4
UUID = "0F8FAD5B-d9cb-469f-a165-70867728950e"


def save(folder: Path, n: int) -> Path:
    np.save(folder / "x.npy", np.arange(n * D, dtype=np.float32).reshape(n, D) + 1)
    return folder / "x.npy"


def csv_table(folder: Path, ids: Sequence[Any], name: str = "meta.csv") -> Path:
    lines = [f"{value},{n},shade {n % 3}" for n, value in enumerate(ids)]
    (folder / name).write_text("\n".join(["id,price,colour", *lines]) + "\n")
    return folder / name


def opened(folder: Path, ids: Sequence[Any], **options: Any) -> ReadyVectors:
    table = csv_table(folder, ids)
    return open_ready(save(folder, len(ids)), dataset="shop", table=table, **options)


def whole(ready: ReadyVectors, size: int = 1000) -> Block:
    (block,) = ready.blocks(size)
    return block


def test_whole_numbers_and_uuids_are_ids_and_other_text_becomes_a_uuid_that_stays_known(
    tmp_path: Path,
) -> None:
    block = whole(opened(tmp_path, ["17", UUID, "cats/1.jpg", "007", str(2**64), "-1"]))
    assert block.points[:2] == [17, UUID.lower()]
    texts = ["cats/1.jpg", "007", str(2**64), "-1"]
    assert block.points[2:] == [point_id("shop", text) for text in texts]
    assert [payload.get("id") for payload in block.payloads] == [None, None, *texts]
    assert block.payloads[0] == {"price": "0", "colour": "shade 0"}


def test_ids_of_typed_tables_are_the_same(tmp_path: Path) -> None:
    rows: list[Any] = [17, "17x", True, 1.5, None, -3, math.nan, 18.0, 1e300]
    lines = [json.dumps({"id": row, "n": 1.5}) for row in rows]
    (tmp_path / "meta.jsonl").write_text("\n".join([*lines, "no JSON"]))
    path = save(tmp_path, len(rows) + 1)
    block = whole(open_ready(path, dataset="shop", table=tmp_path / "meta.jsonl"))
    assert [block.points[row] for row in (0, 1, 5, 7)] == [
        17, point_id("shop", "17x"), point_id("shop", "-3"), 18
    ]  # fmt: skip
    assert block.payloads[5] == {"id": -3, "n": 1.5}
    assert sorted(block.problems) == [2, 3, 4, 6, 8, 9]
    assert "has no id" in block.problems[4]
    assert "has no id" in block.problems[6]
    assert "may be rounded" in block.problems[8]
    assert "not JSON" in block.problems[9]
    assert block.names[9] == "row 10"


SPELLINGS = [
    UUID,
    UUID.lower(),
    UUID.replace("-", ""),
    f"urn:uuid:{UUID}",
    "{" + UUID + "}",
]


def typed(values: list[Any]) -> Any:
    """Return an array; whole numbers beyond 63 bits are found only where they are asked for."""
    import pyarrow as pa

    def kind(value: Any) -> Any:
        if isinstance(value, dict):
            return pa.struct([(name, kind(inner)) for name, inner in value.items()])
        return pa.list_(kind(value[0])) if isinstance(value, list) else pa.uint64()

    return pa.array(values, kind(values[0]) if str(2**64 - 1) in repr(values) else None)


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write a table of the kind that its suffix names."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if path.suffix == ".jsonl":
        path.write_text("\n".join(map(json.dumps, rows)))
    elif path.suffix == ".parquet":
        arrays = {name: typed([row[name] for row in rows]) for name in rows[0]}
        pq.write_table(pa.table(arrays), path)
    else:
        sep = "\t" if path.suffix == ".tsv" else ","
        lines = [sep.join(str(cell) for cell in row.values()) for row in rows]
        path.write_text("\n".join([sep.join(rows[0]), *lines]) + "\n")


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
@pytest.mark.parametrize(
    ("spelled", "point"),
    [*((text, UUID.lower()) for text in SPELLINGS), ("1" * 32, str(uuid.UUID("1" * 32))),
     (17, 17), (17.0, 17), ("17.0", 17), (2**53 - 1, 2**53 - 1), (float(2**50), 2**50)],
)  # fmt: skip
def test_two_spellings_of_an_id_are_one_point_in_every_format(
    tmp_path: Path, suffix: str, spelled: Any, point: Any
) -> None:
    """Issue 20, F03."""
    table = tmp_path / f"meta{suffix}"
    write_rows(table, [{"id": spelled, "price": 1}])
    assert whole(open_ready(save(tmp_path, 1), dataset="shop", table=table)).points == [point]


@pytest.mark.parametrize("other", SPELLINGS[1:])
def test_two_spellings_of_an_id_in_one_table_are_refused(tmp_path: Path, other: str) -> None:
    with pytest.raises(InputError, match="ids occur twice"):
        opened(tmp_path, [UUID, other])


@pytest.mark.parametrize(
    "text", ["0017.0", "1e3", "17.5", "17.", ".0", "{17}", UUID + "0", "g" * 32]
)
def test_what_only_looks_like_a_number_or_a_uuid_stays_text(text: str) -> None:
    assert row_key(text) == text
    assert point_of(text, "shop") == point_id("shop", text)


MOMENT = datetime(2024, 5, 6, 7, 8, 9, 123456, tzinfo=UTC)
KINDS: dict[str, tuple[Any, Any]] = {
    "date": (MOMENT.date(), "2024-05-06"),
    "moment": (MOMENT, "2024-05-06T07:08:09.123456+00:00"),
    "clock": (MOMENT.time(), "07:08:09.123456"),
    "nan": (math.nan, None),
    "infinity": (-math.inf, None),
    "whole decimal": (Decimal("17"), 17),
    "decimal": (Decimal("17.25"), 17.25),
    "large": (2**64 - 1, str(2**64 - 1)),
    "largest": (2**63 - 1, 2**63 - 1),
    "small": (-(2**63), -(2**63)),
}
DEPTHS: dict[str, Any] = {
    "cell": lambda value: value,
    "list": lambda value: [value],
    "struct": lambda value: {"in": value},
    "list of structs": lambda value: [{"in": [value]}],
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("depth", DEPTHS)
def test_values_that_json_lacks_are_converted_alike_at_any_depth(
    tmp_path: Path, kind: str, depth: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Issue 20, F04 to F06."""
    given, expected = map(DEPTHS[depth], KINDS[kind])
    path = tmp_path / "meta.parquet"
    write_rows(path, [{"id": n, "column": given, "n": n} for n in range(3)])
    block = whole(open_ready(save(tmp_path, 3), dataset="shop", table=path))
    assert block.payloads == [{"column": expected, "n": n} for n in range(3)]
    assert not block.problems
    assert not block.left_out
    named = [record.getMessage() for record in caplog.records if "column" in record.getMessage()]
    assert len(named) == (kind in ("large", "infinity")), "one note for all rows"
    assert all("'column'" in message for message in named)
    if kind not in ("date", "moment", "clock", "decimal", "whole decimal"):
        path = tmp_path / "meta.jsonl"
        write_rows(path, [{"id": n, "column": given, "n": n} for n in range(3)])
        ready = open_ready(save(tmp_path, 3), dataset="shop", table=path)
        assert whole(ready).payloads == block.payloads


@pytest.mark.parametrize("depth", DEPTHS)
def test_nanoseconds_are_cut_off_whether_pandas_is_there_or_not(
    tmp_path: Path, depth: str
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {
        "cell": lambda kind: kind,
        "list": pa.list_,
        "struct": lambda kind: pa.struct([("in", kind)]),
        "list of structs": lambda kind: pa.list_(pa.struct([("in", pa.list_(kind))])),
    }
    column = pa.array([DEPTHS[depth](1_700_000_000_123_456_789)], kinds[depth](pa.int64()))
    typed = column.cast(kinds[depth](pa.timestamp("ns")))
    pq.write_table(pa.table({"id": [7], "at": typed}), tmp_path / "meta.parquet")
    block = whole(open_ready(save(tmp_path, 1), dataset="s", table=tmp_path / "meta.parquet"))
    assert block.payloads == [{"at": DEPTHS[depth]("2023-11-14T22:13:20.123456")}]


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize(
    ("value", "what"), [(timedelta(seconds=3), "durations"), (b"abc", "bytes")]
)
def test_a_column_that_json_lacks_is_refused_by_name_before_the_load(
    tmp_path: Path, depth: str, value: Any, what: str
) -> None:
    path = tmp_path / "meta.parquet"
    write_rows(path, [{"id": 1, "took": DEPTHS[depth](value)}])
    with pytest.raises(SourceError, match=f"column 'took' of .* holds {what}.*leave it out"):
        open_ready(save(tmp_path, 1), dataset="shop", table=path)


@pytest.mark.parametrize("bad", ["\ud800", "x" * 2**20, [[[[]]]] * 1])
def test_a_column_that_cannot_be_stored_costs_neither_the_row_nor_other_columns(
    tmp_path: Path, bad: Any
) -> None:
    for _ in range(40 if isinstance(bad, list) else 0):
        bad = [bad]
    path = tmp_path / "meta.jsonl"
    write_rows(path, [{"id": 1, "good": 2, "bad": bad}])
    block = whole(open_ready(save(tmp_path, 1), dataset="shop", table=path))
    assert block.payloads == [{"good": 2}]
    assert not block.problems
    assert "column 'bad' is left out" in block.left_out[0]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("name", ["__index_level_0__", "__index_level_1__", "Unnamed: 0"])
def test_index_columns_of_data_frames_are_left_out_unless_they_are_the_ids(
    tmp_path: Path, suffix: str, name: str
) -> None:
    """Issue 20, F25."""
    table = tmp_path / f"meta{suffix}"
    write_rows(table, [{name: 5, "id": 7, "colour": "red"}])
    path = save(tmp_path, 1)
    block = whole(open_ready(path, dataset="shop", table=table))
    assert (block.points, block.payloads) == ([7], [{"colour": "red"}])
    assert whole(open_ready(path, dataset="s", table=table, id_column=name)).points == [5]


def test_without_metadata_the_row_number_is_the_id(tmp_path: Path) -> None:
    ready = open_ready(save(tmp_path, 5), dataset="shop")
    blocks = list(ready.blocks(2))
    assert [point for block in blocks for point in block.points] == [0, 1, 2, 3, 4]
    assert blocks[2].payloads == [{}]
    assert ready.id_column is None


def test_rows_keep_to_their_vectors_in_blocks_of_any_size(tmp_path: Path) -> None:
    ready = opened(tmp_path, range(100, 110))
    for size in (1, 3, 10, 1000):
        for start, block in enumerate(ready.blocks(size)):
            first = start * size
            np.testing.assert_array_equal(
                block.X[:, 0], np.arange(first, first + len(block.X)) * D + 1
            )
            assert block.points == list(range(100 + first, 100 + first + len(block.X)))
            assert block.payloads[0]["price"] == str(first)


def test_a_parquet_file_brings_ids_and_payload_of_its_own(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {"embedding": [[1.0, 2.0], [3.0, 4.0]], "label": [3, None], "id": ["a", "b"]}
    pq.write_table(pa.table(columns), tmp_path / "x.parquet")
    ready = open_ready(tmp_path / "x.parquet", dataset="shop")
    block = whole(ready)
    assert block.points == [point_id("shop", "a"), point_id("shop", "b")]
    assert block.payloads[0] == {"label": 3, "id": "a"}
    np.testing.assert_array_equal(block.X, [[1, 2], [3, 4]])
    named = open_ready(tmp_path / "x.parquet", dataset="shop", id_column="label")
    assert whole(named).points[0] == 3
    for left_out, known in ((["id"], {"label": 3}), (["id", "label"], {})):
        rest = {name: column for name, column in columns.items() if name not in left_out}
        pq.write_table(pa.table(rest), tmp_path / "y.parquet")
        block = whole(open_ready(tmp_path / "y.parquet", dataset="shop"))
        assert block.points == [0, 1]
        assert block.payloads[0] == known


def test_the_data_set_is_in_the_payload_only_when_asked_for(tmp_path: Path) -> None:
    ready = open_ready(save(tmp_path, 1), dataset="shop", is_told=True)
    assert whole(ready).payloads == [{"dataset": "shop"}]


def test_a_column_called_dataset_is_the_users(tmp_path: Path) -> None:
    (tmp_path / "meta.tsv").write_text("sku\tdataset\na\tspring\n")
    ready = open_ready(
        save(tmp_path, 1),
        dataset="shop",
        is_told=True,
        table=tmp_path / "meta.tsv",
        id_column="sku",
    )
    assert whole(ready).payloads == [{"sku": "a", "dataset": "spring"}]


@pytest.mark.parametrize("n_ids", [4, 6])
def test_metadata_of_another_length_is_refused(tmp_path: Path, n_ids: int) -> None:
    table = csv_table(tmp_path, range(n_ids))
    with pytest.raises(MismatchError, match=rf"has {n_ids} rows and .* 5 vectors"):
        open_ready(save(tmp_path, 5), dataset="shop", table=table)


def test_ids_that_occur_twice_are_refused_with_the_first_examples(tmp_path: Path) -> None:
    ids = ["a", "7", "b", UUID, "a", "c", "a", "7", UUID.lower(), "b"]
    with pytest.raises(InputError) as refused:
        opened(tmp_path, ids)
    said = str(refused.value)
    assert "'a' in rows 1 and 5, 'a' in rows 1 and 7, 7 in rows 2 and 8" in said
    assert "'b'" not in said


def test_columns_and_tables_that_are_not_there_are_named(tmp_path: Path) -> None:
    path, table = save(tmp_path, 2), csv_table(tmp_path, [1, 2])
    with pytest.raises(SourceError, match=r"no column 'sku' \(it has 'id', 'price', 'colour'\)"):
        open_ready(path, dataset="shop", table=table, id_column="sku")
    with pytest.raises(SourceError, match=r"cannot be read \(No such file"):
        open_ready(path, dataset="shop", table=tmp_path / "no.csv")
    with pytest.raises(SourceError, match="is no table"):
        open_ready(path, dataset="shop", table=path)
    with pytest.raises(InputError, match="no slash"):
        open_ready(path, dataset="a/b", table=table)


def test_a_table_that_shrinks_meanwhile_ends_the_load(tmp_path: Path) -> None:
    ready = opened(tmp_path, range(9))
    csv_table(tmp_path, range(8))
    with pytest.raises(SourceError, match="shorter while it was read"):
        list(ready.blocks(4))


def test_uuids_in_forms_that_qdrant_does_not_read_are_text() -> None:
    bare = uuid.UUID(UUID).hex
    for text in (f"{{{bare}}}", f"urn:uuid:{bare}", f"uuid:{UUID}", UUID.replace("-", "", 1)):
        assert point_of(row_key(text), "shop") == point_id("shop", text)


@pytest.mark.parametrize(
    "payload",
    [
        {"a": 1, "b": "x", "c": None, "d": 0.5, "e": True},
        {"a": "é" * 5000, "b": [1, {"c": "ü"}]},
        {"é": 2**63 - 1, "f": -(2**63)},
        {str(n): n for n in range(300)},
    ],
)
def test_payload_is_what_json_gives_back(payload: dict[str, Any]) -> None:
    assert json_payload(payload) == json.loads(json.dumps(payload))


@pytest.mark.parametrize(
    "payload",
    [
        {"a": "\ud800"},
        {"\ud800": 1},
        {"a": {1, 2}},
        {"a": "x" * 2**20},
        {str(n): "x" * 4095 for n in range(300)},
    ],
    ids=range(5),
)
def test_payload_that_no_store_can_hold_is_refused(payload: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="the payload"):
        json_payload(payload)


@pytest.mark.parametrize(("text", "point"), [("1.000000000000000000e+03", 1000), ("1.5E1", 15)])
def test_a_whole_float_as_numpy_and_spreadsheets_write_it_is_a_whole_number(
    tmp_path: Path, text: str, point: int
) -> None:
    """Issue 20, F03."""
    assert whole(opened(tmp_path, [text])).points == [point]


def test_an_id_that_a_spreadsheet_has_rounded_is_refused_and_a_code_is_text(
    tmp_path: Path,
) -> None:
    block = whole(opened(tmp_path, ["1.23E+12", "1e3", "1.5e0"]))
    assert sorted(block.problems) == [0, 2]
    assert "may be rounded" in block.problems[0]
    assert block.points[1] == point_id("shop", "1e3")


def test_dates_that_python_has_not_are_missing_at_any_depth_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Issue 20, F04: they ended the load in its midst, and named no column."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    far, when = 2**40, pa.timestamp("s")
    columns = {
        "a": pa.array([far, 0], when),
        "deep": pa.array([{"x": [far, None]}, {"x": [0]}], pa.struct([("x", pa.list_(when))])),
        "vector": [[1.0] * D, [2.0] * D],
    }
    pq.write_table(pa.table(columns), tmp_path / "x.parquet")
    block = whole(open_ready(tmp_path / "x.parquet", dataset="shop"))
    assert [row.get("a") for row in block.payloads] == [None, "1970-01-01T00:00:00"]
    assert [row["deep"] for row in block.payloads] == [
        {"x": [None, None]},
        {"x": ["1970-01-01T00:00:00"]},
    ]
    assert "column 'a' holds dates" in caplog.text
    assert "column 'deep' holds dates" in caplog.text


def test_values_of_a_column_without_a_name_are_not_dropped(tmp_path: Path) -> None:
    """The first one is the index of a data frame, and empty ones are a comma too many."""
    path = save(tmp_path, 2)
    table = tmp_path / "meta.csv"
    table.write_text(",id,kind,\n0,7,a,\n1,8,b,lost\n")
    with pytest.raises(SourceError, match=r"column 4 of .* has values \(line 3\) and no name"):
        open_ready(path, dataset="shop", table=table)
    table.write_text(",id,kind,\n0,7,a,\n1,8,b,\n")
    payloads = whole(open_ready(path, dataset="shop", table=table)).payloads
    assert payloads == [{"kind": "a"}, {"kind": "b"}]


@pytest.mark.parametrize(
    ("name", "text", "what"),
    [("m.csv.gz", "", "it is gzip; unpack it first"), ("m.xlsx", "", "it is a spreadsheet"),
     ("m.csv", '"sep=;"\nid;kind\n7;a\n', "begins with Excel's line"),
     ("m.jsonl", '{"id": 7, "a": 1, "a": 2}\n', "line 1 of .* has the key 'a' twice"),
     ("m.jsonl", '{\n "id": 7\n}\n', "line 1 of .* write one object a line")],
)  # fmt: skip
def test_a_table_that_cannot_be_read_says_why(
    tmp_path: Path, name: str, text: str, what: str
) -> None:
    """Issue 20, F20 and F08: the first line with a repeated key was "no column 'id'"."""
    (tmp_path / name).write_text(text)
    with pytest.raises(SourceError, match=what):
        open_ready(save(tmp_path, 1), dataset="shop", table=tmp_path / name)
