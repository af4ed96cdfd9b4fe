from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
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
    rows: list[Any] = [17, "17x", True, 1.5, None, -3]
    lines = [json.dumps({"id": row, "n": 1.5}) for row in rows]
    (tmp_path / "meta.jsonl").write_text("\n".join([*lines, "no JSON"]))
    path = save(tmp_path, len(rows) + 1)
    block = whole(open_ready(path, dataset="shop", table=tmp_path / "meta.jsonl"))
    assert [block.points[row] for row in (0, 1, 5)] == [
        17, point_id("shop", "17x"), point_id("shop", "-3")
    ]  # fmt: skip
    assert block.payloads[5] == {"id": -3, "n": 1.5}
    assert sorted(block.problems) == [2, 3, 4, 6]
    assert "has no id" in block.problems[4]
    assert "not JSON" in block.problems[6]
    assert block.names[6] == "row 7"


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


def test_every_uuid_form_but_the_usual_one_is_text() -> None:
    given = uuid.UUID(UUID)
    for text in (given.hex, f"{{{given}}}", given.urn):
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
        {"a": float("nan")},
        {"a": float("-inf")},
        {"a": 2**63},
        {"a": "\ud800"},
        {"\ud800": 1},
        {"a": {1, 2}},
        {"a": "x" * 2**20},
        {str(n): "x" * 4095 for n in range(300)},
    ],
    ids=range(8),
)
def test_payload_that_no_store_can_hold_is_refused(payload: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="the payload"):
        json_payload(payload)
