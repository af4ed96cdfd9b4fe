from __future__ import annotations

import subprocess
import sys

import pytest

from intramodal.errors import ManifestMismatchError, MissingDependencyError, ModelError
from intramodal.ingest.encoders.registry import load_encoder
from intramodal.model_names import (
    FORMS,
    check_dimension,
    known_dim,
    known_models,
    likely_names,
    parse_name,
    split_hub_id,
    warn_of_custom_name,
)


@pytest.mark.parametrize(
    ("name", "source", "opaque"),
    [
        ("open_clip:ViT-B-32:openai", "open_clip", "ViT-B-32:openai"),
        ("open_clip:ViT-B-32:/weights/a:b.pt", "open_clip", "ViT-B-32:/weights/a:b.pt"),
        ("open_clip:hf-hub:org/name", "open_clip", "hf-hub:org/name"),
        ("open_clip:local-dir:~/clip", "open_clip", "local-dir:~/clip"),
        ("open_clip:local-dir:C:\\clip", "open_clip", "local-dir:C:\\clip"),
        ("hf:openai/clip-vit-base-patch32", "hf", "openai/clip-vit-base-patch32"),
        ("hf:org/name@3f9a0c", "hf", "org/name@3f9a0c"),
        ("local-dir:/models/a b", "local-dir", "/models/a b"),
        ("local-dir:C:/models", "local-dir", "C:/models"),
        ("slip:slip_base_100ep.pt", "slip", "slip_base_100ep.pt"),
        ("demo", "demo", ""),
        ("  demo\n", "demo", ""),
    ],
)
def test_a_name_is_split_at_its_first_colon(name: str, source: str, opaque: str) -> None:
    parsed = parse_name(name)
    assert (parsed.text, parsed.source, parsed.opaque) == (name.strip(), source, opaque)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("", "open_clip:ARCH:TAG"),
        ("ViT-B-32", "hf:ORG/NAME"),
        ("ViT-B-32:openai", "did you mean open_clip:ViT-B-32:openai"),
        ("openclip:ViT-B-32:openai", "did you mean open_clip:ViT-B-32:openai"),
        ("clip:ViT-B-32", "source 'clip' is unknown"),
        ("demos", "did you mean demo"),
        ("demo:large", "no variants"),
        ("openai/clip-vit-base-patch32", "hf:openai/clip-vit-base-patch32"),
        ("/models/clip", "open_clip:local-dir:/models/clip"),
        ("./clip", "local-dir:./clip"),
        ("~/clip", "local-dir:~/clip"),
        ("C:\\models\\clip", "local-dir:C:\\models\\clip"),
        ("hf-hub:org/name", "open_clip:hf-hub:org/name"),
        ("hub", "hf:ORG/NAME"),
        ("open_clip:", "open_clip:ARCH:TAG"),
        ("open_clip:ViT-B-32", "open_clip:ViT-B-32:TAG"),
        ("open_clip:ViT-B-32:", "open_clip:ViT-B-32:TAG"),
        ("open_clip:ViT-B-32", "did you mean open_clip:ViT-B-32:"),
        ("open_clip:/models/clip", "open_clip:local-dir:/models/clip"),
        ("open_clip:C:\\clip", "open_clip:local-dir:C:\\clip"),
        ("open_clip:local-dir:", "open_clip:local-dir:PATH"),
        ("open_clip:hf-hub:", "open_clip:hf-hub:ORG/NAME"),
        ("hf:", "hf:ORG/NAME@REVISION"),
        ("hf:clip-vit-base-patch32", "hf:ORG/NAME"),
        ("hf:/models/clip", "local-dir:/models/clip"),
        ("hf:org/name@", "hf:ORG/NAME@REVISION"),
        ("local-dir:", "local-dir:PATH"),
        ("slip:", "slip:FILE"),
    ],
)
def test_a_wrong_name_is_answered_with_the_right_form(name: str, hint: str) -> None:
    with pytest.raises(ModelError) as caught:
        load_encoder(name)
    message = str(caught.value)
    assert hint in message
    assert "\n" not in message
    assert not name or repr(name) in message or f"'hf:{name.removeprefix('hf:')}'" in message


def test_every_listed_name_is_a_right_one() -> None:
    for model in known_models():
        assert parse_name(str(model["name"])).source in FORMS


def test_listed_names_are_different_and_have_text_unless_they_are_dino() -> None:
    models = known_models()
    assert len({model["name"] for model in models}) == len(models)
    for model in models:
        assert (model["text"] == "no") == str(model["family"]).startswith("DINO")


def test_a_revision_follows_an_at_sign() -> None:
    assert split_hub_id("org/name@refs/pr/3") == ("org/name", "refs/pr/3")
    assert split_hub_id("org/name") == ("org/name", None)


def test_listed_open_clip_models_exist_with_the_listed_dimension() -> None:
    open_clip = pytest.importorskip("open_clip")
    for model in known_models():
        source, _, rest = str(model["name"]).partition(":")
        if source == "open_clip":
            arch, tag = rest.split(":")
            assert tag in open_clip.list_pretrained_tags_by_model(arch)
            assert open_clip.get_model_config(arch)["embed_dim"] == model["dim"]


