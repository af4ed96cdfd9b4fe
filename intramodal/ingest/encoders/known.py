"""The models that the paper uses, under the names that load them here."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class KnownModel:
    """One row of ``intramodal models list``.

    Parameters
    ----------
    name : str
        What `load_encoder` takes.
    family : str
        Kind of model.
    dim : int
        Length of an embedding.
    text : str
        Whether it has a text tower: without one there is no PCA←.
    """

    name: str
    family: str
    dim: int
    text: str


# Paper, tables 1-3, and the OpenCLIP weights most often met in production.
KNOWN_MODELS = (
    KnownModel("demo", "demo", 256, "yes"),
    KnownModel("open_clip:ViT-B-32:openai", "CLIP", 512, "yes"),
    KnownModel("open_clip:ViT-B-16:openai", "CLIP", 512, "yes"),
    KnownModel("open_clip:ViT-L-14:openai", "CLIP", 768, "yes"),
    KnownModel("open_clip:ViT-L-14-336:openai", "CLIP", 768, "yes"),
    KnownModel("open_clip:ViT-B-32:laion2b_s34b_b79k", "OpenCLIP", 512, "yes"),
    KnownModel("open_clip:ViT-B-16:laion2b_s34b_b88k", "OpenCLIP", 512, "yes"),
    KnownModel("open_clip:ViT-L-14:laion2b_s32b_b82k", "OpenCLIP", 768, "yes"),
    KnownModel("open_clip:ViT-B-16-SigLIP:webli", "SigLIP", 768, "yes"),
    KnownModel("open_clip:ViT-L-16-SigLIP-256:webli", "SigLIP", 1024, "yes"),
    KnownModel("open_clip:ViT-B-16-SigLIP2:webli", "SigLIP2", 768, "yes"),
    KnownModel("open_clip:ViT-L-16-SigLIP2-256:webli", "SigLIP2", 1024, "yes"),
    KnownModel("hf:openai/clip-vit-base-patch32", "CLIP", 512, "yes"),
    KnownModel("hf:openai/clip-vit-base-patch16", "CLIP", 512, "yes"),
    KnownModel("hf:openai/clip-vit-large-patch14", "CLIP", 768, "yes"),
    KnownModel("hf:google/siglip-base-patch16-224", "SigLIP", 768, "yes"),
    KnownModel("hf:google/siglip-large-patch16-256", "SigLIP", 1024, "yes"),
    KnownModel("hf:google/siglip2-base-patch16-224", "SigLIP2", 768, "yes"),
    KnownModel("hf:google/siglip2-large-patch16-256", "SigLIP2", 1024, "yes"),
    KnownModel("hf:facebook/dinov2-base", "DINOv2", 768, "no"),
    KnownModel("hf:facebook/dinov2-large", "DINOv2", 1024, "no"),
    KnownModel("hf:facebook/dinov3-vitb16-pretrain-lvd1689m", "DINOv3", 768, "no"),
    KnownModel("hf:facebook/dinov3-vitl16-pretrain-lvd1689m", "DINOv3", 1024, "no"),
    KnownModel("slip:slip_base_100ep.pt", "SLIP", 512, "yes"),
)


def known_models() -> list[dict[str, str | int]]:
    """Return the curated models: name, family, dim, and whether there is a text tower.

    Examples
    --------
    >>> known_models()[0]["name"]
    'demo'
    """
    return [asdict(model) for model in KNOWN_MODELS]
