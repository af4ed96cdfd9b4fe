"""Our pixels and vectors are those of the libraries that the papers used."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from intramodal.ingest.encoders.preprocess import from_open_clip
from intramodal.ingest.encoders.transformers import preprocessing_of
from intramodal.types import unit_rows
from tests.tiny_models import (
    CLIP_MEAN,
    CLIP_STD,
    TEXTS,
    Save,
    Shelf,
    save_clip,
    save_dinov2,
    save_dinov2_registers,
    save_dinov3,
    save_open_clip,
    save_siglip,
    save_siglip2,
    save_slip,
)

torch = pytest.importorskip("torch")
for library in ("open_clip", "transformers", "sentencepiece"):
    pytest.importorskip(library)

pytestmark = pytest.mark.usefixtures("offline")

# Square, portrait, landscape, odd, smaller than the input, one side exact, extreme.
SIZES = [(64, 64), (37, 71), (71, 37), (101, 67), (9, 14), (32, 45), (45, 32), (33, 33), (300, 7)]

# The same operations in float32: batches of another shape are summed in another order.
SAME = {"rtol": 1e-4, "atol": 1e-4}


def noise(size: tuple[int, int], mode: str = "RGB") -> Image.Image:
    """Return a picture in which every pixel is another one: the hardest case for a filter."""
    rng = np.random.default_rng(size)
    return Image.fromarray(rng.integers(0, 256, (*size[::-1], 3), dtype=np.uint8)).convert(mode)


def folder_of(name: str) -> str:
    return name.rpartition("local-dir:")[2]


# pixels


@pytest.mark.parametrize("resize_mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_pixels_are_open_clips_bit_by_bit(resize_mode: str, interpolation: str, mode: str) -> None:
    from open_clip.transform import PreprocessCfg, image_transform_v2

    settings = {"resize_mode": resize_mode, "interpolation": interpolation, "fill_color": 9}
    for side in (32, 31):
        config = {**settings, "size": side, "mean": (0, 0, 0), "std": (1, 1, 1)}
        theirs = image_transform_v2(PreprocessCfg(**config), is_train=False)
        ours = from_open_clip(config)
        for size in SIZES:
            image = noise(size, mode)
            expected = theirs(image).mul(255).round().byte().permute(1, 2, 0).numpy()
            np.testing.assert_array_equal(ours(image.convert("RGB")), expected, str(size))


PIL_PROCESSORS = [save_clip, save_siglip, save_siglip2, save_dinov2]


def processor_of(name: str, *, pil: bool) -> Any:
    """Return the image processor with Pillow or with torchvision, in the words of 4 and of 5."""
    import transformers

    is_new = int(transformers.__version__.split(".")[0]) >= 5
    form = {"backend": "pil" if pil else "torchvision"} if is_new else {"use_fast": not pil}
    return transformers.AutoImageProcessor.from_pretrained(folder_of(name), **form)


def their_pixels(processor: Any, image: Image.Image) -> NDArray[Any]:
    pixels = processor(images=[image], do_rescale=False, do_normalize=False,
                       do_convert_rgb=True, return_tensors="pt").pixel_values  # fmt: skip
    return pixels[0].permute(1, 2, 0).numpy()


@pytest.mark.parametrize("save", PIL_PROCESSORS)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK", "P", "1"])
def test_pixels_are_those_of_transformers_with_pillow_bit_by_bit(
    shelf: Shelf, save: Save, mode: str
) -> None:
    processor = processor_of(shelf.name(save), pil=True)
    ours = preprocessing_of(processor, "m")
    for size in SIZES:
        image = noise(size, mode)
        expected = their_pixels(processor, image)
        np.testing.assert_array_equal(ours(image.convert("RGB")), expected, str(size))


@pytest.mark.parametrize("save", [*PIL_PROCESSORS, save_dinov3])
def test_pixels_are_nearly_those_of_transformers_with_torchvision(
    shelf: Shelf, save: Save
) -> None:
    processor = processor_of(shelf.name(save), pil=False)
    ours = preprocessing_of(processor, "m")
    for size in SIZES:
        difference = ours(noise(size)).astype(float) - their_pixels(processor, noise(size))
        # Both round and clip to 8 bits between the two directions, which torchvision takes in
        # the other order where that is quicker; on noise, bicubic overshoots often.
        assert (np.abs(difference) <= 2).mean() > 0.99, size
        assert np.abs(difference).max() <= 12, size
        assert np.abs(difference).mean() < 0.5, size


def test_the_input_of_dinov3_is_nearly_that_of_its_own_processor(shelf: Shelf) -> None:
    processor = processor_of(shelf.name(save_dinov3), pil=False)
    ours = preprocessing_of(processor, "m")
    for size in SIZES:
        theirs = processor(images=[noise(size)], return_tensors="pt").pixel_values[0].numpy()
        pixels = ours(noise(size)).transpose(2, 0, 1) / 255
        mean, std = (np.array(v).reshape(3, 1, 1) for v in (ours.mean, ours.std))
        # It scales to floats before it resizes, so it never rounds: half a grey level, and
        # another half between the two directions.
        assert np.abs((pixels - mean) / std - theirs).max() < 1.5 / 255 / 0.22, size


# vectors


@pytest.mark.parametrize(
    "changes",
    [{}, {"quick_gelu": True}, {"custom_text": True}, {"resize_mode": "squash"},
     {"interpolation": "bilinear"}, {"tokenizer": False}],
)  # fmt: skip
def test_vectors_are_those_of_open_clips_own_recipe(shelf: Shelf, changes: dict[str, Any]) -> None:
    import open_clip

    source = f"local-dir:{folder_of(shelf.name(save_open_clip, **changes))}"
    model, _, transform = open_clip.create_model_and_transforms(source, require_pretrained=True)
    tokenizer = open_clip.get_tokenizer(source)
    images = [noise(size) for size in SIZES]
    with torch.no_grad():
        expected = model.eval().encode_image(torch.stack([transform(image) for image in images]))
        expected_texts = model.encode_text(tokenizer(TEXTS))
    encoder = shelf.encoder(save_open_clip, **changes)
    np.testing.assert_allclose(encoder.encode_images(images), expected, **SAME)
    np.testing.assert_allclose(encoder.encode_texts(TEXTS), expected_texts, **SAME)


def pooled(output: Any) -> Any:
    return getattr(output, "pooler_output", output).numpy()


@pytest.mark.parametrize(
    ("save", "padding"),
    [(save_clip, True), (save_siglip, "max_length"), (save_siglip2, "max_length")],
)
def test_vectors_are_those_of_the_model_cards_of_transformers(
    shelf: Shelf, save: Save, padding: Any
) -> None:
    import transformers

    folder = folder_of(shelf.name(save))
    model = transformers.AutoModel.from_pretrained(folder).eval()
    processor = processor_of(folder, pil=True)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    images = [noise(size) for size in SIZES if size != (300, 7)]
    texts = [text.lower() for text in TEXTS]  # as SigLIP2's model card asks
    options = {"max_length": 64} if padding == "max_length" else {}
    tokens = tokenizer(texts, padding=padding, truncation=True, return_tensors="pt", **options)
    masked = {} if padding == "max_length" else {"attention_mask": tokens.attention_mask}
    with torch.no_grad():
        expected = model.get_image_features(**processor(images=images, return_tensors="pt"))
        expected_texts = model.get_text_features(input_ids=tokens.input_ids, **masked)
    encoder = shelf.encoder(save)
    np.testing.assert_allclose(encoder.encode_images(images), pooled(expected), **SAME)
    np.testing.assert_allclose(encoder.encode_texts(TEXTS), pooled(expected_texts), **SAME)


@pytest.mark.parametrize("save", [save_dinov2, save_dinov2_registers, save_dinov3])
def test_vectors_of_dino_are_the_class_token_after_the_last_norm(shelf: Shelf, save: Save) -> None:
    import transformers

    folder = folder_of(shelf.name(save))
    model = transformers.AutoModel.from_pretrained(folder).eval()
    encoder = shelf.encoder(save)
    images = [noise(size) for size in SIZES if size != (300, 7)]
    pixels = torch.tensor(np.stack([encoder.preprocess(image) for image in images]))
    mean, std = (torch.tensor(v) for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    inputs = ((pixels.float() / 255 - mean) / std).permute(0, 3, 1, 2)
    norm = model.norm if hasattr(model, "norm") else model.layernorm
    caught: list[Any] = []
    norm.register_forward_hook(lambda *seen: caught.append(seen[2]))
    with torch.no_grad():
        model(pixel_values=inputs)
    np.testing.assert_allclose(encoder.encode_images(images), caught[-1][:, 0], **SAME)


# SLIP, written down from its paper's code


def slip_text(state: dict[str, Any], tokens: Any, heads: int) -> Any:
    """Return CLIP's text tower applied to token ids (n, 77): causal attention, QuickGELU."""
    import torch.nn.functional as F  # noqa: N812

    def norm(x: Any, name: str) -> Any:
        weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
        return F.layer_norm(x, weight.shape, weight, bias, 1e-5)

    def linear(x: Any, name: str) -> Any:
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    x = state["token_embedding.weight"][tokens] + state["positional_embedding"]
    n, length, width = x.shape
    n_layers = len({key.split(".")[2] for key in state if key.startswith("transformer.")})
    for block in (f"transformer.resblocks.{i}" for i in range(n_layers)):
        packed = norm(x, f"{block}.ln_1") @ state[f"{block}.attn.in_proj_weight"].T
        qkv = (packed + state[f"{block}.attn.in_proj_bias"]).reshape(n, length, 3, heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
        scores += torch.full((length, length), -torch.inf).triu(1)
        mixed = (scores.softmax(-1) @ v).transpose(1, 2).reshape(n, length, width)
        x = x + linear(mixed, f"{block}.attn.out_proj")
        hidden = linear(norm(x, f"{block}.ln_2"), f"{block}.mlp.c_fc")
        x = x + linear(hidden * torch.sigmoid(1.702 * hidden), f"{block}.mlp.c_proj")
    return norm(x, "ln_final")[torch.arange(n), tokens.argmax(-1)] @ state["text_projection"]


def test_vectors_of_slip_are_those_of_its_own_code(shelf: Shelf) -> None:
    import open_clip
    import timm
    from torchvision import transforms

    with torch.serialization.safe_globals([argparse.Namespace]):
        file = shelf.name(save_slip).removeprefix("slip:")
        saved = torch.load(file, weights_only=True)["state_dict"]
    state = {key.removeprefix("module."): value for key, value in saved.items()}
    visual = timm.create_model("vit_tiny_patch16_224", num_classes=0).eval()
    visual.load_state_dict({k[7:]: v for k, v in state.items() if k.startswith("visual.")})
    transform = transforms.Compose([
        transforms.Resize(224), transforms.CenterCrop(224), transforms.ToTensor(),
        transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    ])  # fmt: skip
    images = [noise(size) for size in [(250, 231), (227, 300), (120, 90)]]
    with torch.no_grad():
        features = visual(torch.stack([transform(image) for image in images]))
        expected = features @ state["image_projection"]
        expected_texts = slip_text(state, open_clip.tokenize(TEXTS), heads=1)
    encoder = shelf.encoder(save_slip)
    np.testing.assert_allclose(encoder.encode_images(images), expected, **SAME)
    np.testing.assert_allclose(encoder.encode_texts(TEXTS), expected_texts, **SAME)


# the same weights through two libraries


def test_one_clip_gives_the_same_vectors_through_both_libraries(
    shelf: Shelf, tmp_path: Path
) -> None:
    import json

    import open_clip
    from safetensors.torch import save_file

    theirs = shelf.encoder(save_clip)
    config = {
        "embed_dim": 16, "quick_gelu": True,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 16, "head_width": 8,
                       "patch_size": 8, "mlp_ratio": 2.0},
        "text_cfg": {"context_length": 24, "vocab_size": theirs.towers.module.config.text_config
                     .vocab_size, "width": 16, "heads": 2, "layers": 2, "mlp_ratio": 2.0,
                     "hf_tokenizer_name": "its own"},
    }  # fmt: skip
    state = as_open_clip(theirs.towers.module.state_dict())
    open_clip.CLIP(**config).load_state_dict(state)
    save_file(state, tmp_path / "open_clip_model.safetensors")
    preprocess = {"size": 32, "mean": CLIP_MEAN, "std": CLIP_STD, "interpolation": "bicubic"}
    (tmp_path / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": config, "preprocess_cfg": preprocess})
    )
    theirs.towers.tokenizer.save_pretrained(tmp_path)  # type: ignore[attr-defined]
    from intramodal.ingest.encoders.registry import load_encoder

    ours = load_encoder(f"open_clip:local-dir:{tmp_path}", device="cpu")
    # Even margins: half a pixel of an odd one is cut on another side.
    images = [noise(size) for size in [(32, 32), (34, 32), (64, 64), (32, 50)]]
    np.testing.assert_allclose(ours.encode_images(images), theirs.encode_images(images), **SAME)
    np.testing.assert_allclose(ours.encode_texts(TEXTS), theirs.encode_texts(TEXTS), **SAME)


