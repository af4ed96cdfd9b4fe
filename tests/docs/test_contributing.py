"""CONTRIBUTING.md names files to copy from: they are there, and so is what it says of them."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def test_every_file_that_is_named_is_there() -> None:
    named = [name for name in re.findall(r"`([\w/.]+\.pyi?)`", PAGE) if "NAME" not in name]
    assert len(named) > 20
    places = (ROOT, ROOT / "intramodal", ROOT / "intramodal" / "evaluation")
    extra = [ROOT / "intramodal" / x for x in ("ingest", "ingest/encoders", "evaluation/kernels")]
    for name in named:
        assert any((place / name).exists() for place in (*places, *extra)), name


def test_every_name_that_is_to_be_copied_from_exists() -> None:
    code = "".join(path.read_text("utf-8") for path in (ROOT / "intramodal").rglob("*.py"))
    for name in ("precision_sum", "METHODS", "random_projection", "apply_controls", "NpyMatrix"):
        assert name in PAGE
        assert re.search(rf"\b{name}\b", code), name
