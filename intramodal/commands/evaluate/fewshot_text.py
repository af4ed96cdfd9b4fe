"""``intramodal evaluate fewshot-text``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from intramodal.commands import completion
from intramodal.commands.evaluate.fewshot import print_accuracy
from intramodal.commands.options import (
    COUNT,
    FILE,
    LIST,
    classes_option,
    comma_list,
    draws_option,
    label_file_options,
    labels_option,
    least_option,
    lengths_option,
    model_options,
    names_if_given,
    preference,
    protocol_option,
    shard_key_option,
    shots_from_option,
    shots_option,
    split_option,
    template_option,
    test_share_option,
    text_options,
    where_option,
    wide_option,
)
from intramodal.commands.session import NOTHING_KEPT, JobCommand, Session, session_options


@click.command(
    "fewshot-text",
    cls=JobCommand,
    common=("labels", "methods", "by", "shots", "split"),
    kept=NOTHING_KEPT,
    job="evaluation.fewshot_text:evaluate_fewshot_text",
)
@click.argument("target", metavar="COLLECTION[:VECTOR]", shell_complete=completion.collections)
@labels_option
@label_file_options
@where_option
@preference(
    "--methods",
    type=LIST,
    callback=names_if_given,
    help="Methods to evaluate, comma-separated: zero-shot, coder-zero-shot, tip-adapter, tip-x, "
    "coder, ape, lda+text, prototype+text (default: these, as far as the preset has constants for "
    "them); also prototype and lda, which use no text.",
)
@preference(
    "--by",
    shell_complete=completion.vectors,
    type=LIST,
    callback=comma_list,
    help="Named vectors by which prototype, lda and their +text forms compare images, "
    "comma-separated; default: VECTOR.",
)
@shots_option
@protocol_option
@lengths_option
@shots_from_option
@preference(
    "--episodes",
    type=COUNT,
    help="Number of episodes, each with its own random draw of the shots; default: 10, with "
    "--protocol paper 3.",
)
@preference(
    "--validation",
    type=click.IntRange(0, 100_000),
    help="Number of further images per class that tune the constants; 0: use the published "
    "constants; default: 4, with the paper's protocol or preset 0.",
)
@preference(
    "--preset",
    help="Data set whose published constants and search ranges are used; paper: texts and shots "
    "weigh .5 each, the default with --protocol paper.",
)
@draws_option
@split_option
@test_share_option
@least_option
@template_option
@text_options("class in alphabetical order")
@click.option(
    "--class-texts",
    type=FILE,
    help='JSON file with further texts for CODER: {class: [texts]}, or {class: {"names": '
    '[synonyms], "attributes": [texts]}}; classes without an entry use their name alone.',
)
@classes_option
@model_options
@shard_key_option
@wide_option
@session_options
def fewshot_text(
    session: Session,
    target: str,
    labels: list[str],
    split: str | None,
    class_texts: Path | None,
    projections: list[Path],
    classes: bool,
    **options: Any,
) -> None:
    """Classify with a few labelled images per class and the class names (rivals).

    \b
    intramodal evaluate fewshot-text photos --labels category --by raw,pca
    intramodal evaluate fewshot-text pets --labels class --split split --preset paper
    """
    from intramodal.commands.target import Target, TextSource
    from intramodal.errors import InputError
    from intramodal.evaluation.fewshot_text import evaluate_fewshot_text
    from intramodal.evaluation.rivals.class_texts import DescribedClasses
    from intramodal.evaluation.tasks import Sides
    from intramodal.projection.projection import Projection

    options["projections"] = [Projection.load(path) for path in projections]
    of_texts = [options.pop(name) for name in ("model", "text_vectors", "device", "precision")]
    with session.open() as at:
        photos = Target.open(at, target)
        if photos.is_projected:
            raise InputError(
                f"texts are compared with images on the encoder's own vector, and "
                f"{photos.vector!r} is projected; name its source, and this one with --by"
            )
        stated = session.stated()
        with at.ledger.run(
            "evaluate-fewshot-text", parameters=stated, seed=options["seed"]
        ) as run:
            found = evaluate_fewshot_text(
                photos.collection,
                texts=TextSource(photos, *of_texts),
                vector=photos.vector,
                fields=labels,
                words=None if class_texts is None else DescribedClasses.read(class_texts),
                sides=Sides.parse(None, None, split),
                run=run,
                **options,
            )
    session.answer(found.to_dict(classes=classes), print_accuracy)
