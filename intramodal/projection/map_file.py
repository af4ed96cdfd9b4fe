"""The file of a map: JSON values and arrays in one safetensors file, with a digest of all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from intramodal.errors import InputError, ProjectionError, reason
from intramodal.files import write_bytes
from intramodal.types import Floats, fingerprint

FORMAT = "intramodal projection"
_VERSION = 2
_READABLE = (1, 2)
"""Files of version 1 have no digest of the whole content and no mean of the texts."""


def write_map(path: Path, about: Mapping[str, Any], tensors: Mapping[str, Floats]) -> None:
    """Write JSON values and arrays under a temporary name, then rename; add version and digest."""
    from safetensors.numpy import save

    said: dict[str, Any] = {**about, "format": FORMAT, "version": _VERSION}
    said["content"] = _digest(said, tensors)
    content = save(dict(tensors), metadata={"intramodal": json.dumps(said, sort_keys=True)})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, content)
    except (OSError, InputError) as error:
        raise ProjectionError(f"the projection cannot be written: {reason(error)}") from error


def read_map(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what a file says and the arrays it holds; the file is not trusted."""
    about, tensors = _opened(path)
    if about.get("format") != FORMAT:
        raise ProjectionError(f"{path} is not a projection of intramodal; fit it again")
    version = about.get("version")
    if version not in _READABLE:
        raise ProjectionError(
            f"{path} has version {version!r:.40}, this intramodal reads up to {_VERSION}; "
            f"upgrade intramodal, or fit it again"
        )
    if version != 1 and about.get("content") != _digest(about, tensors):
        raise ProjectionError(f"{path} was changed after it was saved; fit it again")
    return about, tensors


def _opened(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            about = dict(json.loads((file.metadata() or {})["intramodal"]))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError as error:
        raise ProjectionError(
            f"there is no projection {path}; make one with `intramodal fit`"
        ) from error
    except (OSError, SafetensorError, LookupError, TypeError, ValueError, RecursionError) as error:
        raise ProjectionError(
            f"{path} is not a projection of intramodal ({reason(error):.200}); "
            f"make one with `intramodal fit`"
        ) from error
    return about, tensors


def _digest(about: Mapping[str, Any], tensors: Mapping[str, Floats]) -> str:
    """Return the SHA-256 of all that a file says and holds."""
    said = {key: value for key, value in about.items() if key != "content"}
    return fingerprint(said, *(tensors[name].tobytes() for name in sorted(tensors)))
