"""The README's recipe for a model of one's own, with a tower of 48 dimensions."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from intramodal import Projection, open_store
from intramodal.commands.options import DEFAULT_STORE
from intramodal.store.base import VectorSpec
from intramodal.types import Floats, unit_rows
from tests.cli.kit import invoke

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
D, N = 48, 30


def embed_texts(texts: list[str]) -> Floats:
    """Return the sum of a random vector for each word, as a tower of 48 dimensions would."""
    words = sorted({word for text in texts for word in text.split()})
    table = np.random.default_rng(0).normal(size=(len(words), D)).astype(np.float32)
    rows = {word: table[n] for n, word in enumerate(words)}
    return np.stack([sum(rows[word] for word in text.split()) for text in texts])


def recipe() -> list[tuple[str, str]]:
    """Return the language and the text of every block of the section."""
    section = README.split("## Any model with a text tower\n")[1].split("\n## ")[0]
    return re.findall(r"^```(\w+)\n(.*?)^```", section, flags=re.MULTILINE | re.DOTALL)


def run(line: str) -> None:
    words, _, place = line.partition(" > ")
    result = invoke(*shlex.split(words)[1:])
    assert result.exit_code == 0, result.output
    if place:
        Path(place).write_bytes(result.stdout_bytes)


def test_the_recipe_adds_a_projected_vector_to_a_collection_of_any_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    monkeypatch.chdir(tmp_path)
    X = unit_rows(rng.normal(size=(N, D)))
    with open_store(DEFAULT_STORE) as store:
        store.create("products", {"image": VectorSpec(D)})
        store.upsert("products", list(range(N)), {"image": X}, [{}] * N)
    for language, text in recipe():
        if language == "py":
            exec(compile(text, "README.md", "exec"), {"embed_texts": embed_texts})
        else:
            for line in text.splitlines():
                run(line)
    T = np.load("T.npy")
    assert T.shape == (1000, D)
    Q = np.linalg.svd(unit_rows(T) - unit_rows(T).mean(axis=0))[2][: D // 2].T
    with open_store(DEFAULT_STORE) as store:
        page = store.retrieve("products", list(range(N)), vectors=["pca"])
    # Signs and order within a subspace are free: cosines of the images are not.
    expected = unit_rows(X @ Q)
    found = unit_rows(page.vectors["pca"])
    np.testing.assert_allclose(found @ found.T, expected @ expected.T, atol=2e-6)
    assert Projection.load(Path("mine.safetensors")).dim_out == D // 2


def test_prompts_are_utf8_and_in_the_order_of_the_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("names.txt").write_text("b\u00e4r\ncat\n", encoding="utf-8")
    result = invoke("anchors", "names.txt", "--template", "no {}")
    assert result.stdout_bytes.decode("utf-8").splitlines() == ["no b\u00e4r", "no cat"]
