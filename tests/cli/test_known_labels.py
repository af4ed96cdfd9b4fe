"""Codes that hold known labels, from the command line: stale ones are named until a backfill."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from intramodal.projection.projection import Projection
from intramodal.types import declared_fingerprint
from tests.cli.kit import invoke, run

N, D, MODEL = 120, 16, "hf:our/clip"
INGEST = ("ingest", "X.npy", "--metadata", "meta.csv", "--made-by", MODEL, "--collection", "shop")
WITH_PCA = (*INGEST, "--projection", "pca.safetensors")


@pytest.fixture(autouse=True)
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    """Make a collection with `pca` and with codes that are certain of labels."""
    monkeypatch.chdir(tmp_path)
    np.save("X.npy", rng.normal(size=(N, D)).astype(np.float32))
    Projection(np.eye(D, 8, dtype=np.float32), "pca", MODEL, declared_fingerprint(MODEL)).save(
        "pca.safetensors"
    )
    write_labels()
    run(*WITH_PCA)
    how = ("--labels", "hue", "--method", "posterior", "--known")
    run("fit", "shop", *how, "-o", "codes.safetensors")
    run("backfill", "shop", "--projection", "codes.safetensors")


def write_labels(changed: int = 0) -> None:
    lines = [f"{i},{'none' if i < changed else f'h{i % 3}'}" for i in range(N)]
    Path("meta.csv").write_text("\n".join(["id,hue", *lines]))


SEARCH = ("search", "shop", "--id", "1", "--vectors", "posterior_hue")
INCOMPLETE = "'posterior_hue' of 'shop' is incomplete"


def search_warns(caplog: pytest.LogCaptureFixture) -> bool:
    caplog.clear()
    run(*SEARCH)
    return INCOMPLETE in caplog.text


def states() -> list[str]:
    """Return what the doctor says of the codes."""
    checks = run("doctor")["checks"]
    return [check["remedy"] for check in checks if INCOMPLETE in check["detail"]]


def test_stale_codes_are_named_until_the_backfill_that_computes_them_anew(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert not search_warns(caplog)
    assert states() == []
    write_labels(changed=5)
    done = invoke(*WITH_PCA)
    assert done.exit_code == 0, done.output
    said = " ".join(done.stderr.split())
    assert "5 points got another 'hue', and their codes in 'posterior_hue' still hold" in said
    line = re.search(r"map that made them\): (.*)$", done.stderr, re.MULTILINE)
    assert line is not None
    assert search_warns(caplog)
    assert states() == ["run its backfill again"]
    verified = ("backfill", "shop", "--projection", "codes.safetensors", "--verify", str(N))
    assert run(*verified, code=1)["stale"] == 5
    words = shlex.split(line[1].replace("FILE", "codes.safetensors"))
    assert run(*words[words.index("backfill") :])["projected"] == 5
    assert run(*verified)["stale"] == 0
    assert not search_warns(caplog)
    assert states() == []


def test_an_ingest_with_the_codes_own_map_leaves_none_stale() -> None:
    write_labels(changed=5)
    with_codes = (*INGEST, "--projection", "codes.safetensors")
    assert run(*with_codes)["stale"] == {}
    verified = ("backfill", "shop", "--projection", "codes.safetensors", "--verify", str(N))
    assert run(*verified)["stale"] == 0
