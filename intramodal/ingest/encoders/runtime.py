"""Where and how forward passes run: device, precision, replicas, batches that shrink."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from intramodal.errors import InputError
from intramodal.memory import FittingBatches
from intramodal.types import Floats

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

PRECISIONS = ("fp32", "bf16")

Forward = Callable[["nn.Module", "Tensor"], "Tensor"]


def choose_devices(device: str | None) -> list[torch.device]:
    """Return the devices that `device` means; ``"cuda"`` is every GPU, None the fastest kind.

    Examples
    --------
    >>> choose_devices("cpu")
    [device(type='cpu')]
    """
    import torch

    wanted = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(wanted)
    except RuntimeError as error:
        raise InputError(f"device {wanted!r} is unknown; give cpu, cuda or cuda:N") from error
    if chosen.type != "cuda":
        _try(chosen)
        return [chosen]
    n_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if (chosen.index or 0) >= n_gpus:
        raise InputError(f"device {wanted!r} is not there: torch sees {n_gpus} GPUs; give cpu")
    if ":" in wanted:
        return [chosen]
    return [torch.device("cuda", index) for index in range(n_gpus)]


def _try(device: torch.device) -> None:
    import torch

    try:
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, NotImplementedError, AssertionError) as error:
        raise InputError(
            f"device {str(device)!r} is not there; give cpu, cuda or cuda:N"
        ) from error


def choose_precision(precision: str | None, devices: list[torch.device]) -> str:
    """Return ``"fp32"`` or ``"bf16"``; bf16 is the default only where a GPU computes in it."""
    if precision is None:
        return "bf16" if _computes_in_bf16(devices[0]) else "fp32"
    if precision not in PRECISIONS:
        raise InputError(f"precision {precision!r} is unknown; give {' or '.join(PRECISIONS)}")
    return precision


def _computes_in_bf16(device: torch.device) -> bool:
    import torch

    # Ampere (8.0) is the first generation with bf16 units; older ones only emulate it.
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)


class Runtime:
    """Runs a module's forward passes, on one device or split over replicas.

    Parameters
    ----------
    module : nn.Module
        In evaluation mode, on the CPU; moved to the first device.
    devices : list of torch.device
        One replica each.
    precision : {"fp32", "bf16"}
        bf16 is autocast: the weights stay float32.
    """

    def __init__(self, module: nn.Module, devices: list[torch.device], precision: str) -> None:
        self.devices = devices
        self.precision = precision
        others = [copy.deepcopy(module).to(device) for device in devices[1:]]
        self.replicas = [module.to(devices[0]), *others]
        self._batches = FittingBatches(str(devices[0]))

    @property
    def max_batch(self) -> int:
        """Rows that a forward pass gets at most; lowered when memory runs out."""
        return self._batches.largest

    def run(self, rows: Tensor, forward: Forward) -> Floats:
        """Return `forward` of `rows` as float32 (n, dim), in order.

        A batch that does not fit into memory is halved until it does; the smaller size is kept
        for the batches that follow.
        """
        parts = self._batches.over(len(rows), lambda part: self._forward(rows[part], forward))
        return np.concatenate(list(parts))

    def on_first(self, rows: Tensor, forward: Forward) -> Tensor:
        """Return `forward` of `rows` on the first device, as a tensor that has a gradient."""
        return self._on_device(self.replicas[0], rows, forward)

    def _forward(self, chunk: Tensor, forward: Forward) -> Floats:
        import torch

        n_parts = min(len(self.replicas), len(chunk))
        parts = chunk.tensor_split(n_parts)
        with torch.inference_mode():
            # GPUs work asynchronously: all are started before the first result is fetched.
            started = [
                self._on_device(module, part, forward)
                for module, part in zip(self.replicas[:n_parts], parts, strict=True)
            ]
            return np.concatenate([result.float().cpu().numpy() for result in started])

    def _on_device(self, module: nn.Module, part: Tensor, forward: Forward) -> Tensor:
        import torch

        device = next(module.parameters()).device
        enabled = self.precision == "bf16"
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled):
            return forward(module, part.to(device, non_blocking=True))
