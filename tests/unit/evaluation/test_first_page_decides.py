"""A map that saw labels may gain in mAP and lose where people look: it is not adopted."""

from __future__ import annotations

import numpy as np
import pytest

from intramodal.evaluation.compare import compare
from intramodal.evaluation.gate import ADOPTED
from intramodal.types import Floats, VectorTable, unit_rows

K, N_GROUPS, SIZE, D = 4, 40, 12, 64


def apart(rng: np.random.Generator, centres: Floats, noise: float) -> Floats:
    """Return unit rows about centres of unit length."""
    spread = noise * unit_rows(rng.normal(size=centres.shape).astype(np.float32))
    return unit_rows((centres + spread).astype(np.float32))


@pytest.fixture(scope="module")
def table() -> VectorTable:
    """Groups of one class: A finds the group and knows no class, B the class and no group."""
    rng = np.random.default_rng(0)
    group = np.arange(N_GROUPS * SIZE) // SIZE
    kind = group % K
    of_group, of_kind = (
        unit_rows(rng.normal(size=(n, D)).astype(np.float32)) for n in (N_GROUPS, K)
    )
    vectors = {
        "raw": apart(rng, of_group[group], 0.7),
        "label_kind": apart(rng, of_kind[kind], 2.5),
    }
    return VectorTable(list(range(len(group))), vectors, {"kind": [f"k{k}" for k in kind]})


@pytest.mark.parametrize("tasks", [("retrieval",), ("retrieval", "fewshot")])
def test_a_gain_in_map_does_not_outweigh_a_lost_first_page(
    table: VectorTable, tasks: tuple[str, ...]
) -> None:
    found = compare(table, "raw", "label_kind", fields=["kind"], tasks=tasks)
    figures = found.to_dict()["fields"]["kind"]
    assert figures["pieces"]["map"]["delta"] > 0.1
    assert figures["first_page"]["precision@10"]["delta"] < -0.05
    assert figures["pieces"]["first"]["certain_loss"]
    assert figures["verdict"] == "mixed"
    assert figures["verdict"] not in ADOPTED
    assert found.decision.to_dict()["use"]["raw"] == ["kind"]
    assert "first page" in figures["brief"] or "nDCG@10" in figures["brief"]
    # Where the whole ranking alone is asked for, as mAP is, it would have been adopted.
    assert figures["pieces"]["map"]["interval"][0] > 0
