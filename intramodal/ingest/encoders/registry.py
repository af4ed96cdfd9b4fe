"""Encoders by name; the libraries behind them are imported when a model is loaded."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from intramodal.errors import MissingDependencyError, ModelError
from intramodal.ingest.encoders.hub_access import hub_or_cache, is_out_of_reach, not_downloaded
from intramodal.model_names import ModelName, parse_name
from intramodal.progress import announced
from intramodal.terminal import bars_shown
from intramodal.types import Encoder

if TYPE_CHECKING:
    from intramodal.ingest.encoders.encoder import Towers
    from intramodal.ingest.encoders.preprocess import Preprocessing


log = logging.getLogger(__name__)

_PACKAGE = "intramodal.ingest.encoders"

# Source: module, function, libraries.
_LOADERS = {
    "open_clip": ("open_clip", "load_open_clip", ("torch", "torchvision", "open_clip")),
    "hf": ("transformers", "load_hub", ("torch", "torchvision", "transformers")),
    "local-dir": ("transformers", "load_local", ("torch", "torchvision", "transformers")),
    "slip": ("slip", "load_slip", ("torch", "torchvision", "open_clip")),
    "demo": ("open_clip", "load_demo", ("torch", "torchvision", "open_clip")),
}


def load_encoder(
    name: str,
    *,
    device: str | None = None,
    precision: str | None = None,
    preprocessing: Preprocessing | None = None,
) -> Encoder:
    """Load the encoder called `name`.

    Parameters
    ----------
    name : str
        ``open_clip:ARCH:TAG``, ``open_clip:hf-hub:ORG/NAME``, ``open_clip:local-dir:PATH``,
        ``hf:ORG/NAME[@REVISION]``, ``local-dir:PATH`` (transformers), ``slip:FILE`` or ``demo``.
    device : str, optional
        ``"cpu"``, ``"cuda"`` (every GPU), ``"cuda:1"``, ...; by default the GPUs if there are any.
    precision : {"fp32", "bf16"}, optional
        By default fp32, and bf16 autocast on GPUs that compute in it.
    preprocessing : Preprocessing, optional
        In place of the checkpoint's own, for inputs of the same side; part of the identity.

    Returns
    -------
    Encoder
        With a text tower it is `TextInvertible` and `HasProjectors`, too; `projectors` raises
        `ModelError` where the towers do not end in plain matrices.

    Raises
    ------
    ModelError
        The name is wrong, the model is incomplete or cannot be loaded, or it takes inputs of
        another side.
    MissingDependencyError
        The extra ``encoders`` is not installed.
    """
    parsed = parse_name(name)
    log.info("loading %s", parsed.text)
    with announced(f"loading {parsed.text} ..."), bars_shown():
        towers = _towers(parsed)
        if preprocessing is not None:
            _replace_preprocessing(name, towers, preprocessing)
        build: Any = importlib.import_module(f"{_PACKAGE}.encoder").build_encoder
        encoder: Encoder = build(parsed.text, towers, device=device, precision=precision)
    return encoder


def _towers(name: ModelName) -> Towers:
    """Import what a model needs, and load it.

    What is not there is refused before libraries are imported, which takes seconds.
    """
    of_source, function, libraries = _LOADERS[name.source]
    _require_installed(name.text, libraries)
    module = importlib.import_module(f"{_PACKAGE}.{of_source}")
    with nullcontext() if name.is_local else hub_or_cache():
        repos = name.hub_repos
        if repos and all(map(is_out_of_reach, repos)):
            raise not_downloaded(name.text, module.WITHOUT_NETWORK)
        _require(name.text, libraries)
        load: Callable[[str, str], Towers] = getattr(module, function)
        return load(name.text, name.opaque)


def _replace_preprocessing(name: str, towers: Towers, preprocessing: Preprocessing) -> None:
    own = towers.preprocessing.side
    if preprocessing.side != own:
        raise ModelError(
            f"model {name!r} takes inputs of {own} pixels and the preprocessing gives "
            f"{preprocessing.side}; take one of the same side"
        )
    towers.preprocessing = preprocessing


def convert_slip(source: Path, target: Path) -> Path:
    """Write a checkpoint of SLIP as a directory that ``open_clip:local-dir:TARGET`` loads."""
    _require(f"slip:{source}", _LOADERS["slip"][2])
    from intramodal.ingest.encoders.slip import convert_slip as convert

    return convert(Path(source), Path(target))


def _require_installed(name: str, libraries: tuple[str, ...]) -> None:
    for library in libraries:
        if importlib.util.find_spec(library) is None:
            raise _missing(name, library, "not installed")


def _missing(name: str, library: str, reason: object) -> MissingDependencyError:
    return MissingDependencyError(
        f"model {name!r} needs {library}, which cannot be imported ({reason}); run: "
        "pip install 'intramodal[encoders]'"
    )


def _require(name: str, libraries: tuple[str, ...]) -> None:
    for library in libraries:
        try:
            importlib.import_module(library)
        except ImportError as error:
            raise _missing(name, library, error) from error
        except RuntimeError as error:  # what a torchvision of another torch raises
            raise MissingDependencyError(
                f"model {name!r} needs {library}, which does not fit the installed torch "
                f"({error}); run: pip install --upgrade torch torchvision"
            ) from error
