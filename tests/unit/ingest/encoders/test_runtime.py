from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from intramodal.errors import InputError, ModelError
from intramodal.ingest.encoders.encoder import Runtime, choose_devices, choose_precision
from intramodal.ingest.encoders.registry import load_encoder
from intramodal.memory import is_out_of_memory
from tests.tiny_models import TEXTS, Shelf, save_clip, save_open_clip

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.usefixtures("offline")

CPU = torch.device("cpu")
ROWS = torch.arange(60.0).reshape(20, 3)


def linear() -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(2)
        return torch.nn.Linear(3, 4).requires_grad_(False)


def forward(module: Any, rows: Any) -> Any:
    return module(rows)


def limited(n_rows: int, sizes: list[int]) -> Callable[[Any, Any], Any]:
    """Return a forward pass that has memory for `n_rows`, and notes what it was asked for."""

    def run(module: Any, rows: Any) -> Any:
        sizes.append(len(rows))
        if len(rows) > n_rows:
            raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {len(rows)} GiB.")
        return module(rows)

    return run


def expected() -> Any:
    return linear()(ROWS).numpy()


def test_all_rows_come_back_in_order_as_float32() -> None:
    result = Runtime(linear(), [CPU], "fp32").run(ROWS, forward)
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, expected())


@pytest.mark.parametrize("n_fitting", [1, 2, 3, 7, 19, 20])
def test_batches_are_halved_until_they_fit_and_nothing_is_lost(n_fitting: int) -> None:
    sizes: list[int] = []
    result = Runtime(linear(), [CPU], "fp32").run(ROWS, limited(n_fitting, sizes))
    # Other batch sizes sum the same three terms: one unit in the last place.
    np.testing.assert_allclose(result, expected(), rtol=1e-6)
    tried = [20, 10, 5, 3, 2, 1]
    needed = tried[: 1 + next(i for i, size in enumerate(tried) if size <= n_fitting)]
    assert sizes[: len(needed)] == needed
    assert set(sizes[len(needed) :]) <= set(range(1, needed[-1] + 1))  # never larger again


def test_the_smaller_size_is_kept_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    sizes: list[int] = []
    runtime = Runtime(linear(), [CPU], "fp32")
    with caplog.at_level(logging.WARNING, logger="intramodal"):
        for _ in range(3):
            runtime.run(ROWS, limited(8, sizes))
    assert sizes == [20, 10, *[5] * 12]
    warnings = [record.getMessage() for record in caplog.records]
    assert warnings == [
        "out of memory: batches are now at most 10",
        "out of memory: batches are now at most 5",
    ]


def test_memory_that_is_too_small_for_one_row_is_an_error() -> None:
    with pytest.raises(ModelError, match="memory of cpu ran out with a batch of one"):
        Runtime(linear(), [CPU], "fp32").run(ROWS, limited(0, []))


def test_other_errors_are_not_taken_for_full_memory() -> None:
    def broken(module: Any, rows: Any) -> Any:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes"):
        Runtime(linear(), [CPU], "fp32").run(ROWS, broken)


@pytest.mark.parametrize(
    ("error", "is_memory"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't "
                      "allocate memory: you tried to allocate 99 bytes."), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 8.00 GB)"), True),
        (RuntimeError("expected scalar type Float but found BFloat16"), False),
    ],
)  # fmt: skip
def test_full_memory_is_recognised_on_every_device(error: RuntimeError, is_memory: bool) -> None:
    assert is_out_of_memory(error) == is_memory


def test_the_cpus_own_error_is_recognised() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**55)
    assert is_out_of_memory(caught.value)


# several devices


@pytest.mark.parametrize("n_replicas", [2, 3])
@pytest.mark.parametrize("n_rows", [1, 2, 3, 19, 20])
def test_several_devices_give_the_same_rows_in_order(n_replicas: int, n_rows: int) -> None:
    runtime = Runtime(linear(), [CPU] * n_replicas, "fp32")
    used: list[int] = []

    def noting(module: Any, rows: Any) -> Any:
        used.append(runtime.replicas.index(module))
        return module(rows)

    result = runtime.run(ROWS[:n_rows], noting)
    np.testing.assert_allclose(result, expected()[:n_rows], rtol=1e-6)
    assert used == list(range(min(n_replicas, n_rows)))


def test_replicas_are_copies() -> None:
    runtime = Runtime(linear(), [CPU, CPU], "fp32")
    a, b = runtime.replicas
    assert a is not b
    assert a.weight.data_ptr() != b.weight.data_ptr()
    assert torch.equal(a.weight, b.weight)


