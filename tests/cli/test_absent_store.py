"""Commands that only look, or name the wrong place, make no store there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from intramodal import Projection
from tests.cli.kit import run

COMMANDS = {
    "adopt": ("adopt", "shop", "--made-by", "m"),
    "backfill": ("backfill", "shop", "--projection", "p.st"),
    "compare": ("compare", "shop", "--labels", "kind"),
    "evaluate": ("evaluate", "retrieval", "shop", "--labels", "kind"),
    "export": ("export", "shop", "-o", "o.npy"),
    "plan": ("backfill", "shop", "--projection", "p.st", "--dry-run"),
    "search": ("search", "shop", "--id", "1"),
    "unlabelled": ("compare", "shop"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_store_that_is_not_there_is_said_and_not_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Projection(np.eye(4, 2, dtype=np.float32), "pca", "m", "declared:m").save("p.st")
    found = run(*COMMANDS[name], "--store", "nowhere", code=1)
    assert "there is no store at nowhere" in found["error"]["message"]
    assert [path.name for path in tmp_path.iterdir()] == ["p.st"]
