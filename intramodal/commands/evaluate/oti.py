"""``intramodal evaluate oti``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click

from intramodal.commands import completion
from intramodal.commands.columns import wide
from intramodal.commands.next_steps import note_run
from intramodal.commands.options import (
    COUNT,
    LIST,
    SEED,
    cluster_option,
    label_file_options,
    labels_option,
    least_option,
    max_queries_option,
    model_options,
    preference,
    shard_key_option,
    sides_options,
    vector_names,
    where_option,
    wide_option,
)
from intramodal.commands.outputs import Output
from intramodal.commands.printing import (
    interval,
    note,
    note_left_out,
    note_populations,
    number,
    print_by_distance,
    print_table,
    say,
    say_label_evidence,
    with_interval,
)
from intramodal.commands.session import JobCommand, Session, session_options
from intramodal.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from intramodal.commands.target import Target
    from intramodal.evaluation.rivals.oti import InversionMap, Invert, KeptTexts
    from intramodal.runs.run import Run
    from intramodal.types import Floats, PointId

FOLDER = Path(".intramodal")
"""Where texts are kept unless a file or a named vector is asked for."""


@click.command(
    "oti",
    cls=JobCommand,
    common=("labels", "vectors", "max-queries", "to", "out"),
    kept="what was inverted into a file or a vector is kept; run the same command again to resume",
    job="evaluation.rivals.oti:evaluate_inversion",
    settings="evaluation.rivals.oti:OtiSettings",
    renamed={"steps": "n_steps"},
)
@click.argument("target", metavar="COLLECTION[:VECTOR]", shell_complete=completion.collections)
@labels_option
@preference(
    "--vectors",
    shell_complete=completion.vectors,
    type=LIST,
    callback=vector_names,
    help="Named vectors to compare with, comma-separated; default: VECTOR and its projections.",
)
@click.option(
    "--model",
    help="Model whose text tower encodes the pseudo-words; default: the model that made the "
    "vector.",
)
@click.option(
    "--to",
    metavar="NAME",
    help="Store the inverted queries in the collection, as a named vector; needs a key with write "
    "access.",
)
@click.option(
    "--out",
    type=Output("inversions"),
    help="File that stores the inverted queries; default: "
    "./.intramodal/oti-COLLECTION-VECTOR.safetensors.",
)
@preference("--template", help="Prompt for the texts; {} stands for the pseudo-word.")
@preference("--steps", type=COUNT, help="Number of AdamW steps per image.")
@preference(
    "--batch-size",
    type=click.IntRange(1),
    help="Number of images inverted at once; halved if memory runs out.",
)
@max_queries_option
@label_file_options
@where_option
@sides_options
@least_option
@cluster_option
@preference(
    "--seed",
    type=SEED,
    help="Random seed of the initial pseudo-words, the drawn queries and the interval.",
)
@model_options
@shard_key_option
@wide_option
@session_options
def oti(  # noqa: PLR0913  one an option
    session: Session,
    target: str,
    labels: list[str],
    vectors: list[str] | None,
    model: str | None,
    to: str | None,
    out: Path | None,
    template: str,
    steps: int,
    batch_size: int,
    queries: str | None,
    gallery: str | None,
    split: str | None,
    cluster: str | None,
    seed: int,
    device: str | None,
    precision: str | None,
    **knobs: Any,
) -> None:
    """Search with queries inverted into text (textual inversion, OTI: a rival method).

    A pseudo-word in "a photo of {}" is optimised so that its text embedding is close to the
    stored vector of the image; no image is encoded again. This takes about a second per image on a
    CPU; the same command resumes after an interruption.

    \b
    intramodal evaluate oti photos --labels category --max-queries 500
    intramodal evaluate oti photos --labels category --split split --to oti
    """
    from intramodal.commands.target import Target
    from intramodal.evaluation.resampling import Resampling
    from intramodal.evaluation.rivals.oti import (
        InversionMap,
        OtiSettings,
        evaluate_inversion,
        vectors_beside,
    )
    from intramodal.evaluation.tasks import Sides

    if to is not None and out is not None:
        raise click.UsageError("--to and --out exclude each other")
    sides = Sides.parse(queries, gallery, split)
    with session.open() as at:
        photos = Target.open(at, target)
        beside = vectors_beside(photos.collection, photos.vector, vectors)
        if to in beside:
            raise InputError(f"{to!r} is compared with the texts; keep them under another name")
        encoder = photos.load_encoder(model, device=device, precision=precision)
        settings = OtiSettings(template, n_steps=steps, seed=seed, batch_size=batch_size)
        made = InversionMap(encoder, settings)
        with at.ledger.run("evaluate-oti", parameters=session.stated(), seed=seed) as run:
            found = evaluate_inversion(
                photos.collection,
                made,
                vector=photos.vector,
                vectors=beside,
                fields=labels,
                sides=sides,
                invert=_kept(photos, made, to, out, run),
                resampling=Resampling(cluster),
                seed=seed,
                run=run,
                **knobs,
            )
    session.answer(found.to_dict(), _show)


def _kept(
    photos: Target, made: InversionMap, to: str | None, out: Path | None, run: Run
) -> Invert:
    """Return what inverts pictures and keeps their texts in a vector or a file."""
    if to is not None:
        return _backfilled(photos, made, to, run)
    from intramodal.types import key_text

    key = photos.collection.store.shard_key
    of_key = "" if key is None else f"-{key_text(key)}"
    name = f"oti-{photos.collection.name}-{photos.vector}{of_key}"
    return made.kept_in(out or FOLDER / f"{quote(name, safe=' ')}.safetensors")


def _backfilled(photos: Target, made: InversionMap, vector: str, run: Run) -> Invert:
    """Return what fills a named vector of the points that lack it, and reads that of all."""
    from intramodal.evaluation.rivals.oti import KeptTexts, stored_texts
    from intramodal.ingest.backfill.in_place import backfill
    from intramodal.store.own_name import under_own_name

    def invert(ids: Sequence[PointId], X: Floats) -> KeptTexts:
        own = under_own_name(photos.collection)
        # No index is waited for: what asks is never searched.
        done = backfill(
            own,
            made,
            vector=vector,
            source=photos.vector,
            only=ids,
            batch_size=made.settings.batch_size,
            reindex=False,
            run=run,
        )
        return KeptTexts(stored_texts(own, vector, ids), done.projected, {"vector": vector})

    return invert


def _show(result: dict[str, Any]) -> None:
    rows = [
        (
            *(field, vector, with_interval(figures["map"], figures["interval"])),
            *_difference(entry["differences"].get(vector)),
            *(f"{entry['n_queries']:,}", number(figures["hit@1"])),
            *(interval(figures["interval"]), f"{entry['n_gallery']:,}"),
        )
        for field, entry in result["fields"].items()
        for vector, figures in entry["vectors"].items()
    ]
    columns = ("field", "vector", "mAP>", "OTI minus this>", "p>", "queries>")
    more = map(wide, ("R@1>", "95% interval>", "gallery>"))
    print_table((*columns, *more), rows, title=result["protocol"])
    texts = result["texts"]
    say(
        f"{texts['n']:,} images have a text, {texts['n_new']:,} of them new; its cosine to the "
        f"image: {number(texts['cosine_before'], 3)} at the start, "
        f"{number(texts['cosine_after'], 3)} now"
    )
    vectors = [
        (field, vector, figures)
        for field, entry in result["fields"].items()
        for vector, figures in entry["vectors"].items()
    ]
    print_by_distance(result, vectors)
    say_label_evidence((field, figures["label_evidence"]) for field, _, figures in vectors)
    note_populations([figures for *_, figures in vectors])
    note_left_out(result, result["fields"])
    note(f"texts in {texts.get('file') or 'vector ' + repr(texts['vector'])}")
    note_run(result)


def _difference(row: dict[str, Any] | None) -> tuple[str, str]:
    """Return the difference and its p-value; dashes for the texts themselves."""
    from intramodal.evaluation.verdict import p_value

    if row is None:
        return "–", "–"
    return with_interval(row["delta"], row["interval"], sign=True), p_value(row["p_adjusted"])
