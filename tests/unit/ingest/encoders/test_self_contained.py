"""A model on disk is loaded without a single request, whatever names its files hold."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from intramodal.errors import ModelError
from intramodal.ingest.encoders.registry import load_encoder
from intramodal.ingest.encoders.self_contained import require_self_contained
from tests.tiny_models import (
    Save,
    Shelf,
    save_clip,
    save_dinov2,
    save_open_clip,
    save_siglip,
    save_slip,
)

for library in ("torch", "open_clip", "transformers"):
    pytest.importorskip(library)


def name_of(save: Save, folder: Path) -> str:
    return f"{'open_clip:' if save is save_open_clip else ''}local-dir:{folder}"


def edit(file: Path, changes: dict[str, Any]) -> None:
    """Change nested JSON: the keys of `changes` lead there, separated by dots."""
    content = json.loads(file.read_text()) if file.exists() else {}
    for path, value in changes.items():
        *above, key = path.split(".")
        part = content
        for step in above:
            part = part.setdefault(step, {})
        part[key] = value
    file.write_text(json.dumps(content))


def test_a_request_would_be_noticed(requests: list[str]) -> None:
    with pytest.raises(ModelError):
        load_encoder("hf:nobody/there", device="cpu")
    assert "huggingface.co" in requests[0]


@pytest.mark.parametrize("save", [save_open_clip, save_clip, save_siglip, save_dinov2])
def test_a_folder_is_loaded_without_a_request(
    save: Save, copied: Callable[..., Path], requests: list[str]
) -> None:
    assert load_encoder(name_of(save, copied(save)), device="cpu").dim
    assert requests == []


def test_a_checkpoint_of_slip_and_the_shipped_model_are_loaded_without_a_request(
    shelf: Shelf, requests: list[str]
) -> None:
    for name in (shelf.name(save_slip), "demo"):
        assert load_encoder(name, device="cpu").encode_texts(["a cat"]).shape[0] == 1
    assert requests == []


MODEL, TEXT, VISION = "model_cfg.", "model_cfg.text_cfg.", "model_cfg.vision_cfg."


@pytest.mark.parametrize(
    ("save", "file", "key", "value"),
    [
        (save_open_clip, "open_clip_config.json", f"{TEXT}hf_model_name", "evil/repo"),
        (save_open_clip, "open_clip_config.json", f"{MODEL}multimodal_cfg.hf_model_name", "e/r"),
        (save_open_clip, "open_clip_config.json", f"{VISION}timm_model_name", "hf-hub:evil/repo"),
        (save_open_clip, "open_clip_config.json", f"{VISION}timm_model_name", "local-dir:/etc"),
        (save_open_clip, "tokenizer_config.json", "auto_map",
         {"AutoTokenizer": ["evil/repo--x.Evil", None]}),
        (save_clip, "tokenizer_config.json", "auto_map", {"AutoTokenizer": "evil/repo--x.Evil"}),
        (save_clip, "config.json", "auto_map", {"AutoModel": "evil/repo--x.Evil"}),
        (save_clip, "preprocessor_config.json", "auto_map", {"AutoImageProcessor": "e/r--x.E"}),
        *((save, "config.json", key, "evil/kernel") for save in (save_clip, save_dinov2)
          for key in ("attn_implementation", "_attn_implementation")),
        (save_clip, "config.json", "attn_implementation", {"text_config": "paged|evil/kernel:f"}),
        (save_clip, "config.json", "text_config._attn_implementation", "evil/kernel"),
        (save_clip, "adapter_config.json", "base_model_name_or_path", "evil/repo"),
    ],
)  # fmt: skip
def test_a_config_that_leads_out_of_its_folder_is_refused_without_a_request(
    copied: Callable[..., Path],
    requests: list[str],
    save: Save,
    file: str,
    key: str,
    value: Any,
) -> None:
    model = copied(save)
    edit(model / file, {key: value})
    with pytest.raises(ModelError) as refused:
        load_encoder(name_of(save, model), device="cpu")
    assert f"{file} sets {key.rpartition('.')[2]} to '" in str(refused.value)
    assert "nothing is fetched for a model on disk" in str(refused.value)
    assert requests == []


def test_a_tokenizer_of_the_hub_is_refused_where_the_folder_holds_none(
    copied: Callable[..., Path], requests: list[str]
) -> None:
    model = copied(save_open_clip)
    for file in [*model.glob("*token*"), *model.glob("vocab*"), *model.glob("merges*")]:
        file.unlink()
    edit(model / "open_clip_config.json", {f"{TEXT}hf_tokenizer_name": "evil/repo"})
    with pytest.raises(ModelError, match="sets hf_tokenizer_name to 'evil/repo'"):
        load_encoder(name_of(save_open_clip, model), device="cpu")
    assert requests == []


@pytest.mark.parametrize("save", [save_clip, save_siglip])
def test_a_folder_without_a_tokenizer_gets_none_that_knows_no_word(
    copied: Callable[..., Path], requests: list[str], save: Save
) -> None:
    model = copied(save)
    vocabularies = ("tokenizer.json", "vocab*", "merges*", "*.model")
    for file in [file for pattern in vocabularies for file in model.glob(pattern)]:
        file.unlink()
    with pytest.raises(ModelError, match="the directory holds no tokenizer"):
        load_encoder(name_of(save, model), device="cpu")
    assert requests == []


@pytest.mark.parametrize(
    ("file", "changes"),
    [
        ("config.json", {"_name_or_path": "evil/repo", "name_or_path": "evil/repo"}),
        ("tokenizer_config.json", {"name_or_path": "mistralai/evil", "_commit_hash": "0" * 40}),
        ("preprocessor_config.json", {"_processor_class": "evil/repo"}),
    ],
)
def test_a_note_of_where_a_model_comes_from_is_not_followed(
    shelf: Shelf,
    copied: Callable[..., Path],
    requests: list[str],
    file: str,
    changes: dict[str, Any],
) -> None:
    model = copied(save_clip)
    edit(model / file, changes)
    encoder = load_encoder(name_of(save_clip, model), device="cpu")
    assert encoder.fingerprint == shelf.encoder(save_clip).fingerprint
    assert requests == []


@pytest.mark.parametrize("save", [save_open_clip, save_clip, save_dinov2])
def test_what_a_library_asks_for_unforeseen_is_refused_in_one_sentence(
    copied: Callable[..., Path],
    requests: list[str],
    save: Save,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from huggingface_hub import hf_hub_download

    def asks(*_: Any, **__: Any) -> None:
        hf_hub_download("evil/repo", "config.json")

    module = "open_clip.create_model" if save is save_open_clip else (
        "transformers.AutoModel.from_pretrained")  # fmt: skip
    monkeypatch.setattr(module, asks)
    with pytest.raises(ModelError, match="lacks a file that its library would fetch") as refused:
        load_encoder(name_of(save, copied(save)), device="cpu")
    assert "HF_HUB_OFFLINE" not in str(refused.value)
    assert requests == []


def test_loading_leaves_environment_and_hub_as_they_were(
    copied: Callable[..., Path], requests: list[str]
) -> None:
    from huggingface_hub import constants

    before = dict(os.environ)
    model = copied(save_clip)
    load_encoder(name_of(save_clip, model), device="cpu")
    (model / "model.safetensors").unlink()
    with pytest.raises(ModelError):
        load_encoder(name_of(save_clip, model), device="cpu")
    assert (dict(os.environ), constants.HF_HUB_OFFLINE) == (before, False)
    with pytest.raises(ModelError):
        load_encoder("hf:nobody/there", device="cpu")
    assert requests != []


@pytest.mark.parametrize("content", ["{", "[" * 100_000, "\udcff"])
def test_a_config_that_is_no_json_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(ModelError, match=r"config\.json is no JSON"):
        require_self_contained("local-dir:x", tmp_path)
