"""Ranking where the tensors are: the same figures as on the CPU by numba."""

from __future__ import annotations

import numpy as np
import pytest

from intramodal.errors import InputError
from intramodal.evaluation.ranking import Ties, rank
from intramodal.evaluation.retrieval import evaluate_retrieval
from intramodal.types import VectorTable
from tests.unit.evaluation.test_ranking import relevance

torch = pytest.importorskip("torch")

DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")),
]
# The same float32 products: float64 sums in another order on a CPU; other products on a GPU.
ATOL = {"cpu": 1e-12, "cuda": 1e-5}


def cases(rng: np.random.Generator, n: int, step: float) -> tuple[np.ndarray, object]:
    """Return rows whose products are multiples of `step`, and relevance with junk."""
    X = np.round(rng.normal(size=(n, 5)) / step) * step
    labels = rng.integers(0, 6, n)
    labels[0] = 7  # nothing is relevant to the first
    positives = [[j for j in range(n) if labels[j] == labels[i] and j != i] for i in range(n)]
    junk = [[i, *(j for j in range(n) if j % 11 == 3 and j not in positives[i])] for i in range(n)]
    return X.astype(np.float32), relevance(positives, [sorted(set(row)) for row in junk])


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("step", [1e-4, 0.5], ids=["few ties", "many ties"])
@pytest.mark.parametrize("ties", ["expected", "sklearn", "id"])
def test_every_figure_equals_the_compiled_kernel(
    rng: np.random.Generator, device: str, step: float, ties: Ties
) -> None:
    X, relevant = cases(rng, 90, step)
    tensor = torch.from_numpy(X).to(device)
    expected = rank(X, X, relevant, ks=(1, 3, 10), ties=ties)
    for block_bytes in (2**20, 90 * 4 * 7):
        got = rank(tensor, tensor, relevant, ks=(1, 3, 10), ties=ties, block_bytes=block_bytes)
        close = {"atol": ATOL[device], "rtol": 0}
        np.testing.assert_allclose(got.ap, expected.ap, **close)
        np.testing.assert_allclose(got.tie_width, expected.tie_width, **close)
        np.testing.assert_allclose(got.trapezoid_ap, expected.trapezoid_ap, **close)
        for name, values in expected.figures.items():
            np.testing.assert_allclose(got.figures[name], values, err_msg=name, **close)


def test_nan_is_refused_wherever_it_is(rng: np.random.Generator) -> None:
    X, relevant = cases(rng, 20, 1e-4)
    X[3, 1] = np.nan
    with pytest.raises(InputError, match="NaN"):
        rank(torch.from_numpy(X), torch.from_numpy(X), relevant)


@pytest.mark.parametrize("device", DEVICES)
def test_retrieval_is_evaluated_on_a_device(rng: np.random.Generator, device: str) -> None:
    X = rng.normal(size=(60, 8)).astype(np.float32)
    table = VectorTable(list(range(60)), {"raw": X}, {"label": [f"l{i % 5}" for i in range(60)]})
    expected = evaluate_retrieval(table, vectors=["raw"], fields=["label"])["label", "raw"]
    got = evaluate_retrieval(table, vectors=["raw"], fields=["label"], device=device)[
        "label", "raw"
    ]
    np.testing.assert_allclose(got.ap, expected.ap, atol=ATOL[device])


@pytest.mark.parametrize("device", ["nowhere", "cuda:99"])
def test_a_device_that_is_not_there_is_refused(rng: np.random.Generator, device: str) -> None:
    X = rng.normal(size=(20, 8)).astype(np.float32)
    table = VectorTable(list(range(20)), {"raw": X}, {"label": [f"l{i % 5}" for i in range(20)]})
    with pytest.raises(InputError, match="leave the device out"):
        evaluate_retrieval(table, vectors=["raw"], fields=["label"], device=device)["label", "raw"]
