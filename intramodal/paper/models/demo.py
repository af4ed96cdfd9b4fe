"""The bundled demo model: not one of the paper's; for trying the commands offline."""

from __future__ import annotations

from intramodal.paper.base import Model

DECLARED = Model(
    name="demo",
    title="demo (not of the paper)",
    encoder="demo",
    rules="as its own configuration says",
    isoclip=(32, 32),
    augments_shots=True,
    licence="see packages/demo",
)
