from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from intramodal.cli import cli
from intramodal.errors import ModelError
from intramodal.ingest.encoders.registry import convert_slip, load_encoder
from tests.tiny_models import TEXTS, Shelf, save_clip, save_slip

torch = pytest.importorskip("torch")
pytest.importorskip("open_clip")

pytestmark = pytest.mark.usefixtures("offline")

PICTURES = list(np.random.default_rng(5).integers(0, 256, (2, 240, 250, 3), dtype=np.uint8))


@pytest.fixture
def file(shelf: Shelf) -> Path:
    return Path(shelf.name(save_slip).removeprefix("slip:"))


@pytest.fixture
def edited(file: Path, tmp_path: Path) -> Callable[..., Path]:
    """Return a function that saves the checkpoint with another state."""

    def save(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Path:
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(file, weights_only=True)
        content["state_dict"] = change(content["state_dict"])
        torch.save(content, tmp_path / "edited.pt")
        return tmp_path / "edited.pt"

    return save


def test_the_converted_folder_is_the_same_model(shelf: Shelf, file: Path, tmp_path: Path) -> None:
    assert convert_slip(file, tmp_path / "a" / "slip") == tmp_path / "a" / "slip"
    converted = load_encoder(f"open_clip:local-dir:{tmp_path / 'a' / 'slip'}", device="cpu")
    direct = shelf.encoder(save_slip)
    assert converted.identity == direct.identity
    assert converted.fingerprint == direct.fingerprint
    np.testing.assert_array_equal(
        converted.encode_images(PICTURES), direct.encode_images(PICTURES)
    )
    np.testing.assert_array_equal(converted.encode_texts(TEXTS), direct.encode_texts(TEXTS))


def test_the_command_converts_and_says_how_to_use_the_result(
    shelf: Shelf, file: Path, tmp_path: Path
) -> None:
    target = str(tmp_path / "slip")
    result = CliRunner().invoke(cli, ["models", "convert-slip", str(file), target, "--json"])
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert answer["target"] == target
    encoder = load_encoder(answer["model"], device="cpu")
    assert encoder.fingerprint == shelf.encoder(save_slip).fingerprint


def test_the_command_says_what_is_wrong_in_one_sentence(tmp_path: Path) -> None:
    absent = str(tmp_path / "absent.pt")
    result = CliRunner().invoke(cli, ["models", "convert-slip", absent, str(tmp_path / "slip")])
    assert result.exit_code != 0
    assert "absent.pt' does not exist" in result.stderr
    assert "Traceback" not in result.output


def test_nothing_is_written_over(file: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine.txt").write_text("mine")
    (tmp_path / "a file").write_text("mine")
    (tmp_path / "a link").symlink_to("nothing")
    for taken in ("taken", "a file", "a link"):
        with pytest.raises(ModelError, match="exists already"):
            convert_slip(file, tmp_path / taken)
    assert (tmp_path / "taken" / "mine.txt").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a file", "a link", "taken"]


def test_an_empty_folder_may_be_filled(file: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    convert_slip(file, tmp_path / "empty")
    assert {path.name for path in (tmp_path / "empty").iterdir()} == {
        "open_clip_config.json", "open_clip_model.safetensors"
    }  # fmt: skip


def test_a_checkpoint_that_is_refused_leaves_nothing_behind(
    edited: Callable[..., Path], tmp_path: Path
) -> None:
    bad = edited(lambda state: {})
    with pytest.raises(ModelError):
        convert_slip(bad, tmp_path / "new" / "slip")
    assert [path.name for path in tmp_path.iterdir()] == ["edited.pt"]


def test_the_self_supervised_head_does_not_count(
    shelf: Shelf, edited: Callable[..., Path]
) -> None:
    fewer = edited(lambda state: {k: v for k, v in state.items() if "image_mlp" not in k})
    encoder = load_encoder(f"slip:{fewer}", device="cpu")
    assert encoder.fingerprint == shelf.encoder(save_slip).fingerprint


def test_names_without_a_wrapper_are_understood(shelf: Shelf, edited: Callable[..., Path]) -> None:
    bare = edited(lambda state: {k.removeprefix("module."): v for k, v in state.items()})
    encoder = load_encoder(f"slip:{bare}", device="cpu")
    assert encoder.fingerprint == shelf.encoder(save_slip).fingerprint


def test_half_precision_becomes_float32(edited: Callable[..., Path]) -> None:
    half = edited(lambda state: {k: v.half() for k, v in state.items()})
    encoder: Any = load_encoder(f"slip:{half}", device="cpu")
    assert {p.dtype for p in encoder.towers.module.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        (lambda state: {}, "lacks image_projection, text_projection"),
        (lambda state: {k: v for k, v in state.items() if not k.endswith("cls_token")},
         "lacks visual.cls_token"),
        (lambda state: {k: v for k, v in state.items() if "blocks.3.norm1" not in k},
         "cannot be loaded"),
        (lambda state: {k: v[..., :384] if k.endswith("cls_token") else v
                        for k, v in state.items()}
         | {"module.visual.cls_token": torch.zeros(1, 1, 384)}, "384 wide"),
    ],
)  # fmt: skip
def test_a_checkpoint_that_is_not_a_whole_slip_is_refused(
    edited: Callable[..., Path], change: Any, hint: str
) -> None:
    with pytest.raises(ModelError, match=hint):
        load_encoder(f"slip:{edited(change)}", device="cpu")


def test_other_files_are_refused(shelf: Shelf, tmp_path: Path) -> None:
    torch.save({"model": {}}, tmp_path / "other.pt")
    (tmp_path / "text.pt").write_text("no checkpoint")
    weights = Path(shelf.name(save_clip).removeprefix("local-dir:")) / "model.safetensors"
    for file, hint in [
        (tmp_path / "other.pt", "holds no state_dict"),
        (tmp_path / "text.pt", "cannot be loaded"),
        (weights, "cannot be loaded|holds no state_dict"),  # newer versions of torch read it
        (tmp_path / "absent.pt", "there is no file"),
        (tmp_path, "there is no file"),
    ]:
        with pytest.raises(ModelError, match=hint) as caught:
            load_encoder(f"slip:{file}", device="cpu")
        assert "\n" not in str(caught.value)
