"""Known models, and conversion of foreign checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from intramodal.ingest.encoders.names import known_models
from intramodal.ingest.encoders.slip import convert_slip as convert


def list_models() -> list[dict[str, Any]]:
    """Return the curated models: name, family, dim."""
    return [dict(model) for model in known_models()]


def convert_slip(source: Path, target: Path) -> dict[str, Any]:
    """Turn a SLIP checkpoint into an open_clip folder."""
    convert(source, target)
    return {"target": str(target), "model": f"open_clip:local-dir:{target}"}
