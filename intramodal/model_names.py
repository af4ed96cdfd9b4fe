"""Names of encoders: ``source:opaque``, split once at the first colon; nothing is guessed.

Who declares the model of ready vectors may take any other name: then its dimension is unknown.
"""

from __future__ import annotations

import difflib
import importlib.util
import json
import logging
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from intramodal.errors import ManifestMismatchError, ModelError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class KnownModel:
    """One row of ``intramodal models list``."""

    name: str
    """What `load_encoder` takes."""
    family: str
    dim: int
    """Length of an embedding."""
    text: str
    """Whether it has a text tower: without one there is no PCA←."""


# Paper, tables 1-3, and the OpenCLIP weights most often met in production.
KNOWN_MODELS = (
    KnownModel("demo", "demo", 256, "yes"),
    KnownModel("open_clip:RN50:openai", "CLIP", 1024, "yes"),
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
    KnownModel("hf:facebook/dinov2-with-registers-base", "DINOv2", 768, "no"),
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


FORMS = {
    "open_clip": "open_clip:ARCH:TAG, open_clip:hf-hub:ORG/NAME or open_clip:local-dir:PATH",
    "hf": "hf:ORG/NAME or hf:ORG/NAME@REVISION",
    "local-dir": "local-dir:PATH",
    "slip": "slip:FILE",
    "demo": "demo",
}
"""Right forms by source."""

_LISTED_REPO = re.compile(r"hf_hub=['\"]([\w.-]+/[\w.-]+)")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_HUB_ID_AT_REVISION = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")


@dataclass(frozen=True)
class ModelName:
    """A checked name."""

    text: str
    """The name as given."""
    source: str
    """A key of `FORMS`."""
    opaque: str
    """What follows the first colon; only the source's own loader understands it."""

    @property
    def is_local(self) -> bool:
        """Whether all of the model is on this machine, so that nothing is asked of the hub."""
        return self.source in ("local-dir", "slip", "demo") or self.opaque.startswith("local-dir:")

    @property
    def hub_repos(self) -> list[str]:
        """Repositories of the hub, one of which holds the model; none where that is not known."""
        if self.source == "hf":
            return [split_hub_id(self.opaque)[0]]
        schema, _, repo = self.opaque.partition(":")
        if self.source == "open_clip" and schema == "hf-hub":
            return [repo]
        return _listed_repos(self.text)


def parse_name(name: str) -> ModelName:
    """Split `name` at its first colon, and refuse what is not one of the right forms.

    Examples
    --------
    >>> parse_name("open_clip:ViT-B-32:openai").opaque
    'ViT-B-32:openai'
    >>> parse_name("local-dir:C:/models/clip").opaque
    'C:/models/clip'
    """
    text = name.strip()
    source, colon, opaque = text.partition(":")
    if source not in FORMS:
        raise ModelError(_unknown(text))
    if source == "demo":
        if colon:
            raise ModelError(f"model {text!r}: the demo model has no variants; its name is demo")
    elif not opaque:
        raise ModelError(f"model {text!r} names nothing after {source}:; write {FORMS[source]}")
    elif source in _CHECKS:
        _CHECKS[source](text, opaque)
    return ModelName(text, source, opaque)


def split_hub_id(opaque: str) -> tuple[str, str | None]:
    """Return repository and revision (None if absent) of ``ORG/NAME[@REVISION]``.

    Examples
    --------
    >>> split_hub_id("facebook/dinov2-base@main")
    ('facebook/dinov2-base', 'main')
    """
    match = _HUB_ID_AT_REVISION.fullmatch(opaque)
    if match is None:
        raise ModelError(
            f"model 'hf:{opaque}' is no hub id; write {FORMS['hf']}, or local-dir:{opaque} for "
            "a directory on this machine"
        )
    return match["repo"], match["revision"]


def known_dim(name: str) -> int | None:
    """Return the length of a model's embeddings, as far as that is known without loading it.

    Examples
    --------
    >>> known_dim("hf:facebook/dinov2-base@main")
    768
    """
    name = name.strip()
    plain = name.partition("@")[0] if name.startswith("hf:") else name
    listed = {model.name: model.dim for model in KNOWN_MODELS}
    return listed.get(plain) or _dim_of_architecture(name)


def _dim_of_architecture(name: str) -> int | None:
    """Return what the installed open_clip says of ``open_clip:ARCH:TAG``; it is not imported."""
    source, _, rest = name.partition(":")
    arch, has_tag, _ = rest.partition(":")
    if source != "open_clip" or not has_tag or not re.fullmatch(r"[\w.-]+", arch):
        return None
    for text in _open_clip_texts(f"model_configs/{arch}.json"):
        with suppress(ValueError, KeyError, TypeError):
            return int(json.loads(text)["embed_dim"])
    return None


def _listed_repos(name: str) -> list[str]:
    """Return where the installed open_clip lists weights of this tag; it is not imported.

    They are those of all architectures that have the tag.
    """
    if _dim_of_architecture(name) is None:
        return []
    tag = re.escape(name.rpartition(":")[2])
    entries = rf"\b{tag}\s*=\s*_\w*cfg\(([^)]*)\)"
    found = (
        entry for text in _open_clip_texts("pretrained.py") for entry in re.findall(entries, text)
    )
    return [repo for entry in found for repo in _LISTED_REPO.findall(entry)]


def _open_clip_texts(path: str) -> Iterator[str]:
    """Yield a file of the installed open_clip."""
    package = importlib.util.find_spec("open_clip")
    for folder in () if package is None else package.submodule_search_locations or ():
        with suppress(OSError, ValueError):
            yield (Path(folder) / path).read_text("utf-8")


def check_dimension(made_by: str, what: str, dim: int) -> None:
    """Raise `ManifestMismatchError` where a declared model makes vectors of another length.

    `what` is how the vectors are called in the sentence. The demo model makes no vectors that
    anybody keeps: its name stands for any model where something is tried.
    """
    known = None if made_by.strip() == "demo" else known_dim(made_by)
    if known is not None and known != dim:
        raise ManifestMismatchError(
            f"{made_by} makes vectors of {known} dimensions, and {what} has {dim}; give the model "
            f"that made them (intramodal models list)"
        )


def warn_of_custom_name(made_by: str) -> None:
    """Log a warning where a declared model looks like the name of another one."""
    found = likely_names(made_by)
    if found:
        log.warning("%r is taken as a custom name; did you mean %s?", made_by, " or ".join(found))


def likely_names(text: str) -> list[str]:
    """Return at most three names of models that a text of another form may mean.

    Examples
    --------
    >>> likely_names("org/name"), likely_names("ours"), likely_names("hf:org/name")
    (['hf:org/name'], [], [])
    """
    text = text.strip()
    try:
        parse_name(text)
    except ModelError:
        pass
    else:
        return []
    names = [model.name for model in KNOWN_MODELS]
    plain = text.replace("/", "-").casefold()
    found = [name for name in names if plain and plain in _parts(name)]
    if not found and _HUB_ID.fullmatch(text):
        return [f"hf:{text}"]
    return found[:3] or difflib.get_close_matches(text, names, n=3, cutoff=0.6)


def _parts(name: str) -> set[str]:
    """Return what people call a model by: its name without source, organisation or weights."""
    rest = name.partition(":")[2].casefold()
    return {rest.replace("/", "-"), *re.split("[:/]", rest)}


def closest(word: str, choices: list[str], n: int = 3) -> str:
    """Return the end of an error: the choices most like `word`, or nothing if none is alike."""
    found = difflib.get_close_matches(word, choices, n=n, cutoff=0.5)
    return f"; did you mean {' or '.join(found)}?" if found else ""


def _unknown(text: str) -> str:
    names = [model.name for model in KNOWN_MODELS]
    if not text:
        return f"no model is named; write one of the forms {_all_forms()}"
    if text in ("hf-hub", "hub") or text.startswith("hf-hub:"):
        rest = text.partition(":")[2] or "ORG/NAME"
        return f"model {text!r}: write open_clip:hf-hub:{rest} (open_clip) or hf:{rest}"
    if _HUB_ID.fullmatch(text):
        return (
            f"model {text!r} has no source; write hf:{text} for the model hub, or "
            f"local-dir:{text} for a directory on this machine"
        )
    if (
        _DRIVE.match(text)
        or any(sign in text.partition(":")[0] for sign in "/\\~")
        or text[0] == "."
    ):
        return (
            f"model {text!r} has no source; write local-dir:{text} for a directory of "
            f"transformers, or open_clip:local-dir:{text} for one of open_clip"
        )
    if ":" not in text:
        hint = closest(text, names)
        return f"model {text!r} has no source; the forms are {_all_forms()}{hint}"
    source = text.partition(":")[0]
    hint = closest(text, names) or closest(source, list(FORMS))
    return f"model {text!r}: source {source!r} is unknown; the forms are {_all_forms()}{hint}"


def _all_forms() -> str:
    return "; ".join(FORMS.values())


def _check_open_clip(text: str, opaque: str) -> None:
    first, _, rest = opaque.partition(":")
    if rest and not _DRIVE.match(opaque):
        return
    if first in ("local-dir", "hf-hub"):
        raise ModelError(
            f"model {text!r} names nothing after {first}:; write {FORMS['open_clip']}"
        )
    if any(sign in opaque for sign in "/\\~"):
        raise ModelError(
            f"model {text!r}: write open_clip:local-dir:{opaque} for a directory, or "
            f"open_clip:hf-hub:{opaque} for the model hub"
        )
    tagged = [model.name for model in KNOWN_MODELS if model.name.startswith("open_clip:")]
    form = f"open_clip:{first or 'ARCH'}:TAG"
    hint = closest(text, tagged)
    raise ModelError(f"model {text!r} names no weights; write {form}{hint}")


def _check_hf(text: str, opaque: str) -> None:
    split_hub_id(opaque)


_CHECKS = {"open_clip": _check_open_clip, "hf": _check_hf}