_RENAMED = [
    ("vision_model.embeddings.class_embedding", "visual.class_embedding"),
    ("vision_model.embeddings.position_embedding.weight", "visual.positional_embedding"),
    ("vision_model.embeddings.patch_embedding.weight", "visual.conv1.weight"),
    ("vision_model.pre_layrnorm", "visual.ln_pre"),
    ("vision_model.post_layernorm", "visual.ln_post"),
    ("vision_model.encoder.layers", "visual.transformer.resblocks"),
    ("text_model.embeddings.token_embedding.weight", "token_embedding.weight"),
    ("text_model.embeddings.position_embedding.weight", "positional_embedding"),
    ("text_model.encoder.layers", "transformer.resblocks"),
    ("text_model.final_layer_norm", "ln_final"),
    ("self_attn.out_proj", "attn.out_proj"),
    ("layer_norm", "ln_"),
    ("mlp.fc1", "mlp.c_fc"),
    ("mlp.fc2", "mlp.c_proj"),
]


def as_open_clip(state: dict[str, Any]) -> dict[str, Any]:
    """Return transformers' weights of CLIP under the names of open_clip."""
    renamed: dict[str, Any] = {"visual.proj": state["visual_projection.weight"].T.contiguous()}
    renamed["text_projection"] = state["text_projection.weight"].T.contiguous()
    for key, value in state.items():
        if "projection.weight" in key or "position_ids" in key:
            continue
        name = key
        for old, new in _RENAMED:
            name = name.replace(old, new)
        if ".self_attn." not in name:
            renamed[name] = value
        elif ".q_proj." in name:
            parts = [state[key.replace("q_proj", f"{part}_proj")] for part in "qkv"]
            renamed[name.replace("self_attn.q_proj.", "attn.in_proj_")] = torch.cat(parts)
    return renamed


# real embeddings


@pytest.mark.real_data
def test_real_clip_gives_the_same_vectors_through_open_clip_and_transformers(
    real_data: Path,
) -> None:
    """Stored embeddings of OpenAI's ViT-B/32 for the same 200 pictures, made elsewhere."""
    ours = np.load(real_data / "cifar10-500-clip-b32" / "image_embeddings.npy")[:200]
    theirs = np.load(real_data / "cifar10-200-hfclip-b32" / "image_embeddings.npy")
    labels = [np.load(real_data / name)[:200] for name in (
        "cifar10-500-clip-b32/image_labels.npy", "cifar10-200-hfclip-b32/labels.npy"
    )]  # fmt: skip
    np.testing.assert_array_equal(*labels)
    cosine = np.einsum("ij,ij->i", unit_rows(ours).astype(np.float64), unit_rows(theirs))
    # Half precision in one of them; another picture or preprocessing gives less than 0.99.
    assert cosine.min() >= 0.99998
    others = unit_rows(ours) @ unit_rows(theirs).T
    np.fill_diagonal(others, 0)
    assert others.max() < 0.99
