"""A projection for programs that are not Python: ONNX, or JSON with the numbers.

Both take an encoder's vectors, of any length, and give the projected ones and the queries for
stored vectors of the encoder.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intramodal.errors import InputError, MissingDependencyError
from intramodal.files import format_of, write_bytes
from intramodal.projection.projection import Projection

_OPSET, _IR = 17, 8
"""Read by every onnxruntime from 1.12 on."""

_LEAST_LENGTH = 1e-12
"""Rows that are shorter are taken for zero, and stay so."""


@dataclass(frozen=True)
class MapExport:
    """What was written: the file, the projection's identity and its dimensions."""

    out: str
    method: str
    encoder: str
    fingerprint: str
    dim_in: int
    dim_out: int
    normalized: bool

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)


def export_projection(projection: Projection, out: Path, *, normalize: bool = False) -> MapExport:
    """Write a projection to a file that other programs read.

    Parameters
    ----------
    projection : Projection
    out : Path
        ``.onnx``: a graph with the input "vectors" (n, dim_in) and the outputs "projected"
        (n, dim_out), as `Projection.apply`, and "query" (n, dim_in), as `Projection.query`; all
        float32. Needs the extra ``onnx``. ``.json``: "offset" (dim_in), "matrix" (dim_in rows of
        dim_out numbers) and who made it.
    normalize : bool
        Whether "projected" is scaled to unit length, as stores that know no cosine need it. In
        JSON "normalize" says so.

    Raises
    ------
    InputError
        For another suffix, something that is no projection, or a place that cannot be written to.
    MissingDependencyError
        If the package ``onnx`` is absent.
    """
    if not isinstance(projection, Projection):
        raise InputError(
            f"a projection is exported, which posterior codes are not, got {projection!r}; export "
            f"a map whose vectors are a matrix product"
        )
    kind = format_of(out, ("onnx", "json"))
    make = _onnx if kind == "onnx" else _json
    write_bytes(out, make(projection, normalize))
    return MapExport(
        out=str(out),
        method=projection.method,
        encoder=projection.encoder,
        fingerprint=projection.fingerprint,
        dim_in=projection.dim_in,
        dim_out=projection.dim_out,
        normalized=normalize,
    )


def _about(projection: Projection) -> dict[str, str]:
    return {
        "method": projection.method,
        "encoder": projection.encoder,
        "encoder_fingerprint": projection.encoder_fingerprint,
        "fingerprint": projection.fingerprint,
    }


def _offset(projection: Projection) -> NDArray[np.float32]:
    """Return what is subtracted (dim_in,), zeros where nothing is."""
    if projection.offset is not None:
        return projection.offset
    return np.zeros(projection.dim_in, dtype=np.float32)


def _json(projection: Projection, normalize: bool) -> bytes:
    document = {
        **_about(projection),
        "dim_in": projection.dim_in,
        "dim_out": projection.dim_out,
        "normalize": normalize,
        "offset": _short(_offset(projection)),
        "matrix": [_short(row) for row in projection.matrix],
    }
    return json.dumps(document, separators=(",", ":"), allow_nan=False).encode()


def _short(row: NDArray[np.float32]) -> list[float]:
    """Return float32 numbers with the nine digits that bring them back."""
    return [float(f"{value:.9g}") for value in row.tolist()]


def _onnx(projection: Projection, normalize: bool) -> bytes:
    """Return the serialised graph."""
    try:
        from onnx import TensorProto, helper, numpy_helper
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            "writing ONNX needs the package 'onnx'; pip install 'intramodal[onnx]', or write .json"
        ) from error
    constants = {
        "offset": _offset(projection),
        "matrix": projection.matrix,
        "transposed": np.ascontiguousarray(projection.matrix.T),
        "least": np.array(_LEAST_LENGTH, dtype=np.float32),
    }
    nodes = [
        *_unit(helper, "vectors", "unit"),
        helper.make_node("Sub", ["unit", "offset"], ["centred"]),
        helper.make_node("MatMul", ["centred", "matrix"], ["product"]),
        helper.make_node("MatMul", ["product", "transposed"], ["query"]),
        *(
            _unit(helper, "product", "projected")
            if normalize
            else [helper.make_node("Identity", ["product"], ["projected"])]
        ),
    ]
    sizes = {"vectors": projection.dim_in, "projected": projection.dim_out}
    sizes["query"] = projection.dim_in
    shown = {
        name: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", size])
        for name, size in sizes.items()
    }
    graph = helper.make_graph(
        nodes,
        "projection",
        [shown["vectors"]],
        [shown["projected"], shown["query"]],
        [numpy_helper.from_array(part, name) for name, part in constants.items()],
    )
    opset = helper.make_opsetid("", _OPSET)
    model = helper.make_model(
        graph, producer_name="intramodal", opset_imports=[opset], ir_version=_IR
    )
    helper.set_model_props(model, _about(projection))
    return bytes(model.SerializeToString())


def _unit(helper: Any, rows: str, unit: str) -> list[Any]:
    """Return the nodes that scale rows to unit length; zero rows stay zero."""
    length, divisor = f"{rows} length", f"{rows} divisor"
    return [
        helper.make_node("ReduceL2", [rows], [length], axes=[1], keepdims=1),
        helper.make_node("Max", [length, "least"], [divisor]),
        helper.make_node("Div", [rows, divisor], [unit]),
    ]
