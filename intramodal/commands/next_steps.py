"""How a command ends for people: what it made and where, and command lines to go on with."""

from __future__ import annotations

import importlib.util
import shlex
import shutil
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from intramodal.commands.printing import note, note_whole, say_whole
from intramodal.errors import IntramodalError
from intramodal.terminal import visible

WORDS = "intramodal.words"
"""Key of the context's meta: the words of the command line."""

NEIGHBOURS = 10
"""That a comparison without labels looks at: it needs more images."""

_LONGEST = 1000
"""Characters of a line that is noted: nobody reads a longer one, such as of a thousand fields."""


class Name(str):
    """A word that is an argument, also where it begins with a dash as an option does."""

    __slots__ = ()


_OPTIONS = {"store": "--store", "runs_url": "--runs", "ca": "--ca", "shard_key": "--shard-key"}
_PROGRAM = "intramodal"


def say_made(what: str, where: object) -> None:
    """Say what a command made, and where it is."""
    say_whole(f"{what}: {where}")


def say_collection(name: str) -> None:
    """Say which collection a command made or filled, and in which store."""
    from intramodal.runs.scrub import Scrubber

    store = _session().store
    say_made("collection", f"{name} (store: {Scrubber.from_environment(store).text(store)})")


def note_next(*words: str, at: Sequence[str] = tuple(_OPTIONS), into: str | None = None) -> None:
    """Note a command line to go on with, at the places that were typed for this one.

    Parameters
    ----------
    words : str
        Without the program.
    at : sequence of str
        Which places the next command takes, by their parameters.
    into : str, optional
        File that takes its output.
    """
    line = line_from(*words, at=at)
    note_line(f"{line}{f' > {shlex.quote(into)}' if into else ''}")


def line_from(*words: str, at: Sequence[str] = tuple(_OPTIONS)) -> str:
    """Return a command line to go on with, as `note_next` notes it."""
    return command_line([*words, *_typed(at)])


def note_again(*more: str, without: str = "") -> None:
    """Note the same command line with more options, or without one."""
    words = [word for word in click.get_current_context().meta[WORDS] if word != without]
    end = words.index("--") if "--" in words else len(words)  # what follows are no options
    note_line(command_line([*words[:end], *more, *words[end:]]))


def label_file_words() -> list[str]:
    """Return the options of the file of labels that this command was given, if it was."""
    labels = _session().labels
    if labels is None:
        return []
    column = [] if labels.id_column is None else ["--id-column", labels.id_column]
    return ["--labels-from", str(labels.path), *column]


def typed(**options: str) -> list[str]:
    """Return those options that were typed, with their values: ``typed(source="--from")``."""
    ctx = click.get_current_context()
    found = [(spelled, ctx.params[name]) for name, spelled in options.items() if _is_typed(name)]
    return [word for spelled, value in found for word in (spelled, str(value))]


def note_run(result: dict[str, Any]) -> None:
    """Note which run has recorded a result, and how to look at it again."""
    note(f"run {result['run_id']}")
    note_next("runs", "show", str(result["run_id"]), at=("runs_url",))


def note_fit(model: str) -> None:
    """Note how to fit a projection for a model: by its text tower, or for any by its prompts."""
    if has_text_tower_here(model):
        note_next("fit", "--model", model, "-o", unused("pca.safetensors"), at=())
    else:
        note_next("anchors", "imagenet", at=(), into=unused("prompts.txt"))


def note_points(photos: Any, name: str) -> None:
    """Note what follows on points of a collection: to declare, to project or to compare them.

    Parameters
    ----------
    photos : ImageCollection
    name : str
        As it was given; it may be an alias.
    """
    from intramodal.store.default_vectors import own_vector, vector_pair

    origins = photos.manifest.vectors
    if not origins:
        note_undeclared(name, sorted(photos.vectors))
        return
    with suppress(IntramodalError):  # several vectors: no line says which are meant
        own = own_vector(photos)
        if not any(origin.source == own for origin in origins.values()):
            note_fit(origins[own].encoder)
        elif vector_pair(photos) and photos.count() > NEIGHBOURS:
            note_next("compare", Name(name), "-o", unused("judge.html"))


def note_undeclared(name: str, vectors: Sequence[str]) -> None:
    """Note how to declare the model of a collection's vectors, and how to look up its name."""
    which = ["--vector", "VECTOR"] if len(vectors) > 1 else []
    line = command_line(["adopt", Name(name), *which, "--made-by", "MODEL", *_typed(_OPTIONS)])
    note_whole(f"no model is declared yet: {line}")
    note_next("models", "list", at=())


def command_line(words: Sequence[str]) -> str:
    """Return a line that a shell in this folder runs; secrets are masked."""
    from intramodal.runs.scrub import Scrubber

    ordered = _dashes_last(words)
    return f"{program()} {shlex.join(Scrubber.from_environment(*words).command(ordered))}"


def program() -> str:
    """Return how this program is called again from the same folder, as a shell takes it."""
    called = Path(sys.argv[0])
    if called.stem != _PROGRAM or not called.is_file():  # python -m, or part of another program
        return shlex.join([sys.executable, "-m", _PROGRAM])
    on_path = shutil.which(_PROGRAM)
    with suppress(OSError):
        if on_path is not None and called.samefile(on_path):
            return _PROGRAM
    return shlex.quote(sys.argv[0])


def unused(name: str) -> str:
    """Return a name that no file has here yet: a line that is pasted writes over nothing."""
    path, n = Path(name), 1
    while path.exists():
        n += 1
        path = Path(name).with_stem(f"{Path(name).stem}-{n}")
    return str(path)


def note_line(line: str) -> None:
    """Note a command line that is made already, if it works as it is pasted."""
    if works_pasted(line):
        note_whole(f"next: {line}")


def works_pasted(line: str) -> bool:
    """Return whether a line is shown as it is: not too long to read, and no secret in it.

    A character that would act in the terminal is shown as an escape, which is another name.
    """
    from intramodal.runs.scrub import MASK

    return len(line) <= _LONGEST and visible(line) == line and MASK not in line


def _dashes_last(words: Sequence[str]) -> list[str]:
    """Return the words with the names that begin with a dash behind the options."""
    is_dashed = [isinstance(word, Name) and word.startswith("-") for word in words]
    dashed = [word for word, is_last in zip(words, is_dashed, strict=True) if is_last]
    others = [word for word, is_last in zip(words, is_dashed, strict=True) if not is_last]
    return [*others, "--", *dashed] if dashed else others


def _session() -> Any:
    return click.get_current_context().params["session"]


def _typed(names: Iterable[str]) -> list[str]:
    """Return the options of places that were typed; others are found again by themselves."""
    ctx = click.get_current_context()
    session = ctx.params.get("session")
    if session is None:
        return []
    values = {"store": session.store, "runs_url": session.runs, "ca": session.access.ca}
    values["shard_key"] = session.shard_key
    typed_ones = filter(_is_typed, names)
    return [word for name in typed_ones for word in (_OPTIONS[name], str(values[name]))]


def _is_typed(name: str) -> bool:
    source = click.get_current_context().get_parameter_source(name)
    return source is ParameterSource.COMMANDLINE


def has_text_tower_here(model: str) -> bool:
    """Return whether a model can embed texts with what is installed."""
    from intramodal.model_names import known_models

    known = {row["name"]: row["text"] for row in known_models()}
    has_text = known[model] == "yes" if model in known else model.startswith("open_clip:")
    return has_text and importlib.util.find_spec("open_clip") is not None
