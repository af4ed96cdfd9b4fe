"""Text embeddings beside a collection's vectors: from a file, or from the collection's model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from intramodal.ingest.vectors.matrices import read_matrix
from intramodal.types import Encoder, Floats
from intramodal.workflows.evaluate.targets import Target


@dataclass(frozen=True)
class TextSource:
    """Where the texts of one target come from.

    Parameters
    ----------
    target : Target
    model : str, optional
        By default the model that the manifest names.
    file : Path, optional
        Ready text embeddings instead, in the space of the encoder: not projected.
    device, precision : str, optional
    """

    target: Target
    model: str | None = None
    file: Path | None = None
    device: str | None = None
    precision: str | None = None

    def embed(self, prompts: Sequence[str]) -> Floats | None:
        """Return the embeddings of the prompts, or those of the file; None without text tower."""
        if self.file is not None:
            return self._read
        return self.encoder.encode_texts(list(prompts)) if self.encoder.has_text else None

    @property
    def name(self) -> str:
        """Where the texts come from, for people."""
        return str(self.file) if self.file is not None else self.encoder.name

    @cached_property
    def _read(self) -> Floats:
        return read_matrix(Path(str(self.file)))

    @cached_property
    def encoder(self) -> Encoder:
        """The model, loaded when it is first needed."""
        return self.target.load_encoder(self.model, device=self.device, precision=self.precision)
