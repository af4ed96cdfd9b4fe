"""A model on disk is complete, or it is refused: nothing that its files name is fetched."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from intramodal.errors import ModelError
from intramodal.types import parsed_json

_VOCABULARIES = ("tokenizer.json", "vocab.json", "vocab.txt", "*.model")
"""One of these files is there where a tokenizer is."""


def require_self_contained(name: str, folder: Path) -> None:
    """Raise `ModelError` if a config of a folder names what its library would fetch elsewhere.

    A note of where a model comes from (``_name_or_path``) is none of these: nobody follows it.
    """
    for file in sorted(folder.glob("*config*.json")):
        for key, value in _entries(_read(name, file)):
            is_tokenizer = key == "hf_tokenizer_name"
            is_elsewhere = not has_tokenizer(folder) if is_tokenizer else _leads(key, value)
            if value and is_elsewhere:
                raise ModelError(
                    f"model {name!r}: {file.name} sets {key} to {value!r}, which is not in the "
                    f"folder, and nothing is fetched for a model on disk; get a complete folder, "
                    f"or name the model by its place on the hub"
                )


def has_tokenizer(folder: Path) -> bool:
    """Return whether a folder holds the vocabulary of a tokenizer."""
    return any(any(folder.glob(pattern)) for pattern in _VOCABULARIES)


def _leads(key: str, value: str) -> bool:
    """Return whether a library would look for a setting's value outside the folder."""
    if key in ("hf_model_name", "base_model_name_or_path"):  # a text tower; a model to be adapted
        return True
    if key == "timm_model_name":  # "hf-hub:ORG/NAME", "local-dir:PATH"; else an architecture
        return ":" in value
    if key == "auto_map":  # "ORG/NAME--module.Class"
        return "--" in value
    # "ORG/NAME" of compiled code: transformers downloads and runs it, where it finds `kernels`.
    return key.endswith("_implementation") and "/" in value


def _entries(content: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield the texts of nested JSON with the nearest key that says what they are."""
    if isinstance(content, dict):
        for name, value in content.items():
            # The keys below these name parts of the model.
            is_whole = key == "auto_map" or key.endswith("_implementation")
            yield from _entries(value, key if is_whole else name)
    elif isinstance(content, list):
        for value in content:
            yield from _entries(value, key)
    elif isinstance(content, str):
        yield key, content


def _read(name: str, file: Path) -> Any:
    try:
        return parsed_json(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"model {name!r}: {file.name} is no JSON ({error})") from error