def test_several_devices_share_a_halved_batch(caplog: pytest.LogCaptureFixture) -> None:
    sizes: list[int] = []
    runtime = Runtime(linear(), [CPU, CPU], "fp32")
    result = runtime.run(ROWS, limited(4, sizes))
    np.testing.assert_allclose(result, expected(), rtol=1e-6)
    assert caplog.messages[-1] == "out of memory: batches are now at most 5"
    assert max(sizes[3:]) == 3  # a half of five


@pytest.mark.parametrize("save", [save_open_clip, save_clip])
def test_an_encoder_on_two_devices_gives_the_same_vectors(shelf: Shelf, save: Any) -> None:
    one = shelf.encoder(save)
    two = copy.copy(one)
    two.runtime = Runtime(copy.deepcopy(one.towers.module), [CPU, CPU], "fp32")
    images = list(np.random.default_rng(3).integers(0, 256, (5, 40, 30, 3), dtype=np.uint8))
    # Halves of a batch are summed in another order.
    for got, expected in (
        (two.encode_images(images), one.encode_images(images)),
        (two.encode_texts(TEXTS), one.encode_texts(TEXTS)),
    ):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


def test_an_encoder_that_runs_out_of_memory_gives_the_same_vectors(shelf: Shelf) -> None:
    encoder = load_encoder(shelf.name(save_open_clip), device="cpu")
    full = shelf.encoder(save_open_clip)
    sizes: list[int] = []
    images = list(np.random.default_rng(3).integers(0, 256, (9, 40, 30, 3), dtype=np.uint8))

    def starve(visual: Any, inputs: Any) -> None:
        sizes.append(len(inputs[0]))
        if len(inputs[0]) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    module: Any = encoder.towers.module  # type: ignore[attr-defined]
    module.visual.register_forward_pre_hook(starve)
    got = encoder.encode_images(images)
    np.testing.assert_allclose(got, full.encode_images(images), rtol=1e-4, atol=1e-4)
    assert sizes == [9, 5, 3, 3, 3]


# precision


def test_bf16_is_autocast_with_float32_weights_and_results() -> None:
    module = linear()
    seen = []

    def noting(module: Any, rows: Any) -> Any:
        seen.append(module(rows).dtype)
        return module(rows)

    result = Runtime(module, [CPU], "bf16").run(ROWS, noting)
    assert seen == [torch.bfloat16]
    assert (module.weight.dtype, result.dtype) == (torch.float32, np.float32)
    np.testing.assert_allclose(result, expected(), rtol=0.02, atol=0.2)  # 8 bits of mantissa


def test_no_gradient_is_kept() -> None:
    module = linear().requires_grad_()
    seen = []
    Runtime(module, [CPU], "fp32").run(ROWS, lambda m, rows: seen.append(m(rows)) or m(rows))
    assert not seen[0].requires_grad


# choices


def test_the_cpu_computes_in_float32_unless_told_otherwise() -> None:
    assert choose_devices("cpu") == [CPU]
    assert choose_precision(None, [CPU]) == "fp32"
    assert choose_precision("bf16", [CPU]) == "bf16"


@pytest.mark.parametrize("device", ["gpu", "cuda:x", "meta", "cpu:0:1"])
def test_a_device_that_cannot_compute_is_refused(device: str) -> None:
    with pytest.raises(InputError, match="give cpu"):
        choose_devices(device)


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="this machine has one")
def test_an_accelerator_that_is_absent_is_refused() -> None:
    with pytest.raises(InputError, match="'mps' is not there"):
        choose_devices("mps")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has GPUs")
@pytest.mark.parametrize("device", ["cuda", "cuda:0", "cuda:3"])
def test_a_gpu_that_is_absent_is_refused(device: str) -> None:
    with pytest.raises(InputError, match="torch sees 0 GPUs; give cpu"):
        choose_devices(device)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_cuda_means_every_gpu() -> None:
    n_gpus = torch.cuda.device_count()
    assert choose_devices("cuda") == [torch.device("cuda", i) for i in range(n_gpus)]
    assert choose_devices("cuda:0") == [torch.device("cuda", 0)]
    assert choose_devices(None) == choose_devices("cuda")


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(InputError, match="fp32 or bf16"):
        choose_precision("fp16", [CPU])


def test_device_and_precision_are_checked_by_load_encoder(shelf: Shelf) -> None:
    name = shelf.name(save_open_clip)
    with pytest.raises(InputError, match="device 'gpu'"):
        load_encoder(name, device="gpu")
    with pytest.raises(InputError, match="precision 'int8'"):
        load_encoder(name, precision="int8")
