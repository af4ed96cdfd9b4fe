"""Every command against its job: what an option sets, and where its default is written."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from intramodal.cli import cli
from intramodal.commands.session import JobCommand, parameters
from intramodal.evaluation.gate import gated
from intramodal.ingest.pipeline import images_collection, ingest_images, ingest_vectors
from intramodal.ingest.sources.formats import open_source
from intramodal.ingest.vectors.ready import open_ready
from intramodal.store.open import open_store

SESSION = {
    "store",
    "runs_url",
    "as_json",
    "upload_streams",
    "nodes",
    "shard_key",
    "_click_default_help",
}
SESSION |= {"ca", "timeout", "deadline", "labels_from", "id_column"}
"""Options of session.py: where, how a server is spoken and written to, whose labels."""
PRINTING = {"classes", "report", "pictures", "picture_field", "label", "html", "out", "wide"}
"""What is printed, or written beside."""
GATE = {"junit", *inspect.signature(gated).parameters}
"""What the outcomes of a comparison are held against once the job is done: `gate.gated`."""
MADE_OF = {
    "fields": {"labels"},
    "a": {"vectors"},
    "sides": {"queries", "gallery", "split"},
    "resampling": {"cluster"},
    "texts": {"model", "models", "text_vectors", "device", "precision", "texts"},
    "encoder": {"model", "device", "precision"},
    "source": {"target", "targets", "model", "text_vectors", "projectors", "device", "precision"},
    "collection": {"made_by", "rollback", "verify", "recompute", "yes", "dry_run"}
    | {"shard", "move"},
    "searches": {"ef", "indexed_only", "ignore_quantization", "rescore", "oversampling", "exact"}
    | {"candidates", "query_side", "rerank"},
    "words": {"class_texts"},
    "values": {"words", "template"},
    "weight": {"word_weight"},
    "rows": {"labels", "fit_rows", "fit_share"},
    "text": {"projection", "text_vectors"},
    "anchors": {"anchors", "template"},
    "names": {"names"},
    "by": {"by"},
    "invert": {"to"},
    "work": {"out", "dry_run"},
    "collections": {"names", "dry_run"},
    "ground_truth": {"protocol"},
}
"""By parameter of a job, the options that its value is made of, and those of a command's other
jobs on the same collection."""
OWN = {
    ("reproduce", "out"): Path("reproduced"),  # where its files are written
}
"""Defaults that no job has."""


def commands(group: click.Command = cli, name: str = "") -> Iterator[tuple[str, JobCommand]]:
    if isinstance(group, click.Group):
        context = click.Context(group)
        for child in group.list_commands(context):
            found = group.get_command(context, child)
            assert found is not None
            yield from commands(found, child)
    elif isinstance(group, JobCommand):
        yield name, group


JOBS = dict(commands())


def options(command: JobCommand) -> list[click.Option]:
    found = command.get_params(click.Context(command))
    return [one for one in found if isinstance(one, click.Option) and one.name != "help"]


def default_of(option: click.Option) -> object:
    """Return the default; None without one, which newer releases of click call UNSET."""
    found = option.default
    return None if found in (False, ()) or "UNSET" in repr(found) else found


def test_every_command_that_does_something_calls_a_job() -> None:
    assert set(JOBS) == {
        *("advise", "fit", "backfill", "adopt", "compare", "search", "export"),
        *("retrieval", "fewshot", "fewshot-text", "index", "text", "misalignment"),
        *("recovery", "oti", "reproduce", "import-local"),
    }


@pytest.mark.parametrize("name", JOBS)
def test_every_option_is_a_parameter_of_the_job_of_the_session_or_of_printing(name: str) -> None:
    command = JOBS[name]
    made = {option for job, parts in MADE_OF.items() if job in command.knobs for option in parts}
    known = {*command.knobs, *command.renamed, *SESSION, *PRINTING, *GATE, *made}
    assert {option.name for option in options(command)} - known == set()


def test_the_options_of_an_ingest_are_those_of_its_two_jobs_and_of_what_these_take() -> None:
    jobs = (ingest_images, ingest_vectors, open_source, open_ready, images_collection)
    known = {name for job in jobs for name in inspect.signature(job).parameters}
    made = {"collection", "model", "device", "precision", "metadata", "dry_run", "shard_key"}
    made |= {"shards", "replicas", "write_consistency"}  # `options` of a new collection
    found = cli.get_command(click.Context(cli), "ingest")
    assert found is not None
    given = [one for one in found.params if isinstance(one, click.Option)]
    assert {one.name for one in given} - known - made - SESSION == set()
    # Each job has a default of its own: none is written a second time.
    shown = {one.name for one in given if default_of(one) is not None}
    assert shown == {"store", "runs_url"}


@pytest.mark.parametrize("name", JOBS)
def test_every_default_is_that_of_the_job(name: str) -> None:
    command = JOBS[name]
    for option in options(command):
        knob = command.knobs.get(command.renamed.get(str(option.name), str(option.name)))
        default = default_of(option)
        if option.name in SESSION or default is None:
            continue
        if (name, option.name) in OWN:
            assert default == OWN[name, option.name]
            continue
        assert knob is not None, option.name
        assert knob.default is not inspect.Parameter.empty, option.name
        wanted = knob.default
        is_list = isinstance(wanted, tuple | list)
        assert default == (",".join(map(str, wanted)) if is_list else wanted)


def test_the_defaults_that_the_help_names_are_those_of_the_store() -> None:
    defaults = inspect.signature(open_store).parameters
    for option in options(JOBS["search"]):
        if option.name in ("timeout", "deadline"):
            default = defaults[f"{option.name}_s"].default
            assert str(option.help).endswith(f"default: {default:g}.")


@pytest.mark.parametrize("name", JOBS)
def test_a_job_takes_few_arguments_by_position(name: str) -> None:
    found = parameters(JOBS[name].job).values()
    by_position = [one for one in found if one.kind is one.POSITIONAL_OR_KEYWORD]
    assert len(by_position) <= (3 if name == "compare" else 2)  # compare(source, a, b)
    assert not any(one.kind in (one.VAR_KEYWORD, one.VAR_POSITIONAL) for one in found)