@pytest.mark.parametrize(
    ("name", "dim"),
    [
        ("open_clip:ViT-B-32:openai", 512),
        ("hf:openai/clip-vit-large-patch14", 768),
        ("hf:openai/clip-vit-large-patch14@3f9a0c", 768),
        ("demo", 256),
        ("hf:org/name", None),
        ("local-dir:/models/clip", None),
        ("our tower", None),
        ("", None),
        ("open_clip:../secrets:openai", None),
    ],
)
def test_the_dimension_of_a_known_model_is_known_without_loading_it(
    name: str, dim: int | None
) -> None:
    assert known_dim(name) == dim


def test_the_dimension_of_every_architecture_of_open_clip_is_known() -> None:
    open_clip = pytest.importorskip("open_clip")
    for arch in ("ViT-H-14", "EVA02-L-14", "coca_ViT-L-14"):
        config = open_clip.get_model_config(arch)
        assert known_dim(f"open_clip:{arch}:any weights") == config["embed_dim"]
    assert known_dim("open_clip:ViT-Z-99:openai") is None


def test_a_known_model_of_another_dimension_is_refused() -> None:
    said = "open_clip:ViT-B-32:openai makes vectors of 512 dimensions, and X.npy has 768; give"
    with pytest.raises(ManifestMismatchError, match=said):
        check_dimension("open_clip:ViT-B-32:openai", "X.npy", 768)
    check_dimension("open_clip:ViT-B-32:openai", "X.npy", 512)
    check_dimension("our tower", "X.npy", 48)


@pytest.mark.parametrize(
    ("name", "likely"),
    [
        ("openai/clip-vit-base-patch32", ["hf:openai/clip-vit-base-patch32"]),
        ("clip-vit-base-patch32", ["hf:openai/clip-vit-base-patch32"]),
        ("org/name", ["hf:org/name"]),
        (
            "ViT-B/32",
            ["open_clip:ViT-B-32:openai", "open_clip:ViT-B-32:laion2b_s34b_b79k"],
        ),
        ("vit-l-14-336", ["open_clip:ViT-L-14-336:openai"]),
        ("openclip:RN50:openai", ["open_clip:RN50:openai"]),
        ("hf:org/name", []),
        ("demo", []),
        ("our tower", []),
        ("clip", []),
        ("", []),
    ],
)
def test_a_name_of_another_form_is_compared_with_those_of_models(
    name: str, likely: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    assert likely_names(name)[: len(likely) or None] == likely
    warn_of_custom_name(name)
    said = f"{name!r} is taken as a custom name; did you mean {' or '.join(likely_names(name))}?"
    assert [record.message for record in caplog.records] == ([said] if likely else [])


def test_names_are_checked_without_loading_a_library() -> None:
    code = (
        "import sys\n"
        "from intramodal.model_names import known_models, parse_name\n"
        "from intramodal.ingest.encoders.registry import load_encoder\n"
        "parse_name('hf:org/name'), known_models()\n"
        "assert not {'torch', 'open_clip', 'transformers', 'PIL'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("name", "library"),
    [("open_clip:ViT-B-32:openai", "open_clip"), ("hf:org/name", "transformers"),
     ("local-dir:/nowhere", "torch"), ("slip:a.pt", "torchvision")],
)  # fmt: skip
def test_a_missing_library_is_named_with_the_extra_that_brings_it(
    name: str, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingDependencyError, match=rf"needs {library}.*intramodal\[encoders\]"):
        load_encoder(name)


@pytest.mark.parametrize(
    ("name", "repos"),
    [
        ("hf:org/name@main", ["org/name"]),
        ("open_clip:hf-hub:org/name", ["org/name"]),
        ("open_clip:local-dir:hf-hub", []),
        ("local-dir:hf-hub:org", []),
        ("demo", []),
    ],
)
def test_the_repository_of_a_model_of_the_hub(name: str, repos: list[str]) -> None:
    assert parse_name(name).hub_repos == repos


def test_the_demo_model_stands_for_any_in_a_trial() -> None:
    """The inputs of issue 20 declare it for 16 numbers."""
    check_dimension("demo", "X.npy", 16)


def test_all_weights_that_open_clip_lists_are_found_without_it() -> None:
    open_clip = pytest.importorskip("open_clip")
    for arch, tag in open_clip.list_pretrained():
        repo = open_clip.get_pretrained_cfg(arch, tag)["hf_hub"].rpartition("/")[0]
        assert repo in parse_name(f"open_clip:{arch}:{tag}").hub_repos, (arch, tag)


@pytest.mark.parametrize("name", ["open_clip:ViT-B-32:openia", "open_clip:ViT-Z-99:openai"])
def test_a_wrong_name_of_weights_is_left_to_open_clip(name: str) -> None:
    assert parse_name(name).hub_repos == []
