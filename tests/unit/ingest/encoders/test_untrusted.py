"""A model is data: whatever lies in its files, loading it runs none of it."""

from __future__ import annotations

import argparse
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from intramodal.errors import ModelError
from intramodal.ingest.encoders.registry import convert_slip, load_encoder
from tests.tiny_models import Save, Shelf, save_clip, save_dinov2, save_open_clip, save_slip

for library in ("torch", "open_clip", "transformers"):
    pytest.importorskip(library)

pytestmark = pytest.mark.usefixtures("offline")


class Poison:
    """Unpickled without care, it leaves a file behind."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, str]]:
        return _leave, (str(self.mark), "w")


def _leave(file: str, mode: str) -> None:
    Path(file).open(mode).close()


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    return tmp_path / "the code ran"


@pytest.fixture
def agreeing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answer yes, should a library ask whether to run a model's code."""
    monkeypatch.setattr("builtins.input", lambda *_: "y")


def saved_by_torch(content: Any, file: Path) -> None:
    import torch

    torch.save(content, file)


def pickled(content: Any, file: Path) -> None:
    file.write_bytes(pickle.dumps(content, protocol=2))  # torch warns about newer ones


def edit(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def write_code(folder: Path, mark: Path) -> None:
    (folder / "evil.py").write_text(
        f"open({str(mark)!r}, 'w').close()\n"
        "from transformers import CLIPTokenizer\n"
        "class Evil(CLIPTokenizer):\n    pass\n"
    )


def assert_no_advice(refused: ModelError) -> None:
    """Assert that no library's advice on how to run the code is passed on."""
    for word in ("weights_only", "torch.load", "Re-running", "safe_globals", "arbitrary code"):
        assert word not in str(refused)


def test_the_poison_works(mark: Path) -> None:
    pickle.loads(pickle.dumps(Poison(mark)))
    assert mark.exists()


@pytest.mark.parametrize("write", [saved_by_torch, pickled])
@pytest.mark.parametrize(
    ("save", "old", "new"),
    [
        (save_open_clip, "open_clip_model.safetensors", "open_clip_pytorch_model.bin"),
        (save_open_clip, "open_clip_model.safetensors", "open_clip_model.pth"),
        (save_clip, "model.safetensors", "pytorch_model.bin"),
        (save_dinov2, "model.safetensors", "pytorch_model.bin"),
    ],
)
def test_weights_in_a_pickle_with_code_are_refused(
    copied: Callable[..., Path], mark: Path, save: Save, old: str, new: str, write: Any
) -> None:
    model = copied(save)
    (model / old).unlink()
    write({"state_dict": {"visual.proj": Poison(mark)}}, model / new)
    source = "open_clip:local-dir" if save is save_open_clip else "local-dir"
    with pytest.raises(ModelError, match="which is never run") as refused:
        load_encoder(f"{source}:{model}")
    assert not mark.exists()
    assert_no_advice(refused.value)


@pytest.mark.parametrize("write", [saved_by_torch, pickled])
def test_a_file_for_a_built_in_architecture_is_refused_with_code_in_it(
    tmp_path: Path, mark: Path, write: Any
) -> None:
    import open_clip

    config = json.loads((Path(save_open_clip(tmp_path / "model").split("local-dir:")[1])
                         / "open_clip_config.json").read_text())["model_cfg"]  # fmt: skip
    (tmp_path / "tiny-untrusted.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path / "tiny-untrusted.json")
    write({"state_dict": {"visual.proj": Poison(mark)}}, tmp_path / "weights.pt")
    with pytest.raises(ModelError, match="which is never run") as refused:
        load_encoder(f"open_clip:tiny-untrusted:{tmp_path / 'weights.pt'}")
    assert not mark.exists()
    assert_no_advice(refused.value)


@pytest.mark.parametrize("write", [saved_by_torch, pickled])
@pytest.mark.parametrize(
    "content",
    [
        lambda poison: poison,
        lambda poison: {"state_dict": {"module.visual.cls_token": poison}},
        lambda poison: {"state_dict": {}, "args": argparse.Namespace(output_dir=poison)},
    ],
)
def test_a_checkpoint_of_slip_with_code_in_it_is_refused(
    tmp_path: Path, mark: Path, write: Any, content: Any
) -> None:
    write(content(Poison(mark)), tmp_path / "slip.pt")
    with pytest.raises(ModelError, match="which is never run") as refused:
        load_encoder(f"slip:{tmp_path / 'slip.pt'}")
    assert_no_advice(refused.value)
    with pytest.raises(ModelError, match="which is never run"):
        convert_slip(tmp_path / "slip.pt", tmp_path / "converted")
    assert not mark.exists()
    assert not (tmp_path / "converted").exists()


def test_reading_a_slip_checkpoint_leaves_torch_as_strict_as_before(tmp_path: Path) -> None:
    import torch

    save_slip(tmp_path / "slip.pt")
    convert_slip(tmp_path / "slip.pt", tmp_path / "converted")
    assert argparse.Namespace not in torch.serialization.get_safe_globals()


@pytest.mark.parametrize("asks", [{}, {"trust_remote_code": True}])
def test_code_beside_an_open_clip_tokenizer_is_never_run(
    copied: Callable[..., Path], mark: Path, asks: dict[str, bool], agreeing: None
) -> None:
    model = copied(save_open_clip)
    write_code(model, mark)
    edit(model / "tokenizer_config.json", tokenizer_class="Evil",
         auto_map={"AutoTokenizer": ["evil.Evil", None]})  # fmt: skip
    config = json.loads((model / "open_clip_config.json").read_text())
    config["model_cfg"]["text_cfg"]["tokenizer_kwargs"] = asks
    (model / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="never run"):
        load_encoder(f"open_clip:local-dir:{model}")
    assert not mark.exists()


@pytest.mark.parametrize(
    ("save", "file", "changes"),
    [
        (save_dinov2, "preprocessor_config.json",
         {"image_processor_type": "Evil", "auto_map": {"AutoImageProcessor": "evil.Evil"}}),
        (save_clip, "preprocessor_config.json",
         {"image_processor_type": "Evil", "auto_map": {"AutoImageProcessor": "evil.Evil"}}),
        (save_dinov2, "config.json",
         {"model_type": "evil", "auto_map": {"AutoModel": "evil.Evil"}}),
    ],
)  # fmt: skip
def test_a_folder_that_needs_its_own_code_is_refused(
    copied: Callable[..., Path], mark: Path, save: Save, file: str, changes: Any, agreeing: None
) -> None:
    model = copied(save)
    write_code(model, mark)
    edit(model / file, **changes)
    with pytest.raises(ModelError, match=r"never run|model_type is evil"):
        load_encoder(f"local-dir:{model}")
    assert not mark.exists()


@pytest.mark.parametrize(
    ("file", "changes"),
    [
        ("config.json", {"auto_map": {"AutoModel": "evil.Evil", "AutoConfig": "evil.Evil"}}),
        ("preprocessor_config.json", {"auto_map": {"AutoImageProcessor": "evil.Evil"}}),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["evil.Evil", None]}}),
    ],
)
def test_where_the_library_has_its_own_class_the_folders_code_is_ignored(
    shelf: Shelf,
    copied: Callable[..., Path],
    mark: Path,
    file: str,
    changes: Any,
    agreeing: None,
) -> None:
    model = copied(save_clip)
    write_code(model, mark)
    edit(model / file, **changes)
    encoder = load_encoder(f"local-dir:{model}", device="cpu")
    assert encoder.fingerprint == shelf.encoder(save_clip).fingerprint
    assert not mark.exists()
