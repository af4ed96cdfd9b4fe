from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from intramodal.errors import ModelError
from intramodal.ingest.encoders.registry import load_encoder
from tests.tiny_models import TEXTS, Shelf, save_clip, save_open_clip

for library in ("torch", "open_clip", "transformers"):
    pytest.importorskip(library)

pytestmark = pytest.mark.usefixtures("offline")

PICTURES = list(np.random.default_rng(5).integers(0, 256, (3, 40, 50, 3), dtype=np.uint8))
WEIGHTS = "open_clip_model.safetensors"


def folder_of(name: str) -> Path:
    return Path(name.rpartition("local-dir:")[2])


@pytest.fixture
def folder(copied: Callable[..., Path]) -> Path:
    return copied(save_open_clip)


@pytest.fixture
def tags(shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Return a function that gives open_clip a tag for the tiny architecture; returns its name."""
    import open_clip

    folder = folder_of(shelf.name(save_open_clip, tokenizer=False))
    config = json.loads((folder / "open_clip_config.json").read_text())

    def register(arch: str, tag: str, model: dict[str, Any], **tag_config: Any) -> str:
        file = tmp_path / f"{arch}.json"
        file.write_text(json.dumps({**config["model_cfg"], **model}))
        open_clip.add_model_config(file)
        known = {tag: {"file": str(folder / WEIGHTS), **config["preprocess_cfg"], **tag_config}}
        monkeypatch.setitem(open_clip.pretrained._PRETRAINED, arch, known)
        return f"open_clip:{arch}:{tag}"

    return register


def activations(encoder: Any) -> set[str]:
    module = encoder.towers.module
    blocks = [*module.visual.transformer.resblocks, *module.transformer.resblocks]
    return {type(block.mlp.gelu).__name__ for block in blocks}


# quickgelu


def test_a_tag_that_was_trained_with_quickgelu_gets_it(
    shelf: Shelf, tags: Callable[..., str]
) -> None:
    name = tags("tiny-a", "quick", {"quick_gelu": False}, quick_gelu=True)
    encoder = load_encoder(name, device="cpu")
    expected = shelf.encoder(save_open_clip, tokenizer=False, quick_gelu=True)
    assert activations(encoder) == {"QuickGELU"}
    assert encoder.fingerprint == expected.fingerprint
    np.testing.assert_array_equal(
        encoder.encode_images(PICTURES), expected.encode_images(PICTURES)
    )
    np.testing.assert_array_equal(encoder.encode_texts(TEXTS), expected.encode_texts(TEXTS))


def test_a_tag_that_was_trained_without_quickgelu_does_not(
    shelf: Shelf, tags: Callable[..., str]
) -> None:
    encoder = load_encoder(tags("tiny-b", "plain", {"quick_gelu": False}), device="cpu")
    expected = shelf.encoder(save_open_clip, tokenizer=False)
    assert activations(encoder) == {"GELU"}
    assert encoder.fingerprint == expected.fingerprint
    quick = shelf.encoder(save_open_clip, tokenizer=False, quick_gelu=True)
    assert quick.fingerprint != expected.fingerprint
    assert not np.allclose(quick.encode_images(PICTURES), expected.encode_images(PICTURES))


def test_an_architecture_with_quickgelu_keeps_it(tags: Callable[..., str]) -> None:
    name = tags("tiny-c-quickgelu", "quick", {"quick_gelu": True}, quick_gelu=True)
    assert activations(load_encoder(name, device="cpu")) == {"QuickGELU"}


@pytest.mark.parametrize(("quick", "expected"), [(True, "QuickGELU"), (False, "GELU")])
def test_for_a_file_the_architectures_name_decides(
    shelf: Shelf, tags: Callable[..., str], quick: bool, expected: str
) -> None:
    tags(f"tiny-d-{quick}", "unused", {"quick_gelu": quick})
    file = folder_of(shelf.name(save_open_clip, tokenizer=False)) / WEIGHTS
    assert activations(load_encoder(f"open_clip:tiny-d-{quick}:{file}")) == {expected}


def test_no_warning_of_a_mismatch_is_left(tags: Callable[..., str]) -> None:
    name = tags("tiny-e", "quick", {}, quick_gelu=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_encoder(name, device="cpu")


def test_open_clip_says_of_all_weights_of_openai_that_they_need_quickgelu() -> None:
    import open_clip

    archs = [arch for arch, tag in open_clip.list_pretrained() if tag == "openai"]
    assert "ViT-B-32" in archs
    for arch in archs:
        assert open_clip.get_pretrained_cfg(arch, "openai")["quick_gelu"], arch


def test_a_tags_own_preprocessing_is_used(tags: Callable[..., str]) -> None:
    name = tags("tiny-f", "t", {}, mean=[0.1, 0.2, 0.3], interpolation="bilinear")
    identity = load_encoder(name, device="cpu").identity["preprocessing"]
    assert (identity["mean"], identity["interpolation"]) == ([0.1, 0.2, 0.3], "bilinear")


# names that lead nowhere


def refusal(name: str) -> str:
    with pytest.raises(ModelError) as caught:
        load_encoder(name, device="cpu")
    message = str(caught.value)
    assert repr(name) in message
    assert "\n" not in message
    return message


def test_an_unknown_architecture_is_answered_with_the_closest() -> None:
    assert "did you mean" in refusal("open_clip:ViT-B-33:openai")
    assert "ViT-B-32" in refusal("open_clip:ViT-B-33:openai")


def test_an_unknown_tag_is_answered_with_the_closest_and_all() -> None:
    message = refusal("open_clip:ViT-B-32:openia")
    assert "did you mean openai" in message
    assert "laion2b_s34b_b79k" in message


def test_a_file_that_is_not_there_is_no_weights() -> None:
    assert "nor a file" in refusal("open_clip:ViT-B-32:/nowhere/weights.pt")


def test_a_folder_that_is_not_there_is_one_sentence() -> None:
    assert "there is no directory /nowhere/clip" in refusal("open_clip:local-dir:/nowhere/clip")


def test_a_folder_of_transformers_is_named_as_such(shelf: Shelf) -> None:
    other = shelf.name(save_clip)
    assert f"write {other}" in refusal(f"open_clip:{other}")


def test_a_folder_with_something_else_is_refused(tmp_path: Path) -> None:
    assert "holds no open_clip_config.json" in refusal(f"open_clip:local-dir:{tmp_path}")


@pytest.mark.parametrize(
    ("content", "hint"),
    [("{", "is no JSON"), ('{"a": 1}', "lacks model_cfg"), ("[]", "model_cfg")],
)
def test_a_damaged_config_is_refused(folder: Path, content: str, hint: str) -> None:
    (folder / "open_clip_config.json").write_text(content)
    assert hint in refusal(f"open_clip:local-dir:{folder}")


def test_a_hub_name_without_a_network_is_one_sentence() -> None:
    for name in ("open_clip:ViT-B-32:openai", "open_clip:hf-hub:org/name"):
        assert "without a network" in refusal(name)
        assert "open_clip:local-dir:PATH" in refusal(name)


def test_a_failed_load_installs_no_log_handler(capfd: Any, monkeypatch: Any) -> None:
    # open_clip logs by functions of the logging module that install one where none is.
    monkeypatch.setattr(logging.root, "handlers", [])
    refusal("open_clip:ViT-B-32:openai")
    assert logging.root.handlers == []
    assert "Failed to download" not in capfd.readouterr().err


# weights


def test_a_folder_without_weights_is_refused(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    assert "holds no weights" in refusal(f"open_clip:local-dir:{folder}")


def test_weights_under_a_name_that_open_clip_does_not_read_are_no_weights(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / "weights.pt")
    assert "rename a .pt to .pth" in refusal(f"open_clip:local-dir:{folder}")


def test_a_pitfall_of_open_clip_is_still_there(folder: Path) -> None:
    """Without require_pretrained a folder without weights is a random model."""
    import open_clip

    (folder / WEIGHTS).unlink()
    open_clip.create_model(f"local-dir:{folder}")
    with pytest.raises(RuntimeError, match="could not be loaded"):
        open_clip.create_model(f"local-dir:{folder}", require_pretrained=True)


def test_weights_that_lack_a_tensor_are_refused(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / WEIGHTS)
    del weights["text_projection"]
    save_file(weights, folder / WEIGHTS)
    assert "text_projection" in refusal(f"open_clip:local-dir:{folder}")


def test_weights_of_another_shape_are_refused(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / WEIGHTS)
    weights["text_projection"] = weights["text_projection"][:, :-1].contiguous()
    save_file(weights, folder / WEIGHTS)
    assert "size mismatch" in refusal(f"open_clip:local-dir:{folder}")


def test_weights_that_are_cut_off_are_refused(folder: Path) -> None:
    data = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(data[: len(data) // 2])
    assert "cannot be loaded" in refusal(f"open_clip:local-dir:{folder}")


def test_a_missing_tokenizer_is_refused(folder: Path) -> None:
    for file in folder.glob("tokenizer*"):
        file.unlink()
    assert "cannot be loaded" in refusal(f"open_clip:local-dir:{folder}")


def test_the_home_directory_may_be_written_short(
    folder: Path, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(folder.parent))
    encoder = load_encoder("open_clip:local-dir:~/model", device="cpu")
    assert encoder.fingerprint == shelf.encoder(save_open_clip).fingerprint


def test_the_bundled_tokenizer_needs_no_file(shelf: Shelf) -> None:
    encoder = shelf.encoder(save_open_clip, tokenizer=False)
    tokens = encoder.towers.tokenize(["a photo of a cat"])[0].tolist()
    assert tokens[:7] == [49406, 320, 1125, 539, 320, 2368, 49407]  # as OpenAI's CLIP
    assert tokens[7:] == [0] * 17
