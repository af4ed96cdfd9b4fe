"""What every encoder must do; one subclass a family names how its tiny model is saved."""

from __future__ import annotations

import io
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from intramodal.errors import ImageError, InputError, ModelError
from intramodal.ingest.encoders.encoder import DualEncoder
from intramodal.ingest.encoders.identity import weights_digest
from intramodal.ingest.encoders.registry import load_encoder
from intramodal.types import Encoder, Floats, HasProjectors, TextInvertible, fingerprint, unit_rows
from tests.tiny_models import DIM, TEXTS, Save, Shelf

# bfloat16 has 8 bits. With weights as small as libraries draw them, tiny towers stay within
# 1.4e-4 (16 numbers average errors out less than the 512 of ViT-B/32, which stays within 6e-5).
BF16_COSINE = 0.9998

# Batched matrix products sum up to 192 float32 terms in another order than single ones; the
# error grows through two to twelve layers whose vectors have lengths of about 1 to 30.
BATCHING = {"rtol": 1e-4, "atol": 1e-4}


def pictures(n: int, seed: int = 3) -> list[NDArray[np.uint8]]:
    """Return `n` different pictures: coarse patterns of odd sizes, upright and wide."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(n):
        width, height = rng.integers(20, 60, 2)
        small = Image.fromarray(rng.integers(0, 256, (5, 4, 3), dtype=np.uint8))
        found.append(np.asarray(small.resize((int(width), int(height)), Image.Resampling.BICUBIC)))
    return found


def cosines(a: Floats, b: Floats) -> NDArray[np.float64]:
    return np.einsum("ij,ij->i", unit_rows(a).astype(np.float64), unit_rows(b))


class EncoderContract:
    """All promises of `Encoder`."""

    save: ClassVar[Save]
    has_text: ClassVar[bool] = False

    # Change of a saved model: what of the identity it changes.
    knobs: ClassVar[dict[str, tuple[dict[str, Any], set[str]]]] = {}

    @pytest.fixture
    def name(self, shelf: Shelf) -> str:
        return shelf.name(type(self).save)

    @pytest.fixture
    def encoder(self, shelf: Shelf) -> DualEncoder:
        return shelf.encoder(type(self).save)

    def test_it_keeps_the_protocol(self, encoder: Encoder, name: str) -> None:
        assert isinstance(encoder, Encoder)
        assert (encoder.name, encoder.dim, encoder.has_text) == (name, DIM, self.has_text)
        assert (encoder.device, encoder.precision) == ("cpu", "fp32")
        assert encoder.fingerprint == fingerprint(encoder.identity)
        assert isinstance(encoder, TextInvertible) == isinstance(encoder, HasProjectors)
        assert isinstance(encoder, TextInvertible) == self.has_text
        assert repr(encoder).endswith(f"({name!r}, dim={DIM}, fp32 on cpu)")

    # images

    def test_embeddings_are_float32_in_order_and_not_normalised(self, encoder: Encoder) -> None:
        images = pictures(5)
        embeddings = encoder.encode_images(images)
        assert (embeddings.shape, embeddings.dtype) == ((5, DIM), np.float32)
        for row, image in enumerate(images):
            alone = encoder.encode_images([image])[0]
            np.testing.assert_allclose(embeddings[row], alone, **BATCHING)
        assert np.abs(np.linalg.norm(embeddings, axis=1) - 1).min() > 0.1
        assert len({row.tobytes() for row in embeddings}) == 5

    def test_the_size_of_batches_does_not_matter(self, encoder: Encoder) -> None:
        images = pictures(5)
        expected = encoder.encode_images(images)
        for batch_size in (1, 2):
            got = encoder.encode_images(images, batch_size=batch_size)
            np.testing.assert_allclose(got, expected, **BATCHING)

    def test_two_loads_are_one_model(self, encoder: Encoder, name: str) -> None:
        again = load_encoder(name, device="cpu")
        assert again is not encoder
        assert again.fingerprint == encoder.fingerprint
        images = pictures(4)
        np.testing.assert_array_equal(again.encode_images(images), encoder.encode_images(images))
        if self.has_text:
            np.testing.assert_array_equal(again.encode_texts(TEXTS), encoder.encode_texts(TEXTS))

    def test_file_bytes_pil_image_and_array_give_the_same_vector(
        self, encoder: Encoder, tmp_path: Path
    ) -> None:
        (array,) = pictures(1)
        Image.fromarray(array).save(tmp_path / "a.png")
        data = (tmp_path / "a.png").read_bytes()
        forms = [array, Image.fromarray(array), Image.open(io.BytesIO(data)), data,
                 bytearray(data), tmp_path / "a.png", str(tmp_path / "a.png")]  # fmt: skip
        first, *others = (encoder.encode_images([form]) for form in forms)
        for other in others:
            np.testing.assert_array_equal(other, first)

    def test_pictures_are_what_preprocess_makes_of_them(self, encoder: Encoder) -> None:
        images = pictures(4)
        side = encoder.image_size
        pixels = np.stack([encoder.preprocess(Image.fromarray(image)) for image in images])
        assert (pixels.shape, pixels.dtype) == ((4, side, side, 3), np.uint8)
        expected = encoder.encode_images(images)
        np.testing.assert_array_equal(encoder.encode_pixels(pixels), expected)
        pixels.flags.writeable = False
        np.testing.assert_array_equal(encoder.encode_pixels(pixels), expected)
        np.testing.assert_array_equal(encoder.encode_pixels(pixels[:, ::-1][:, ::-1]), expected)

    def test_preprocess_may_be_called_from_many_threads(self, encoder: Encoder) -> None:
        images = [Image.fromarray(image) for image in pictures(12)]
        expected = [encoder.preprocess(image) for image in images]
        with ThreadPoolExecutor(4) as pool:
            got = list(pool.map(encoder.preprocess, images))
        np.testing.assert_array_equal(got, expected)

    def test_nothing_gives_no_rows(self, encoder: Encoder) -> None:
        side = encoder.image_size
        pixels = np.empty((0, side, side, 3), dtype=np.uint8)
        for nothing in (encoder.encode_images([]), encoder.encode_pixels(pixels)):
            assert (nothing.shape, nothing.dtype) == ((0, DIM), np.float32)

    def test_what_is_no_picture_is_refused(self, encoder: Encoder, tmp_path: Path) -> None:
        side = encoder.image_size
        for bad in (3, None, np.zeros((8, 8, 3)), np.zeros((8, 8, 2), np.uint8)):
            with pytest.raises(InputError, match="an image "):
                encoder.encode_images([bad])
        for broken in (b"", b"GIF89a", tmp_path / "absent.png", tmp_path):
            with pytest.raises(ImageError):
                encoder.encode_images([broken])
        for pixels in (
            np.zeros((1, 3, side, side), np.uint8),
            np.zeros((side, side, 3), np.uint8),
            np.zeros((1, side, side, 3), np.float32),
        ):
            with pytest.raises(InputError, match="pixels are uint8"):
                encoder.encode_pixels(pixels)
        with pytest.raises(InputError, match="batch_size"):
            encoder.encode_images(pictures(1), batch_size=0)

    def test_encoding_leaves_model_and_pictures_as_they_were(self, encoder: DualEncoder) -> None:
        images = pictures(3)
        kept = [image.copy() for image in images]
        before = weights_digest(encoder.towers.module)
        encoder.encode_images(images)
        for image, copy in zip(images, kept, strict=True):
            np.testing.assert_array_equal(image, copy)
        assert weights_digest(encoder.towers.module) == before
        assert not encoder.towers.module.training

    # identity

    def test_every_knob_that_changes_vectors_changes_the_fingerprint(
        self, encoder: Encoder, shelf: Shelf
    ) -> None:
        seen = {encoder.fingerprint}
        for knob, (changes, expected) in self.knobs.items():
            other = shelf.encoder(type(self).save, **changes)
            changed = {key for key, value in encoder.identity.items()
                       if other.identity[key] != value}  # fmt: skip
            assert changed == expected, knob
            seen.add(other.fingerprint)
        assert len(seen) == 1 + len(self.knobs)

    def test_the_folder_and_the_precision_do_not_change_the_fingerprint(
        self, encoder: Encoder, name: str, tmp_path: Path
    ) -> None:
        source, _, path = name.rpartition(":")
        copied = shutil.copytree if Path(path).is_dir() else shutil.copyfile
        moved = copied(path, tmp_path / "elsewhere")
        for precision in ("fp32", "bf16"):
            other = load_encoder(f"{source}:{moved}", device="cpu", precision=precision)
            assert other.precision == precision
            assert other.fingerprint == encoder.fingerprint

    def test_bf16_gives_nearly_the_same_vectors_as_float32(self, shelf: Shelf) -> None:
        name = shelf.name(type(self).save, stir=0.0)
        full, half = (load_encoder(name, device="cpu", precision=p) for p in ("fp32", "bf16"))
        images = pictures(2)
        embeddings = half.encode_images(images)
        assert embeddings.dtype == np.float32
        assert not np.array_equal(embeddings, full.encode_images(images))
        assert cosines(embeddings, full.encode_images(images)).min() > BF16_COSINE
        if self.has_text:
            texts = half.encode_texts(TEXTS)
            assert texts.dtype == np.float32
            assert cosines(texts, full.encode_texts(TEXTS)).min() > BF16_COSINE

    def test_a_gpu_gives_the_same_fingerprint_and_vectors(
        self, encoder: Encoder, name: str
    ) -> None:
        import torch

        if not torch.cuda.is_available():
            pytest.skip("no GPU")
        other = load_encoder(name, device="cuda", precision="fp32")
        assert (other.device, other.fingerprint) == ("cuda", encoder.fingerprint)
        images = pictures(6)
        cosine = cosines(other.encode_images(images), encoder.encode_images(images))
        assert cosine.min() > 0.9999  # TF32 is off by default; another order of summation


class ImageEncoderContract(EncoderContract):
    """What an encoder without texts says of them."""

    def test_texts_are_refused_in_one_sentence(self, encoder: Encoder) -> None:
        with pytest.raises(ModelError, match="no text tower"):
            encoder.encode_texts(["a photo of a cat"])
        assert encoder.identity["tokenizer"] is None


class DualEncoderContract(EncoderContract):
    """All promises of an encoder with a text tower."""

    has_text = True
    prompt: ClassVar[str] = "a photo of $"
    placeholder: ClassVar[str] = "$"
    word: ClassVar[str] = "cat"
    ends_in_matrices: ClassVar[bool] = True
    reads_to_the_end: ClassVar[bool] = True
    """Whether the text tower is causal and does not see what follows the text."""

    def last_features(self, encoder: DualEncoder, images: Any, texts: Any) -> tuple[Any, Any]:
        """Return what the towers' last matrices are applied to, for pixels and for tokens."""
        raise NotImplementedError

    # texts

    def test_text_embeddings_are_float32_in_order_and_not_normalised(
        self, encoder: Encoder
    ) -> None:
        embeddings = encoder.encode_texts(TEXTS)
        assert (embeddings.shape, embeddings.dtype) == ((len(TEXTS), DIM), np.float32)
        for row, text in enumerate(TEXTS):
            alone = encoder.encode_texts([text])[0]
            np.testing.assert_allclose(embeddings[row], alone, **BATCHING)
        assert np.abs(np.linalg.norm(embeddings, axis=1) - 1).min() > 0.1
        assert len({row.tobytes() for row in embeddings}) == len(TEXTS)

    def test_neither_batch_size_nor_neighbours_change_a_text(self, encoder: Encoder) -> None:
        texts = [*TEXTS, "a very long " + "photo of a cat " * 100]
        expected = encoder.encode_texts(texts)
        for batch_size in (1, 4):
            got = encoder.encode_texts(texts, batch_size=batch_size)
            np.testing.assert_allclose(got, expected, **BATCHING)

    def test_case_does_not_count(self, encoder: Encoder) -> None:
        upper, lower = encoder.encode_texts(["A Photo of a CAT", "a photo of a cat"])
        np.testing.assert_array_equal(upper, lower)

    def test_no_texts_give_no_rows(self, encoder: Encoder) -> None:
        nothing = encoder.encode_texts([])
        assert (nothing.shape, nothing.dtype) == ((0, DIM), np.float32)

    def test_what_is_no_list_of_texts_is_refused(self, encoder: Any) -> None:
        for bad in ("a cat", [3], [None], [b"cat"]):
            with pytest.raises(InputError, match="list of str"):
                encoder.encode_texts(bad)
        with pytest.raises(InputError, match="batch_size"):
            encoder.encode_texts(["a cat"], batch_size=0)

    # projectors

    def test_the_projectors_are_the_towers_last_matrices(self, encoder: DualEncoder) -> None:
        if not self.ends_in_matrices:
            with pytest.raises(ModelError, match="IsoCLIP"):
                encoder.projectors()
            return
        images, texts = pictures(3), TEXTS[:3]
        features = self.last_features(encoder, images, texts)
        encoded = encoder.encode_images(images), encoder.encode_texts(texts)
        for W, X, expected in zip(encoder.projectors(), features, encoded, strict=True):
            assert (W.dtype, W.shape) == (np.float64, (DIM, X.shape[1]))
            # float64 here, float32 over up to 192 terms there
            np.testing.assert_allclose(X.astype(np.float64) @ W.T, expected, rtol=1e-4, atol=1e-4)
        encoder.projectors()[0][:] = 0  # a copy: the model is untouched
        np.testing.assert_array_equal(encoder.encode_images(images), encoded[0])

    # inversion

    def test_a_real_word_put_back_gives_the_text_itself(self, encoder: DualEncoder) -> None:
        real = self.prompt.replace(self.placeholder, self.word)
        embeddings, position = encoder.embed_prompt(self.prompt, self.placeholder)
        wanted, where = encoder.embed_prompt(real, self.word)
        assert (position, embeddings.shape) == (where, wanted.shape)
        assert embeddings.shape[::2] == (1, encoder.token_width)
        embeddings[0, position] = wanted[0, position]
        got = encoder.encode_token_embeddings(embeddings, self.prompt).numpy()
        np.testing.assert_allclose(got, encoder.encode_texts([real]), **BATCHING)

    def test_a_prompt_is_as_long_as_the_tower_reads(self, encoder: DualEncoder) -> None:
        embeddings, _ = encoder.embed_prompt(self.prompt, self.placeholder)
        tokens = encoder.towers.tokenize([self.prompt])
        full = encoder.towers.token_embedding(encoder.towers.module)(tokens).detach()
        n_used, n_positions = embeddings.shape[1], full.shape[1]
        assert n_used < n_positions if self.reads_to_the_end else n_used == n_positions
        got, expected = (
            encoder.encode_token_embeddings(part, self.prompt).numpy()
            for part in (embeddings, full)
        )
        np.testing.assert_allclose(got, expected, **BATCHING)
        if self.reads_to_the_end:  # and no shorter than that
            last = embeddings.clone()
            last[:, -1] *= -1
            changed = encoder.encode_token_embeddings(last, self.prompt).numpy()
            assert np.abs(changed - got).max() > 1e-3

    def test_many_pseudo_words_are_encoded_at_once(self, encoder: DualEncoder) -> None:
        import torch

        embeddings, position = encoder.embed_prompt(self.prompt, self.placeholder)
        many = embeddings.repeat(3, 1, 1)
        many[:, position] = torch.randn(3, encoder.token_width, generator=torch.manual_seed(0))
        together = encoder.encode_token_embeddings(many, self.prompt).numpy()
        for row in range(3):
            alone = encoder.encode_token_embeddings(many[row : row + 1], self.prompt).numpy()
            np.testing.assert_allclose(together[row : row + 1], alone, **BATCHING)
        assert len({row.tobytes() for row in together}) == 3

    def test_gradients_reach_the_pseudo_word_and_nothing_else(self, encoder: DualEncoder) -> None:
        import torch

        base, position = encoder.embed_prompt(self.prompt, self.placeholder)
        word = base[0, position].clone().requires_grad_()
        shift = torch.zeros_like(base).index_put((torch.tensor(0), torch.tensor(position)), word)
        mask = torch.ones_like(base)
        mask[0, position] = 0
        encoder.encode_token_embeddings(base * mask + shift, self.prompt)[0, 0].backward()
        assert word.grad is not None
        assert float(word.grad.abs().max()) > 0
        assert all(weight.grad is None for weight in encoder.towers.module.parameters())

    def test_the_gradient_is_the_slope(self, encoder: DualEncoder) -> None:
        import torch

        base, position = encoder.embed_prompt(self.prompt, self.placeholder)
        embeddings = base.clone().requires_grad_()
        encoder.encode_token_embeddings(embeddings, self.prompt).sum().backward()
        assert embeddings.grad is not None
        step = torch.zeros_like(base)
        step[0, position] = embeddings.grad[0, position]
        step *= 3e-3 / step.norm()
        ahead, behind = (
            encoder.encode_token_embeddings(base + sign * step, self.prompt).sum()
            for sign in (1, -1)
        )
        expected = 2 * float((embeddings.grad * step).sum())
        # central difference: an error of third order in the step, and 16 float32 roundings
        assert float(ahead - behind) == pytest.approx(expected, rel=0.03, abs=1e-5)

    @pytest.mark.parametrize("placeholder", ["", "zebra crossing", "absent"])
    def test_a_placeholder_that_is_not_one_token_is_refused(
        self, encoder: DualEncoder, placeholder: str
    ) -> None:
        with pytest.raises(InputError, match="placeholder"):
            encoder.embed_prompt(self.prompt, placeholder)

    def test_a_placeholder_that_occurs_twice_is_refused(self, encoder: DualEncoder) -> None:
        with pytest.raises(InputError, match="once"):
            encoder.embed_prompt("the cat and the cat", "cat")

    def test_texts_are_encoded_as_ever_after_an_inversion(self, encoder: DualEncoder) -> None:
        before = encoder.encode_texts(TEXTS)
        embeddings, _ = encoder.embed_prompt(self.prompt, self.placeholder)
        encoder.encode_token_embeddings(embeddings + 1, self.prompt)
        np.testing.assert_array_equal(encoder.encode_texts(TEXTS), before)
