"""Command lines that fit the maps which a comparison proposes: they run as they are pasted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from intramodal.commands.next_steps import (
    Name,
    has_text_tower_here,
    label_file_words,
    line_from,
    unused,
    works_pasted,
)
from intramodal.errors import IntramodalError, LedgerError
from intramodal.types import encoders_agree, listed

if TYPE_CHECKING:
    from intramodal.runs.ledger import RunLedger
    from intramodal.store.collection import ImageCollection

_MOST_LINES = 3
"""Fields for which a line of their own is shown at once."""
_N_RUNS = 50
"""Latest runs of a kind whose files are looked at."""


@dataclass(frozen=True)
class MapLines:
    """What the lines name.

    Parameters
    ----------
    place : str
        Collection and the encoder's own vector, as options write them.
    model : str or None
        What made that vector; None where nobody has declared it and no map says it.
    is_declared : bool
        Whether the collection says so itself.
    projection : str or None
        File of a map of texts alone, beside which axes are laid; None where none is found.
    """

    place: str
    model: str | None
    is_declared: bool
    projection: str | None

    @classmethod
    def of(
        cls, photos: ImageCollection, vector: str, ledger: RunLedger, given: Iterable[Path]
    ) -> MapLines:
        """Find them for a vector of a collection; `given` are the maps of the command line."""
        origins = photos.manifest.vectors
        if vector in origins and origins[vector].projection:
            vector = origins[vector].source
        origin = origins.get(vector)
        place = photos.name if vector == "raw" else f"{photos.name}:{vector}"
        if vector not in photos.vectors:  # it was removed after it had been projected
            return cls(place, None, False, None)
        size = photos.vectors[vector].size
        files = [*map(str, given), *_recorded(ledger)]
        for file, found in _text_maps(files):
            made_by = (found.encoder, found.encoder_fingerprint)
            known = (origin.encoder, origin.encoder_fingerprint) if origin else made_by
            if found.dim_in == size and encoders_agree(made_by, known):
                return cls(place, known[0], origin is not None, file)
        return cls(place, origin.encoder if origin else None, origin is not None, None)

    def fit(self, name: str, fields: Sequence[str]) -> list[str]:
        """Return the lines that fit one of the maps to fields; none where no line would work."""
        from intramodal.evaluation.candidates import WORDS

        if self.model is None:
            return []
        lines = self._of_names(fields) if name == WORDS else [self._of_labels(name, fields)]
        return [line for line in lines if works_pasted(line)]

    def _of_labels(self, name: str, fields: Sequence[str]) -> str:
        """Return the one line for all fields, each of which has a file of its own."""
        file = f"{name}_{{field}}.safetensors" if len(fields) > 1 else _file(name, fields[0])
        beside = [] if self.projection is None else ["--projection", self.projection]
        words = ["fit", Name(self.place), "--labels", ",".join(map(listed, fields)), *beside]
        return line_from(*words, *self._made_by, *label_file_words(), "-o", file)

    def _of_names(self, fields: Sequence[str]) -> Iterator[str]:
        """Yield one line a field, after that of the projection beside if there is no file."""
        if self.model is None or not has_text_tower_here(self.model):
            return
        projection = self.projection
        if projection is None:
            projection = unused("pca.safetensors")
            yield line_from("fit", "--model", self.model, "-o", projection, at=("runs_url",))
        for field in fields[:_MOST_LINES]:
            texts = ["--projection", projection, "--model", self.model]
            words = ["fit", Name(self.place), "--words", field, *texts, *self._made_by]
            yield line_from(*words, *label_file_words(), "-o", _file("words", field))

    @property
    def _made_by(self) -> list[str]:
        return [] if self.is_declared or self.model is None else ["--made-by", self.model]


def with_map_lines(result: Mapping[str, Any], lines: MapLines) -> dict[str, Any]:
    """Return a comparison whose proposed maps, by field and over all, have lines."""

    def lined(maps: Sequence[Mapping[str, Any]], fields: Sequence[str]) -> list[dict[str, Any]]:
        return [
            {**one, "commands": lines.fit(one["map"], one.get("fields", fields))} for one in maps
        ]

    decision = result["decision"]
    fields = {
        name: {**field, "next_maps": lined(field["next_maps"], [name])}
        for name, field in result["fields"].items()
    }
    decision = {**decision, "next_maps": lined(decision["next_maps"], ())}
    return {**result, "decision": decision, "fields": fields}


def _file(name: str, field: str) -> str:
    """Return a file of a map of a field, called as the vector will be."""
    from intramodal.projection.stored_map import named_by_field

    return unused(f"{named_by_field(name, field)}.safetensors")


def _recorded(ledger: RunLedger) -> Iterator[str]:
    """Yield the files of maps that the latest runs have written or used, the latest first."""
    with suppress(LedgerError):  # a comparison outlives its runs database
        for kind, option in (("backfill", "projection"), ("fit", "out")):
            for run in ledger.runs(kind=kind, status="COMPLETE", limit=_N_RUNS):
                yield str(run.parameters.get(option, ""))


def _text_maps(files: Iterable[str]) -> Iterator[tuple[str, Any]]:
    """Yield those of some files that are there and hold a map of texts alone."""
    from intramodal.evaluation.candidates import WORDS
    from intramodal.projection.posterior import load_map
    from intramodal.projection.projection import CENTERED

    for file in dict.fromkeys(files):
        with suppress(IntramodalError):  # another one is looked for
            if Path(file).is_file():
                found = load_map(Path(file))
                if found.labels is None and found.method not in (WORDS, CENTERED):
                    yield file, found
