"""``intramodal advise``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import click

from intramodal.commands import completion
from intramodal.commands.next_steps import Name, label_file_words, line_from, note_run, unused
from intramodal.commands.options import (
    FILE,
    SEED,
    fit_rows_of,
    fit_rows_options,
    label_file_options,
    labels_option,
    model_options,
    preference,
    sample_option,
    shard_key_option,
    text_axes_of,
    wide_option,
)
from intramodal.commands.session import NOTHING_KEPT, JobCommand, Session, session_options
from intramodal.types import listed


@click.command(
    "advise",
    cls=JobCommand,
    common=("labels", "projection", "budget"),
    kept=NOTHING_KEPT,
    job="evaluation.advice:advise",
)
@click.argument("collection", metavar="COLLECTION[:VECTOR]", shell_complete=completion.collections)
@labels_option
@preference(
    "--budget",
    type=click.IntRange(1),
    help="Number of labelled images per field that may be used, drawn (--seed) from those for "
    "fitting.",
)
@click.option(
    "--projection",
    type=FILE,
    help="Projection file whose directions centred PCA← and the text axes are made of; without it "
    "and --text-vectors centred PCA← is not offered.",
)
@click.option(
    "--text-vectors",
    type=FILE,
    help="Precomputed text embeddings, one row per text, instead of --projection.",
)
@click.option(
    "--model",
    help="Model of the vectors, which embeds the names of the fields' values: offers words, with "
    "--projection.",
)
@fit_rows_options()
@sample_option
@preference("--seed", type=SEED, help="Random seed of the images that are used, and of the folds.")
@label_file_options
@shard_key_option
@model_options
@wide_option
@session_options
def command(session: Session, collection: str, **options: Any) -> None:
    """Say which map to take for which field, by a few labelled images.

    Maps are cross-validated among images for fitting: those that judge a map afterwards, in
    compare, have not chosen it.

    \b
    intramodal advise photos --labels category,season --projection pca.safetensors
    intramodal advise photos --labels category --fit-rows split=train --budget 1000
    """
    from intramodal.evaluation.advice import advise

    name, has_vector, vector = collection.partition(":")
    how = {key: options[key] for key in ("budget", "sample", "seed")} | fit_rows_of(options)
    how |= {"vector": vector} if has_vector else {}
    text = text_axes_of(options)
    if options["model"] is not None:
        if options["projection"] is None:
            raise click.UsageError("--model is for --projection only; give both, or leave it out")
        from intramodal.ingest.encoders.registry import load_encoder

        on = {"device": options["device"], "precision": options["precision"]}
        how["encoder"] = load_encoder(options["model"], **on)
    with session.open() as at:
        photos = at.collection(name)
        with at.ledger.run("advise", parameters=session.stated(), seed=options["seed"]) as run:
            advice = advise(photos, fields=options["labels"], text=text, run=run, **how)
    found = advice.to_dict()
    for one in advice:
        lines = _commands(one, advice.vector, photos, text, options)
        found["fields"][one.field]["commands"] = [line_from(*words) for words in lines]
    session.answer(found, _show)


def _commands(
    one: Any, vector: str, photos: Any, text: Any, options: Mapping[str, Any]
) -> Iterable[list[str]]:
    """Yield the command lines that fit, store and judge what was chosen for a field."""
    from intramodal.evaluation.candidates import PCA_CENTRED, RAW
    from intramodal.projection.projection import CENTERED
    from intramodal.projection.stored_map import named_by_field
    from intramodal.store.default_vectors import source_and_projection

    choice, name = one.choice.name, photos.name
    if choice == RAW:
        return
    if choice == PCA_CENTRED and getattr(text, "offset", None) is not None:  # as it was given
        file, made = str(options["projection"]), source_and_projection(photos, text, vector)[1]
    else:
        is_of_field = choice not in (CENTERED, PCA_CENTRED)
        made = _untaken(named_by_field(choice, one.field) if is_of_field else choice, photos)
        file = unused(f"{made}.safetensors")
        place = name if vector == "raw" else f"{name}:{vector}"
        yield ["fit", Name(place), *_fitted_as(one, choice, options), "-o", file]
    source = [] if vector == "raw" else ["--from", vector]
    yield ["backfill", Name(name), "--projection", file, "--to", made, *source]
    labels = ["--labels", listed(one.field), *label_file_words()]
    yield ["compare", Name(name), "--vectors", f"{listed(vector)},{made}", *labels]


def _untaken(vector: str, photos: Any) -> str:
    """Return a name that no vector of a collection has: another map may have made that one."""
    found, n = vector, 1
    while found in photos.vectors:
        n += 1
        found = f"{vector}_{n}"
    return found


def _fitted_as(one: Any, choice: str, options: Mapping[str, Any]) -> list[str]:
    """Return the options of a fit: its method, and the rows and texts that were given here."""
    from intramodal.evaluation.candidates import PCA_CENTRED, POSTERIOR, WORDS
    from intramodal.projection.projection import CENTERED

    texts = _given(options, "projection", "text_vectors")
    if choice == CENTERED:
        return ["--method", CENTERED]
    if choice == PCA_CENTRED:
        return ["--method", CENTERED, *texts]
    if choice == WORDS:
        words = ["--words", one.field, *texts, *_given(options, "model")]
        return [*words, *label_file_words()]
    words = ["--labels", listed(one.field)]
    words += ["--method", choice] if choice == POSTERIOR else []
    words += ["--force"] if choice == POSTERIOR and one.few else []
    return [*words, *_given(options, "fit_share", "fit_rows"), *texts, *label_file_words()]


def _given(options: Mapping[str, Any], *names: str) -> list[str]:
    """Return some options as they were given, where they were."""
    return [
        word
        for name in names
        if options[name] is not None
        for word in (f"--{name.replace('_', '-')}", str(options[name]))
    ]


def _show(result: dict[str, Any]) -> None:
    from intramodal.commands.columns import wide
    from intramodal.commands.printing import (
        is_wide,
        note,
        print_table,
        say,
        say_label_evidence,
        say_whole,
    )

    rows = [
        (field, name, *_figures(figures), f"{figures['bytes_per_point']:,}", figures["dims"])
        for field, one in result["fields"].items()
        for name, figures in one["candidates"].items()
        if is_wide() or name == one["choice"]
    ]
    columns = ("field", "map", "mAP>", "gain in points>", "first page>", "gain in points>")
    title = "all candidates" if is_wide() else "the choice for each field; --wide: all candidates"
    print_table((*columns, "bytes per point>", wide("dimensions>")), rows, title=title)
    for field, one in result["fields"].items():
        say(one["sentence"])
        for line in one["commands"]:
            say_whole(f"  {line}")
        beside = one["label_evidence"].items()
        say_label_evidence(
            (field, each) for name, each in beside if is_wide() or name == one["choice"]
        )
        if one["n_labelled"] > one["n_rows"]:
            note(
                f"{field}: chosen by {one['n_rows']:,} of {one['n_labelled']:,} labelled images "
                f"for fitting; --budget {one['n_labelled']} chooses by as many as fit takes"
            )
    _note_not_offered(result["fields"])
    note(f"for fitting: {result['fit_rows']}; first page: precision@1 among the images held out")
    note_run(result)


def _note_not_offered(fields: Mapping[str, Mapping[str, Any]]) -> None:
    """Note which maps could not be chosen for which fields, and why; each reason once."""
    from intramodal.commands.printing import note, printable

    found: dict[tuple[str, str], list[str]] = {}
    for field, one in fields.items():
        for reason in one["not_offered"].items():
            found.setdefault(reason, []).append(field)
    for (name, why), of in found.items():
        fields_named = "" if len(of) == len(fields) else f" for {', '.join(of)}"
        note(printable(f"not offered{fields_named}: {name}: {why}"))


def _figures(figures: Mapping[str, Any]) -> tuple[str, ...]:
    from intramodal.commands.printing import number

    return (
        number(figures["map"]),
        _gain(figures["gain"], figures["interval"]),
        number(figures["precision@1"]),
        _gain(figures["first_page_gain"], figures["first_page_interval"]),
    )


def _gain(delta: float | None, ends: list[float] | None) -> str:
    if delta is None or ends is None:
        return "–"
    low, high = (100 * end for end in ends)
    return f"{100 * delta:+.1f} [{low:+.1f}, {high:+.1f}]"
