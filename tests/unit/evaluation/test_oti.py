"""Textual inversion: the published optimisation, whatever batches, cuts and interruptions."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from intramodal.demo import pictures_list
from intramodal.errors import InputError, MismatchError, ModelError
from intramodal.evaluation.resampling import Resampling
from intramodal.evaluation.rivals import oti as oti_file
from intramodal.evaluation.rivals.oti import (
    InversionMap,
    KeptTexts,
    OtiSettings,
    compare_inversion,
    evaluate_inversion,
    invert_images,
    stored_texts,
)
from intramodal.evaluation.tasks import RetrievalTask
from intramodal.ingest.backfill.in_place import backfill
from intramodal.ingest.encoders.registry import load_encoder
from intramodal.projection.projection import Projection
from intramodal.store.collection import ImageCollection
from intramodal.store.manifest import VectorOrigin
from intramodal.store.open import open_store
from intramodal.types import VectorTable, unit_rows
from tests.tiny_models import DIM, Shelf, save_clip, save_dinov2, save_open_clip, save_siglip

for library in ("torch", "open_clip", "transformers", "sentencepiece"):
    pytest.importorskip(library)

PICTURES = pictures_list().parent
SHORT = OtiSettings(n_steps=5)
PLAIN = Resampling("none")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    return Shelf(tmp_path_factory.mktemp("models"))


@pytest.fixture
def encoder(models: Shelf) -> Any:
    return models.encoder(save_open_clip)


@pytest.fixture
def X(rng: np.random.Generator) -> np.ndarray:
    return rng.normal(size=(7, DIM)).astype(np.float32)


@pytest.fixture(scope="module")
def demo() -> Any:
    return load_encoder("demo", device="cpu")


def emoji(demo: Any, n: int) -> VectorTable:
    """Return pictures of n / 4 emoji by four vendors, as the demo model sees them."""
    with (PICTURES / "pictures.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))[:n]
    X = demo.encode_images([PICTURES / row["path"] for row in rows])
    label = [row["identity"] for row in rows]
    return VectorTable([row["path"] for row in rows], {"raw": X}, {"identity": label})


def assert_nearer(demo: Any, table: VectorTable, settings: OtiSettings, least: float) -> None:
    found = invert_images(demo, table.vectors["raw"], table.ids, settings=settings)
    images = unit_rows(table.vectors["raw"]).astype(np.float64)
    cosines = np.einsum("ij,ij->i", unit_rows(found.texts), images)
    np.testing.assert_allclose(found.cosines, cosines, atol=1e-5)  # float32 over 256 terms
    assert (found.cosines > found.started + 0.1).all()
    assert found.cosines.mean() > least > found.started.mean()
    # Relevant are the other three vendors' drawings of the same emoji.
    result = evaluate_inversion(table, found, fields=["identity"])["identity", "oti"]
    assert len(result.query_ids) == result.n_gallery == len(table)
    assert result.n_relevant.tolist() == [3] * len(table)


def test_a_few_steps_bring_the_text_of_demo_pictures_nearer(demo):
    assert_nearer(demo, emoji(demo, 8), OtiSettings(n_steps=25), least=0.3)


@pytest.mark.slow
def test_the_published_steps_bring_the_text_of_32_demo_pictures_near(demo):
    assert_nearer(demo, emoji(demo, 32), OtiSettings(), least=0.8)


def plain_adamw(
    slope: Callable[[np.ndarray], np.ndarray], start: np.ndarray, n_steps: int
) -> np.ndarray:
    """Return the point after some steps of AdamW (Loshchilov and Hutter, algorithm 2)."""
    w, m, v = start.astype(np.float64), 0.0, 0.0
    for t in range(1, n_steps + 1):
        g = slope(w).astype(np.float64)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        w = w * (1 - 2e-2 * 0.01)
        w = w - 2e-2 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    return w


@pytest.mark.parametrize("save", [save_open_clip, save_clip, save_siglip])
def test_the_word_is_where_plain_adamw_arrives_on_the_whole_prompt(models, X, save):
    import torch

    encoder = models.encoder(save)
    found = invert_images(encoder, X[:2], ["a", "b"], settings=SHORT)
    start = invert_images(encoder, X[:2], ["a", "b"], settings=replace(SHORT, n_steps=1))
    prompt = "a photo of dog"
    tokens = encoder.towers.tokenize([prompt])
    whole = encoder.towers.token_embedding(encoder.towers.module)(tokens).detach()
    _, at = encoder.embed_prompt(prompt, "dog")
    target = torch.from_numpy(unit_rows(X))
    np.testing.assert_array_equal(start.started, found.started)

    def loss(word: Any, row: int) -> Any:
        text = encoder.encode_token_embeddings(
            torch.cat([whole[:, :at], word[None, None], whole[:, at + 1 :]], dim=1), prompt
        )
        return 1 - (text[0] / text[0].norm()) @ target[row]

    def slope(w: np.ndarray, row: int) -> np.ndarray:
        word = torch.tensor(w, dtype=torch.float32, requires_grad=True)
        return torch.autograd.grad(loss(word, row), word)[0].numpy()

    for row in range(2):
        first = first_word(X[row], encoder.token_width)
        assert 1 - float(loss(torch.tensor(first), row)) == pytest.approx(
            float(found.started[row]), abs=1e-5
        )
        word = plain_adamw(lambda w, row=row: slope(w, row), first, 5)
        # A step is 0.02 long whatever the slope, so rounding of a slope near zero shows.
        np.testing.assert_allclose(found.words[row], word, atol=1e-3)
    assert (found.cosines > found.started).all()


def first_word(x: np.ndarray, width: int) -> np.ndarray:
    from hashlib import sha256

    bits = "".join("1" if value > 0 else "0" for value in x)
    signs = bytes(int(bits[i : i + 8].ljust(8, "0"), 2) for i in range(0, len(bits), 8))
    number = int.from_bytes(sha256(signs).digest()[:8], "little")
    rng = np.random.default_rng([42, number])
    return np.float32(0.02) * rng.standard_normal(width, dtype=np.float32)


def test_words_start_small_and_each_from_its_own_numbers(rng):
    starts = np.stack([first_word(x, 64) for x in rng.normal(size=(500, 32))])
    # 32,000 draws: the standard deviation is known within 0.4 %, the mean within 0.0001.
    assert starts.std() == pytest.approx(0.02, rel=0.02)
    assert abs(starts.mean()) < 5e-4
    assert len({row.tobytes() for row in starts}) == 500


def test_neither_batches_nor_neighbours_nor_lengths_change_a_result(encoder, X):
    keys = list(range(7))
    whole = invert_images(encoder, X, keys, settings=SHORT)
    for other in (
        invert_images(encoder, X, keys, settings=replace(SHORT, batch_size=2)),
        invert_images(encoder, 3 * X, keys, settings=SHORT),
    ):
        # 0.02 a step where a slope is near zero, else float32 rounding through the tower.
        np.testing.assert_allclose(other.words, whole.words, atol=1e-3)
        np.testing.assert_allclose(other.cosines, whole.cosines, atol=1e-4)
    alone = invert_images(encoder, X[3:4], ["another name"], settings=SHORT)
    np.testing.assert_allclose(alone.words[0], whole.words[3], atol=1e-3)


def test_batches_that_do_not_fit_into_memory_are_halved(encoder, X, caplog):
    expected = invert_images(encoder, X, list(range(7)), settings=SHORT)
    starving = Counting(encoder, most=3)
    found = invert_images(starving, X, list(range(7)), settings=replace(SHORT, batch_size=6))
    assert starving.sizes == {3, 1}  # 6 and 7 - 6 pictures, of which 6 do not fit
    np.testing.assert_allclose(found.words, expected.words, atol=1e-3)
    assert [r.getMessage() for r in caplog.records] == ["out of memory: batches are now at most 3"]
    with pytest.raises(ModelError, match="memory of cpu ran out with a batch of one"):
        invert_images(Counting(encoder, most=0), X, list(range(7)), settings=SHORT)


def test_as_a_map_it_gives_the_same_texts_whatever_pictures_are_called(encoder, X):
    made = InversionMap(encoder, replace(SHORT, batch_size=3))
    expected = invert_images(encoder, X, list(range(7)), settings=SHORT)
    np.testing.assert_allclose(made.apply(X), expected.texts, atol=1e-3)
    np.testing.assert_allclose(made.started(X), expected.started, atol=1e-6)
    twice = made.apply(np.stack([X[0], 2 * X[0]]))
    np.testing.assert_allclose(twice[1], twice[0], atol=1e-3)
    assert made.apply(X[:0]).shape == (0, DIM)
    assert (made.dim_in, made.dim_out, made.encoder) == (DIM, DIM, encoder.name)


def test_a_map_is_another_one_if_anything_that_decides_differs(models, encoder):
    prints = [
        InversionMap(model, settings).fingerprint
        for model, settings in (
            (encoder, SHORT),
            (encoder, replace(SHORT, seed=1)),
            (encoder, replace(SHORT, n_steps=6)),
            (encoder, replace(SHORT, template="a drawing of {}")),
            (models.encoder(save_open_clip, seed=1), SHORT),
        )
    ]
    assert len(set(prints)) == len(prints)
    assert InversionMap(encoder, replace(SHORT, batch_size=1)).fingerprint == prints[0]
    with pytest.raises(ModelError, match="no text tower"):
        InversionMap(models.encoder(save_dinov2))


class Counting:
    """An encoder that counts what it inverts, is interrupted, or has little memory."""

    def __init__(self, encoder: Any, stop_at: int | None = None, most: int = 999) -> None:
        self._encoder, self._stop_at, self._most = encoder, stop_at, most
        self.n_calls, self.sizes = 0, set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._encoder, name)

    def embed_prompt(self, prompt: str, placeholder: str) -> Any:
        return self._encoder.embed_prompt(prompt, placeholder)

    def encode_token_embeddings(self, embeddings: Any, prompt: str) -> Any:
        self.n_calls += 1
        if self.n_calls == self._stop_at:
            raise KeyboardInterrupt
        if len(embeddings) > self._most:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        self.sizes.add(len(embeddings))
        return self._encoder.encode_token_embeddings(embeddings, prompt)


def test_an_interrupted_run_goes_on_where_it_was(encoder, X, tmp_path):
    path, keys = tmp_path / "new" / "oti.safetensors", list("abcdefg")
    settings = replace(SHORT, batch_size=3)
    calls = SHORT.n_steps + 2  # a batch: before, each step, after
    with pytest.raises(KeyboardInterrupt):
        invert_images(Counting(encoder, 2 * calls), X, keys, settings=settings, path=path)
    again = Counting(encoder)
    found = invert_images(again, X, keys, settings=settings, path=path)
    assert (again.n_calls, again.sizes) == (2 * calls, {3, 1})
    expected = invert_images(encoder, X, keys, settings=settings)
    assert (found.n_new, expected.n_new) == (4, 7)
    np.testing.assert_array_equal(found.texts, expected.texts)
    np.testing.assert_array_equal(found.started, expected.started)
    third = Counting(encoder)
    kept = invert_images(third, X[::-1], keys[::-1], settings=SHORT, path=path)
    assert (third.n_calls, kept.n_new) == (0, 0)
    np.testing.assert_array_equal(kept.words, expected.words[::-1])
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_long_runs_are_saved_before_they_end(encoder, X, tmp_path, monkeypatch):
    monkeypatch.setattr(oti_file, "_SAVE_EVERY_S", -1.0)
    file = oti_file.InversionFile.open(tmp_path / "a", {"encoder": "x"})
    parts = [np.ones((1, 3), np.float32)] * 2 + [np.ones(1, np.float32)] * 2
    file.add(["k"], ["digest"], parts)
    assert oti_file.InversionFile.open(tmp_path / "a", {"encoder": "x"}).holds("k", "digest")


def test_a_picture_whose_vector_changed_is_inverted_again(encoder, X, tmp_path):
    path, keys = tmp_path / "oti.safetensors", [1, 2, "2"]
    invert_images(encoder, X[:3], keys, settings=SHORT, path=path)
    changed = X[:3].copy()
    changed[1] += 0.5
    again = Counting(encoder)
    found = invert_images(again, changed, keys, settings=SHORT, path=path)
    assert again.sizes == {1}
    expected = invert_images(encoder, changed[1:2], [2], settings=SHORT)
    np.testing.assert_array_equal(found.words[1], expected.words[0])
    invert_images(again, changed, keys, settings=SHORT, path=path)
    assert again.n_calls == SHORT.n_steps + 2  # the new one was kept


def test_results_of_another_model_or_other_settings_are_never_mixed(models, encoder, X, tmp_path):
    path, keys = tmp_path / "oti.safetensors", list(range(7))
    invert_images(encoder, X, keys, settings=SHORT, path=path)
    other = models.encoder(save_open_clip, seed=1)
    with pytest.raises(MismatchError, match="another encoder"):
        invert_images(other, X, keys, settings=SHORT, path=path)
    with pytest.raises(MismatchError, match="another n_steps"):
        invert_images(encoder, X, keys, settings=replace(SHORT, n_steps=6), path=path)
    invert_images(encoder, X, keys, settings=replace(SHORT, batch_size=2), path=path)


@pytest.mark.parametrize("content", [b"", b"x" * 100, b"\x02\0\0\0\0\0\0\0{}"])
def test_a_file_that_is_no_inversion_is_refused_and_kept(encoder, X, tmp_path, content):
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    with pytest.raises(InputError, match="no inversion of intramodal"):
        invert_images(encoder, X, list(range(7)), settings=SHORT, path=path)
    assert path.read_bytes() == content


def test_what_cannot_be_inverted_is_refused(models, encoder, X):
    keys = list(range(7))
    with pytest.raises(ModelError, match="no text tower"):
        invert_images(models.encoder(save_dinov2), X, keys)
    with pytest.raises(ModelError, match="one token of this model"):
        invert_images(encoder, X, keys, settings=OtiSettings(template="£ $ * x dog {}"))
    with pytest.raises(InputError, match=r"\(7, 16\), got \(7, 3\)"):
        invert_images(encoder, X[:, :3], keys)
    with pytest.raises(InputError, match="different"):
        invert_images(encoder, X, [1] * 7)
    with pytest.raises(InputError, match="no images"):
        invert_images(encoder, X[:0], [])
    with pytest.raises(InputError, match="row 0 of the vectors"):
        invert_images(encoder, np.where(np.eye(7, DIM) > 0, np.nan, X), keys)
    for options, words in (
        ({"template": "a photo"}, "template"),
        ({"n_steps": 0}, "n_steps"),
        ({"batch_size": 0}, "batch_size"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"init_std": -1.0}, "init_std"),
    ):
        with pytest.raises(InputError, match=words):
            OtiSettings(**options)


def test_retrieval_refuses_pictures_that_the_table_lacks(encoder, X):
    found = invert_images(encoder, X, list(range(7)), settings=SHORT)
    table = VectorTable(list(range(6)), {"raw": X[:6]}, {"label": list("aabbcc")})
    with pytest.raises(InputError, match="1 inverted images are not in the table"):
        evaluate_inversion(table, found, fields=["label"])


def test_texts_ask_and_pictures_answer_leave_one_out(encoder, X):
    found = invert_images(encoder, X, [6, 5, 4, 3, 2, 1, 0], settings=SHORT)
    table = VectorTable(list(range(7)), {"raw": X[::-1]}, {"label": list("aabbabb")})
    result = evaluate_inversion(table, found, fields=["label"], resampling=PLAIN)["label", "oti"]
    labels = dict(zip(table.ids, table.payload["label"], strict=True))
    for key, ap in zip(result.query_ids, result.ap, strict=True):
        scores = unit_rows(X) @ unit_rows(found.texts)[found.keys.index(key)]
        order = [found.keys[i] for i in np.argsort(-scores) if found.keys[i] != key]
        hits = [labels[other] == labels[key] for other in order]
        precision = [sum(hits[: r + 1]) / (r + 1) for r, hit in enumerate(hits) if hit]
        assert ap == pytest.approx(np.mean(precision))


def test_pictures_without_a_text_answer_but_never_ask(encoder, X):
    found = invert_images(encoder, X[[1, 4]], [1, 4], settings=SHORT)
    table = VectorTable(list(range(7)), {"raw": X}, {"label": list("abababa")})
    result = evaluate_inversion(table, found, fields=["label"], resampling=PLAIN)["label", "oti"]
    assert (result.query_ids, result.n_gallery) == ([1, 4], 7)
    scores = unit_rows(found.texts) @ unit_rows(X).T
    for row, key in enumerate([1, 4]):
        order = [i for i in np.argsort(-scores[row]) if i != key]
        ranks = [r for r, i in enumerate(order, 1) if i % 2 == key % 2]
        precision = [place / r for place, r in enumerate(ranks, 1)]
        assert result.ap[row] == pytest.approx(np.mean(precision))
    evens, everything = np.arange(7) % 2 == 0, np.ones(7, dtype=bool)
    split = evaluate_inversion(
        table, found, fields=["label"], sides=(evens, everything), resampling=PLAIN
    )["label", "oti"]
    assert split.query_ids == [4]


def test_differences_are_those_of_the_results_and_have_the_sign_of_texts_less_vector(rng):
    n, centres = 60, rng.normal(size=(6, 8))
    kinds = np.arange(n) % 6
    X = (centres[kinds] + 0.8 * rng.normal(size=(n, 8))).astype(np.float32)
    noise = rng.normal(size=(n, 8)).astype(np.float32)
    texts = (centres[kinds] + 0.1 * rng.normal(size=(n, 8))).astype(np.float32)
    table = VectorTable(list(range(n)), {"raw": X, "noise": noise}, {"kind": kinds.tolist()})
    task = RetrievalTask.from_table(table, "kind", max_queries=40, seed=1)
    partly = np.full_like(texts, np.nan)
    partly[task.query_rows] = texts[task.query_rows]
    found = compare_inversion(task, table, partly, vector="raw", others=["raw", "noise"], seed=3)
    assert [result.vector for result in found.results] == ["oti", "raw", "noise"]
    asking, raw, _ = found.results
    assert asking.query_ids == raw.query_ids == [table.ids[row] for row in task.query_rows]
    for other in found.results[1:]:
        effect = found.effects[other.vector]
        assert effect.delta == pytest.approx(asking.map - other.map)
        low, high = effect.interval
        assert low < effect.delta < high
    assert found.effects["noise"].interval[0] > 0 < found.effects["raw"].interval[0]
    itself = compare_inversion(task, table, X, vector="raw", others=["raw"])
    assert itself.effects["raw"].delta == 0
    with pytest.raises(InputError, match="has no text"):
        compare_inversion(task, table, np.where(kinds[:, None] == 0, np.nan, X), vector="raw",
                          others=["raw"])  # fmt: skip
    taken = VectorTable(table.ids, {"raw": X, "oti": X}, table.payload)
    with pytest.raises(InputError, match="a vector 'oti' already"):
        compare_inversion(task, taken, X, vector="raw", others=["raw"])


@pytest.fixture
def photos(encoder: Any) -> ImageCollection:
    """Return twelve points with two vectors, one of them made from the other."""
    X = np.random.default_rng(5).normal(size=(12, DIM)).astype(np.float32)
    half = Projection(np.eye(DIM, DIM // 2, dtype=np.float32), "pca", encoder.name,
                      encoder.fingerprint)  # fmt: skip
    raw = VectorOrigin(encoder.name, encoder.fingerprint)
    pca = replace(raw, projection=half.fingerprint, source="raw")
    made = ImageCollection.create(
        open_store(":memory:"), "photos", {"raw": (DIM, raw), "pca": (DIM // 2, pca)}
    )
    payloads = [{"label": f"l{i % 3}"} for i in range(12)]
    made.store.upsert("photos", list(range(12)), {"raw": X, "pca": half.apply(X)}, payloads)
    return made


def test_a_collection_is_inverted_and_judged_in_one_call_wherever_texts_are_kept(
    encoder, photos, tmp_path
):
    made = InversionMap(encoder, SHORT)

    def backfilled(ids: Any, X: np.ndarray) -> KeptTexts:
        done = backfill(photos, made, only=ids, reindex=False)
        return KeptTexts(stored_texts(photos, "oti", ids), done.projected, {"vector": "oti"})

    path = tmp_path / "texts.safetensors"
    plain, file, again, vector = (
        evaluate_inversion(photos, made, fields=["label"], invert=invert)
        for invert in (None, made.kept_in(path), made.kept_in(path), backfilled)
    )
    assert [result.vector for result in plain] == ["oti", "raw", "pca"]
    assert list(plain.effects) == [("label", "raw"), ("label", "pca")]
    assert plain.effects["label", "raw"].delta == pytest.approx(
        plain["label", "oti"].map - plain["label", "raw"].map
    )
    told = plain.to_dict()
    assert (told["collection"], told["model"], told["protocol"]) == (
        "photos", encoder.name, "leave-one-out"
    )  # fmt: skip
    assert [found.kept.n_new for found in (plain, file, again, vector)] == [12, 12, 0, 12]
    assert [found.kept.place for found in (plain, file, vector)] == [
        {}, {"file": str(path)}, {"vector": "oti"}
    ]  # fmt: skip
    for other in (file, again, vector):
        # A store keeps unit vectors.
        np.testing.assert_allclose(
            unit_rows(other.kept.texts), unit_rows(plain.kept.texts), atol=1e-5
        )
        assert other["label", "oti"].map == pytest.approx(plain["label", "oti"].map, abs=1e-3)
    ready = invert_images(encoder, *_read(photos), settings=SHORT)
    same = evaluate_inversion(photos, ready, fields=["label"])
    assert same["label", "oti"].map == pytest.approx(plain["label", "oti"].map)
    assert same.cosines["cosine_before"] == pytest.approx(plain.cosines["cosine_before"])
    assert same.to_dict()["settings"] is None


def _read(photos: ImageCollection) -> tuple[np.ndarray, list[Any]]:
    table = photos.table(["raw"])
    return table.vectors["raw"], table.ids


def test_a_vector_that_is_made_from_another_is_not_inverted(encoder, photos):
    with pytest.raises(InputError, match="'pca' is made from another vector; invert that one"):
        evaluate_inversion(photos, InversionMap(encoder, SHORT), vector="pca", fields=["label"])


def test_importing_it_loads_no_torch():
    module = "intramodal.evaluation.rivals.oti"
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
