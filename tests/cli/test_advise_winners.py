"""Whatever wins, the lines that `advise` prints fit, store and judge it as they are pasted."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from intramodal import ImageCollection, load_encoder, open_store
from intramodal.commands.options import DEFAULT_STORE
from intramodal.projection.anchors import AnchorSet
from intramodal.projection.projection import Projection
from intramodal.store.manifest import VectorOrigin
from intramodal.types import Floats, declared_fingerprint, unit_rows
from tests.cli.kit import run

N, D, K = 200, 32, 20
MODEL = "hf:our/clip"  # nothing can load it: no line may need to
NAMES = [f"k {i}" for i in range(K)]
FEW_LABELS = ("--budget", "60")  # on which a fit to labels loses

Case = tuple[Floats, int, str, tuple[str, ...]]
"""Vectors, their number of kinds, their model, and the options of `advise`."""


def spread(n_kinds: int, d: int, rng: np.random.Generator, size: float) -> Floats:
    """Return points of kinds that lie apart in all of `d` dimensions."""
    kinds = rng.normal(size=(n_kinds, d))[np.arange(N) % n_kinds]
    return np.asarray(rng.normal(size=(N, d)) + size * kinds, dtype=np.float32)


def centered(rng: np.random.Generator) -> Case:
    """The kinds lie apart everywhere, beside a mean that hides it."""
    return 1.6 * spread(K, D, rng, 1) + 8 * rng.uniform(0.5, 1.5, (N, 1)), K, MODEL, FEW_LABELS


def pca_centered(rng: np.random.Generator) -> Case:
    """The texts know where the kinds lie apart."""
    X = np.hstack([spread(K, D // 2, rng, 1.2), 4 * rng.normal(size=(N, D // 2))]) + 4
    T = 1e-3 * rng.normal(size=(60, D))
    T[:, : D // 2] = rng.normal(size=(60, D // 2))
    np.save("T.npy", T.astype(np.float32))
    return X, K, MODEL, (*FEW_LABELS, "--text-vectors", "T.npy")


def pca_centered_of_a_file(rng: np.random.Generator) -> Case:
    """A projection knows it."""
    made = Projection(np.eye(D, D // 2), "pca", MODEL, declared_fingerprint(MODEL))
    made.save("my pca.safetensors")
    X, *_ = pca_centered(rng)
    return X, K, MODEL, (*FEW_LABELS, "--projection", "my pca.safetensors")


def words(rng: np.random.Generator) -> Case:
    """The names know where all kinds lie apart, the projection where some do."""
    encoder = load_encoder("demo")
    V = unit_rows(AnchorSet(tuple(sorted(NAMES))).embed(encoder))
    axes = np.linalg.svd(V - V.mean(axis=0), full_matrices=False)[2][: K - 1]
    noise = 3 * rng.normal(size=(N, encoder.dim))
    X = noise - noise @ axes.T @ axes + spread(K, K - 1, rng, 1) @ axes
    base = Projection(axes[:8].T, "pca", encoder.name, encoder.fingerprint)
    base.save("pca.safetensors")
    texts = ("--projection", "pca.safetensors", "--model", "demo")
    return X, K, "demo", (*FEW_LABELS, *texts)


def label(rng: np.random.Generator) -> Case:
    """Labels know it, of too few images per kind for codes."""
    X = np.hstack([3 * rng.normal(size=(N, 20)), spread(K, D - 20, rng, 2.5)])
    return X, K, MODEL, ()


def posterior(rng: np.random.Generator) -> Case:
    """Labels know it, of many images per kind."""
    X = rng.normal(size=(N, D)) * np.linspace(3, 1, D)
    X[:, -4:] += 2.5 * np.eye(4)[np.arange(N) % 4]
    return X, 4, MODEL, ("--fit-share", "0.6")


CASES: dict[str, Any] = {
    one.__name__: one
    for one in (centered, pca_centered, pca_centered_of_a_file, words, label, posterior)
}


@pytest.fixture(params=CASES)
def advised(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    """Return the advice where one map is the best there is."""
    monkeypatch.chdir(tmp_path)
    X, n_kinds, model, how = CASES[request.param](np.random.default_rng(0))
    fingerprint = declared_fingerprint(model)
    if model == "demo":
        fingerprint = load_encoder("demo").fingerprint
    payloads = [{"my kind": NAMES[i % n_kinds]} for i in range(N)]
    with open_store(DEFAULT_STORE) as store:
        origin = VectorOrigin(model, fingerprint)
        photos = ImageCollection.create(store, "photos", {"raw": (X.shape[1], origin)})
        photos.write(list(range(N)), {"raw": X.astype(np.float32)}, payloads)
    found = run("advise", "photos", "--labels", "my kind", *how)["fields"]["my kind"]
    assert found["choice"] == request.param.removesuffix("_of_a_file")
    return dict(found)


def test_the_lines_of_every_winner_fit_store_and_judge_it(advised: dict[str, Any]) -> None:
    lines = [shlex.split(line) for line in advised["commands"]]
    _, filled, compared = (run(*line[line.index("intramodal") + 1 :]) for line in lines)
    assert filled["projected"] == N
    assert compared["fields"]["my kind"]["verdict"] == "better"


@pytest.mark.slow
def test_a_shell_runs_the_lines_of_every_winner_one_after_the_other(
    advised: dict[str, Any],
) -> None:
    pasted = " && ".join(advised["commands"])
    done = subprocess.run(["sh", "-c", pasted], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "my kind" in done.stdout


def test_lines_name_files_and_vectors_that_are_not_there_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    X, n_kinds, model, how = label(np.random.default_rng(0))
    with open_store(DEFAULT_STORE) as store:
        origin = VectorOrigin(model, declared_fingerprint(model))
        photos = ImageCollection.create(store, "photos", {"raw": (D, origin)})
        payloads = [{"kind": NAMES[i % n_kinds]} for i in range(N)]
        photos.write(list(range(N)), {"raw": X.astype(np.float32)}, payloads)
    for n_before in range(2):
        lines = run("advise", "photos", "--labels", "kind", *how)["fields"]["kind"]["commands"]
        fit, backfill, _ = map(shlex.split, lines)
        ending = f"_{n_before + 1}" if n_before else ""
        assert fit[-1] == f"label_kind{ending}.safetensors"
        run(*fit[fit.index("intramodal") + 1 :], "--fit-share", str(0.5 + n_before / 10))
        filled = run(*backfill[backfill.index("intramodal") + 1 :])
        assert filled["vector"] == f"label_kind{ending}"
