from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from intramodal.errors import ModelError
from intramodal.ingest.encoders.registry import load_encoder
from intramodal.ingest.encoders.transformers import preprocessing_of
from tests.tiny_models import (
    TEXTS,
    Save,
    Shelf,
    save_clip,
    save_dinov2,
    save_dinov2_registers,
    save_dinov3,
    save_naflex,
    save_open_clip,
    save_siglip,
    save_siglip2,
)

for library in ("torch", "open_clip", "transformers", "sentencepiece"):
    pytest.importorskip(library)

pytestmark = pytest.mark.usefixtures("offline")

PICTURES = list(np.random.default_rng(5).integers(0, 256, (3, 40, 50, 3), dtype=np.uint8))


def edit(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def refusal(name: str) -> str:
    with pytest.raises(ModelError) as caught:
        load_encoder(name, device="cpu")
    message = str(caught.value)
    assert repr(name) in message
    assert "\n" not in message
    return message


# outputs


@pytest.mark.parametrize("save", [save_clip, save_siglip])
def test_objects_and_tensors_are_understood_alike(
    shelf: Shelf, save: Save, monkeypatch: pytest.MonkeyPatch
) -> None:
    """transformers 5 returns an object from get_image_features, 4 the tensor itself."""
    encoder = shelf.encoder(save)
    module: Any = encoder.towers.module
    images, texts = encoder.encode_images(PICTURES), encoder.encode_texts(TEXTS)
    is_tensor = hasattr(
        module.get_text_features(input_ids=encoder.towers.tokenize(["a"])), "dtype"
    )
    for method in ("get_image_features", "get_text_features"):
        original = getattr(module, method)

        def other_form(original: Any = original, **inputs: Any) -> Any:
            output = original(**inputs)
            return SimpleNamespace(pooler_output=output) if is_tensor else output.pooler_output

        monkeypatch.setattr(module, method, other_form)
    np.testing.assert_array_equal(encoder.encode_images(PICTURES), images)
    np.testing.assert_array_equal(encoder.encode_texts(TEXTS), texts)


# texts


@pytest.mark.parametrize("save", [save_siglip, save_siglip2])
def test_siglip_pads_every_text_to_64_tokens_on_the_right(shelf: Shelf, save: Save) -> None:
    tokens = shelf.encoder(save).towers.tokenize(["a photo of a cat", "", "cat " * 200])
    assert tokens.shape == (3, 64)
    assert len(set(tokens[0, 6:].tolist())) == 1
    assert len(set(tokens[2, 5:-1].tolist())) == 1  # cut off, with room for the end
    assert tokens[2, -1] == shelf.encoder(save).towers.tokenize([""])[0, 0]  # the end itself


@pytest.mark.parametrize("save", [save_siglip, save_siglip2])
def test_siglip_sees_its_padding(
    shelf: Shelf, save: Save, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = shelf.encoder(save)
    module: Any = encoder.towers.module
    original, seen = module.get_text_features, []

    def noting(**inputs: Any) -> Any:
        seen.append(sorted(inputs))
        return original(**inputs)

    monkeypatch.setattr(module, "get_text_features", noting)
    got = encoder.encode_texts(TEXTS)
    assert seen == [["input_ids"]]
    tokens = encoder.towers.tokenize(TEXTS)
    masked = original(input_ids=tokens, attention_mask=(tokens != tokens[3, -1]).long())
    masked = getattr(masked, "pooler_output", masked).detach().numpy()
    assert not np.allclose(got, masked, rtol=0.01)  # what the mask would have done


def test_siglip_drops_punctuation_and_siglip2_keeps_it(shelf: Shelf) -> None:
    for save, is_same in ((save_siglip, True), (save_siglip2, False)):
        plain, marked = shelf.encoder(save).encode_texts(["a cat", "a cat!"])
        assert np.array_equal(plain, marked) == is_same


@pytest.mark.parametrize("kind", ["GemmaTokenizer", "Siglip2Tokenizer"])
def test_siglip2_lowercases_whatever_its_tokenizer_is_called(
    copied: Callable[..., Path], kind: str
) -> None:
    transformers = pytest.importorskip("transformers")
    if not hasattr(transformers, kind):
        pytest.skip(f"this transformers has no {kind}")
    folder = copied(save_siglip2)
    edit(folder / "tokenizer_config.json", tokenizer_class=kind)
    upper, lower = load_encoder(f"local-dir:{folder}").encode_texts(["The DOG", "the dog"])
    np.testing.assert_array_equal(upper, lower)


def test_the_side_of_the_padding_is_part_of_the_identity(
    shelf: Shelf, copied: Callable[..., Path]
) -> None:
    folder = copied(save_siglip2)
    edit(folder / "tokenizer_config.json", padding_side="left")
    encoder = load_encoder(f"local-dir:{folder}")
    assert encoder.identity["architecture"]["text"]["padding_side"] == "left"
    assert encoder.fingerprint != shelf.encoder(save_siglip2).fingerprint


def test_a_siglip_without_its_tokenizer_is_refused(copied: Callable[..., Path]) -> None:
    folder = copied(save_siglip)
    (folder / "spiece.model").unlink()
    assert "holds no tokenizer" in refusal(f"local-dir:{folder}")


# incomplete or foreign folders


def test_a_folder_that_is_not_there_is_one_sentence() -> None:
    assert "there is no directory /nowhere/clip" in refusal("local-dir:/nowhere/clip")


def test_a_folder_of_open_clip_is_named_as_such(shelf: Shelf) -> None:
    name = shelf.name(save_open_clip)
    assert f"write {name}" in refusal(name.removeprefix("open_clip:"))


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    assert "holds no config.json" in refusal(f"local-dir:{tmp_path}")


@pytest.mark.parametrize("save", [save_clip, save_siglip, save_dinov2, save_dinov3])
def test_a_folder_without_weights_is_refused(copied: Callable[..., Path], save: Save) -> None:
    folder = copied(save)
    (folder / "model.safetensors").unlink()
    assert "cannot be loaded" in refusal(f"local-dir:{folder}")


@pytest.mark.parametrize(
    ("save", "lost"),
    [
        (save_clip, "visual_projection.weight"),
        (save_siglip, "text_model.head.bias"),
        (save_dinov2, "encoder.layer.1.norm2.weight"),
    ],
)
def test_weights_that_lack_a_tensor_are_refused_by_its_name(
    copied: Callable[..., Path], save: Save, lost: str
) -> None:
    from safetensors.torch import load_file, save_file

    file = copied(save) / "model.safetensors"
    weights = load_file(file)
    del weights[lost]
    save_file(weights, file, metadata={"format": "pt"})
    message = refusal(f"local-dir:{file.parent}")
    assert lost in message
    assert "would be random" in message


def test_weights_of_another_shape_are_refused(copied: Callable[..., Path]) -> None:
    from safetensors.torch import load_file, save_file

    file = copied(save_clip) / "model.safetensors"
    weights = load_file(file)
    weights["visual_projection.weight"] = weights["visual_projection.weight"][:-1].contiguous()
    save_file(weights, file, metadata={"format": "pt"})
    refusal(f"local-dir:{file.parent}")


def test_weights_that_are_cut_off_are_refused(copied: Callable[..., Path]) -> None:
    file = copied(save_clip) / "model.safetensors"
    file.write_bytes(file.read_bytes()[:5000])
    assert "cannot be loaded" in refusal(f"local-dir:{file.parent}")


def test_siglip2_with_the_aspect_ratio_kept_is_named_as_such(shelf: Shelf) -> None:
    message = refusal(shelf.name(save_naflex))
    assert "NaFlex" in message
    assert "siglip2-base-patch16-224" in message


def test_a_model_of_another_kind_is_answered_with_the_kinds(
    copied: Callable[..., Path],
) -> None:
    folder = copied(save_clip)
    edit(folder / "config.json", model_type="bert")
    assert "model_type is bert; supported are clip, siglip" in refusal(f"local-dir:{folder}")


@pytest.mark.parametrize("content", ["{", "[]", "{}"])
def test_a_damaged_config_is_refused(copied: Callable[..., Path], content: str) -> None:
    folder = copied(save_clip)
    (folder / "config.json").write_text(content)
    refusal(f"local-dir:{folder}")


def test_a_missing_preprocessing_is_refused(copied: Callable[..., Path]) -> None:
    folder = copied(save_dinov2)
    (folder / "preprocessor_config.json").unlink()
    assert "cannot be loaded" in refusal(f"local-dir:{folder}")


def test_a_preprocessing_of_ones_own_is_used_and_part_of_the_identity(shelf: Shelf) -> None:
    name = shelf.name(save_dinov2_registers)
    own = shelf.encoder(save_dinov2_registers)
    settings = own.towers.preprocessing
    other = replace(settings, resize=settings.side, interpolation="bilinear", odd_margin="even")
    assert settings.resize > settings.side
    given = load_encoder(name, device="cpu", preprocessing=other)
    picture = Image.fromarray(PICTURES[0])
    np.testing.assert_array_equal(given.preprocess(picture), other(picture))
    assert not np.array_equal(given.preprocess(picture), own.preprocess(picture))
    assert given.fingerprint != own.fingerprint
    again = load_encoder(name, device="cpu", preprocessing=settings)
    assert again.fingerprint == own.fingerprint


def test_a_preprocessing_of_another_side_is_refused(shelf: Shelf) -> None:
    settings = shelf.encoder(save_dinov2_registers).towers.preprocessing
    with pytest.raises(
        ModelError, match=r"takes inputs of \d+ pixels and the preprocessing gives"
    ):
        load_encoder(
            shelf.name(save_dinov2_registers),
            device="cpu",
            preprocessing=replace(settings, side=settings.side + 1, resize=settings.side + 1),
        )


def test_a_hub_name_without_a_network_is_one_sentence() -> None:
    message = refusal("hf:openai/clip-vit-base-patch32")
    assert "without a network" in message
    assert "local-dir:PATH" in message


# the hub's cache


@pytest.fixture
def hub(shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that puts a tiny model into the hub's cache, as a download would."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    # transformers 4 keeps a copy of it
    monkeypatch.setattr("transformers.utils.hub.TRANSFORMERS_CACHE", str(tmp_path), raising=False)

    def put(save: Save, repo: str, **revisions: str) -> None:
        root = tmp_path / f"models--{repo.replace('/', '--')}"
        (root / "refs").mkdir(parents=True)
        for seed, (ref, commit) in enumerate(revisions.items()):
            source = shelf.name(save, seed=seed).rpartition("local-dir:")[2]
            shutil.copytree(source, root / "snapshots" / commit)
            (root / "refs" / ref).write_text(commit)

    return put


def test_a_model_of_the_hub_is_the_same_as_its_folder(
    shelf: Shelf, hub: Callable[..., None]
) -> None:
    hub(save_clip, "org/name", main="a" * 40, v2="b" * 40)
    newest = load_encoder("hf:org/name", device="cpu")
    older = load_encoder("hf:org/name@v2", device="cpu")
    assert newest.fingerprint == shelf.encoder(save_clip).fingerprint
    assert older.fingerprint == shelf.encoder(save_clip, seed=1).fingerprint
    assert (newest.revision, older.revision) == ("a" * 40, "b" * 40)  # type: ignore[attr-defined]


def test_a_revision_that_is_not_there_is_refused(hub: Callable[..., None]) -> None:
    hub(save_clip, "org/name", main="a" * 40)
    assert "is not completely downloaded" in refusal("hf:org/name@v3")


def test_an_open_clip_model_of_the_hub_is_the_same_as_its_folder(
    shelf: Shelf, hub: Callable[..., None]
) -> None:
    def save(folder: Path, seed: int) -> str:
        return save_open_clip(folder, seed=seed, tokenizer=False)

    hub(save, "org/name", main="a" * 40)
    loaded = load_encoder("open_clip:hf-hub:org/name", device="cpu")
    expected = shelf.encoder(save_open_clip, tokenizer=False)
    assert loaded.fingerprint == expected.fingerprint
    np.testing.assert_array_equal(loaded.encode_images(PICTURES), expected.encode_images(PICTURES))


def test_an_open_clip_model_of_the_hub_without_weights_is_refused(
    hub: Callable[..., None], tmp_path: Path
) -> None:
    """open_clip logs a warning and goes on with random weights unless it is told not to."""

    def save(folder: Path, seed: int) -> str:
        name = save_open_clip(folder, seed=seed, tokenizer=False)
        (folder / "open_clip_model.safetensors").unlink()
        return name

    hub(save, "org/name", main="a" * 40)
    assert "could not be loaded" in refusal("open_clip:hf-hub:org/name")


# image processors


def processor(**changes: Any) -> SimpleNamespace:
    settings = {
        "do_resize": True, "do_rescale": True, "do_normalize": True, "rescale_factor": 1 / 255,
        "size": {"shortest_edge": 36}, "do_center_crop": True,
        "crop_size": {"height": 32, "width": 32}, "resample": 3,
        "image_mean": [0.5] * 3, "image_std": [0.5] * 3,
    }  # fmt: skip
    return SimpleNamespace(**{**settings, **changes})


def test_a_processor_that_crops_a_margin_is_understood() -> None:
    found = preprocessing_of(processor(), "m")
    assert (found.side, found.resize, found.fit, found.interpolation, found.odd_margin) == (
        32, 36, "shortest", "bicubic", "down"
    )  # fmt: skip


def test_a_processor_that_squashes_is_understood() -> None:
    size = {"height": 32, "width": 32}
    found = preprocessing_of(processor(size=size, do_center_crop=False, resample=2), "m")
    assert (found.side, found.resize, found.fit) == (32, 32, "squash")
    assert found.interpolation == "bilinear"


@pytest.mark.parametrize(
    ("changes", "hint"),
    [
        ({"do_resize": False}, "skips resizing"),
        ({"do_normalize": False}, "skips resizing or normalising"),
        ({"rescale_factor": 1 / 127.5}, "not by 1/255"),
        ({"size": {"height": 32, "width": 48}, "do_center_crop": False}, "not square"),
        ({"crop_size": {"height": 32, "width": 48}}, "not square"),
        ({"do_center_crop": False}, "no square of one size"),
        ({"size": {"shortest_edge": 30}}, "no square of one size"),
        ({"image_mean": [0.5, 0.5]}, "one value per colour"),
    ],
)
def test_a_processor_that_cannot_be_followed_is_refused(changes: Any, hint: str) -> None:
    with pytest.raises(ModelError, match=hint):
        preprocessing_of(processor(**changes), "m")
