"""A map outside Python: run by onnxruntime, read from JSON, and what is refused."""

from __future__ import annotations

import builtins
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from intramodal import IsoClip, Projection, export_projection
from intramodal.errors import InputError, MissingDependencyError
from intramodal.types import Floats, unit_rows

D, K = 24, 9


@pytest.fixture
def X(rng: np.random.Generator) -> Floats:
    """Return vectors of all lengths, one of them zero."""
    X = (rng.normal(size=(11, D)) * rng.uniform(1e-3, 1e3, size=(11, 1))).astype(np.float32)
    X[4] = 0
    return X


def maps(rng: np.random.Generator) -> dict[str, Projection]:
    Q = np.linalg.qr(rng.normal(size=(D, K)))[0]
    pca = Projection(Q, "pca", "clip", "3f9a")
    W = [rng.normal(size=(D, width)) for width in (40, 30)]
    about: Any = {"encoder": "clip", "encoder_fingerprint": "3f9a"}
    return {
        "pca": pca,
        "pca_centered": replace(pca, method="pca_centered", offset=rng.normal(size=D) / 9),
        "isoclip": IsoClip(5, 7).projection(*W, **about),
        "all of it": Projection(np.eye(D), "truncation", "clip", "3f9a"),
    }


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("name", ["pca", "pca_centered", "isoclip", "all of it"])
def test_onnxruntime_gives_what_the_projection_gives(
    rng: np.random.Generator, tmp_path: Path, X: Floats, name: str, normalize: bool
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    made = maps(rng)[name]
    found = export_projection(made, tmp_path / "map.onnx", normalize=normalize)
    assert (found.dim_in, found.dim_out) == (D, made.dim_out)
    session = onnxruntime.InferenceSession(tmp_path / "map.onnx")
    for rows in (X, X[:1], X[:0]):
        projected, query = session.run(["projected", "query"], {"vectors": rows})
        expected = made.apply(rows)
        expected = unit_rows(expected) if normalize else expected
        np.testing.assert_allclose(projected, expected, atol=1e-5)
        np.testing.assert_allclose(query, made.query(rows), atol=1e-5)
    about = session.get_modelmeta().custom_metadata_map
    assert about["fingerprint"] == made.fingerprint


def test_json_holds_the_numbers_to_the_last_bit(rng: np.random.Generator, tmp_path: Path) -> None:
    for name, made in maps(rng).items():
        export_projection(made, tmp_path / "map.json")
        read = json.loads((tmp_path / "map.json").read_text(encoding="utf-8"))
        matrix = np.array(read["matrix"], dtype=np.float32)
        offset = np.array(read["offset"], dtype=np.float32)
        assert matrix.tobytes() == made.matrix.tobytes(), name
        np.testing.assert_array_equal(offset, 0 if made.offset is None else made.offset)
        assert (read["dim_in"], read["dim_out"], read["normalize"]) == (D, made.dim_out, False)
        assert read["fingerprint"] == made.fingerprint


def test_the_same_map_gives_the_same_bytes(rng: np.random.Generator, tmp_path: Path) -> None:
    made = maps(rng)["pca_centered"]
    for suffix in ("json", "onnx"):
        files = [tmp_path / f"{name}.{suffix}" for name in "ab"]
        for file in files:
            export_projection(made, file)
        assert files[0].read_bytes() == files[1].read_bytes()


def test_what_cannot_be_exported_is_refused(
    rng: np.random.Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = maps(rng)["pca"]
    with pytest.raises(InputError, match=r"does not end in .onnx or .json"):
        export_projection(made, tmp_path / "map.npy")
    with pytest.raises(InputError, match="a projection is exported"):
        export_projection(object(), tmp_path / "map.json")  # type: ignore[arg-type]
    plain = builtins.__import__

    def without_onnx(name: str, *rest: Any) -> Any:
        if name == "onnx":
            raise ModuleNotFoundError("No module named 'onnx'")
        return plain(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_onnx)
    with pytest.raises(MissingDependencyError, match=r"pip install 'intramodal\[onnx\]'"):
        export_projection(made, tmp_path / "map.onnx")
    assert list(tmp_path.iterdir()) == []
