"""``intramodal demo``."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from intramodal.commands.ingest import PICTURES_DEFAULTS
from intramodal.commands.options import CheckedCommand, json_option
from intramodal.commands.printing import note, say
from intramodal.commands.session import Access, Session, Workspace, access_options

COLLECTION = "demo"
FIELDS = ("identity", "subgroup", "category", "vendor")
CLUSTER = "code_point"
"""The same drawing idea by four vendors is one piece of evidence, not four."""

TITLE = "Emoji by four vendors: raw against PCA←"
ABOUT = (
    "What this is: emoji drawn by four vendors, encoded by a small shipped model. Its image tower "
    "was trained on ImageNet's labels and is locked; its text tower was fitted to the names of "
    "other emoji and of ImageNet's classes, and nothing shown here was used to train it. It shows "
    "how the tool works and, in small, what the paper reports: concepts gain and style loses. It "
    "is not a benchmark, and its figures say nothing about your model or your pictures."
)


@click.command("demo", cls=CheckedCommand)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("intramodal-demo"),
    show_default=True,
    help="Folder for the store, the runs database and the report.",
)
@click.option("--store", help="Use another store; default: OUT/store, even if one is configured.")
@click.option(
    "--runs", help="Use another runs database; default: OUT/runs.db, even if one is configured."
)
@access_options
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    /,
    out: Path,
    store: str | None,
    runs: str | None,
    as_json: bool,
    **access: Any,
) -> None:
    """Run the whole workflow on bundled images, offline: ingest, fit, compare, report.

    The images are emoji drawn by four vendors, and the bundled model is small. The report explains
    what they can and cannot show.
    """
    places = {"store": _typed(ctx, "store"), "runs": _typed(ctx, "runs")}
    given: dict[str, Any] = {
        name: place or str(out / default)
        for (name, place), default in zip(places.items(), ("store", "runs.db"), strict=True)
    }
    session = Session(**given, as_json=as_json, options={}, access=Access(**access))
    session.answer(_run(session, out), _show)


def _run(session: Session, out: Path) -> dict[str, Any]:
    """Ingest, fit, compare and report; running it again encodes nothing and compares again."""
    from intramodal.commands.compare import keep_document, write_report
    from intramodal.demo import pictures_list
    from intramodal.evaluation.compare import compare
    from intramodal.evaluation.resampling import Resampling
    from intramodal.ingest.vectors.matrices import read_matrix
    from intramodal.projection.projection import Projection
    from intramodal.reports.pictures import PictureSource

    started = time.perf_counter()
    out.mkdir(parents=True, exist_ok=True)
    report, projection, texts = (
        out / name for name in ("report.html", "pca.safetensors", "texts.npy")
    )
    with session.open(creates=True) as at:
        ingested = _ingested(session, at, projection, texts)
        pictures = pictures_list().parent
        stated = _stated(session, pictures, report, projection, texts)
        with at.ledger.run("compare", parameters=stated, seed=0) as run:
            found = compare(
                at.collection(COLLECTION),
                fields=FIELDS,
                projection=Projection.load(projection),
                texts=read_matrix(texts),
                resampling=Resampling(CLUSTER),
                run=run,
            )
            document = keep_document(
                found, run, at.ledger, title=TITLE, about=ABOUT, pictures=PictureSource(pictures)
            )
        first = next(at.store.scroll(COLLECTION, batch_size=1)).ids[0]
    write_report(document, report, run)
    return {
        **found.to_dict(),
        "n_images": ingested["written"] + ingested["skipped"] + ingested["updated"],
        "n_failed": ingested["failed"],
        "report": str(report),
        "about": ABOUT,
        "seconds": round(time.perf_counter() - started, 3),
        "next": _next(session, out, pictures, str(first)),
    }


def _stated(
    session: Session, pictures: Path, report: Path, projection: Path, texts: Path
) -> dict[str, str]:
    """Return the options of `compare` that would do the same, as its run records them."""
    places = {"projection": projection, "text_vectors": texts, "report": report}
    options = {
        "collection": COLLECTION,
        "store": session.store,
        "runs": session.runs,
        "labels": list(FIELDS),
        "vectors": ["raw", "pca"],
        "tasks": ["retrieval", "fewshot"],
        "cluster": CLUSTER,
        "margin": 0.005,
        "min_class_size": 2,
        **places,
        "controls": True,
        "pictures": pictures,
        "title": TITLE,
        "about": ABOUT,
    }
    return {name: str(value) for name, value in options.items()}


def _next(session: Session, out: Path, pictures: Path, point: str) -> list[str]:
    """Return commands that look further, as a shell takes them, without passwords."""
    from intramodal.runs.scrub import Scrubber

    store, runs = map(Scrubber([]).text, (session.store, session.runs))
    places = ("--store", store, "--runs", runs)
    page = ("--pictures", str(pictures), "--html", str(out / "search.html"))
    commands = (
        ("runs", "list", "--runs", runs),
        ("search", COLLECTION, "--id", point, *places, *page),
    )
    return [shlex.join(["intramodal", *command]) for command in commands]


def _ingested(
    session: Session, at: Workspace, projection_file: Path, texts: Path
) -> dict[str, Any]:
    from intramodal.demo import fitted_once, pictures_list
    from intramodal.ingest.encoders.registry import load_encoder
    from intramodal.ingest.pipeline import images_collection, ingest_images
    from intramodal.ingest.sources.formats import open_source

    encoder = load_encoder("demo")
    projection = fitted_once(encoder, projection_file, texts)
    source = open_source(str(pictures_list()))
    stated = PICTURES_DEFAULTS | {
        "source": str(pictures_list()),
        "collection": COLLECTION,
        "model": encoder.name,
        "store": session.store,
        "runs": session.runs,
        "projection": str(projection_file),
        **{"prune": False, "yes": False, "dry_run": False, "nodes": []},
    }
    with at.ledger.run("ingest", parameters=stated) as run:
        pictures = images_collection(at.store, COLLECTION, encoder=encoder, projection=projection)
        done = ingest_images(source, pictures, encoder=encoder, projection=projection, run=run)
    return done.to_dict()


def _show(result: dict[str, Any]) -> None:
    from intramodal.commands.compare import print_verdicts

    counts = f"{result['n_images']:,} pictures, {result['n_failed']} failed"
    say(f"{counts}, {result['seconds']:.0f} s")
    print_verdicts(result)
    say(result["about"])
    say(f"report: {result['report']}")
    for line in result["next"]:
        note(f"next: {line}")


def _typed(ctx: click.Context, name: str) -> str | None:
    """Return an option that somebody typed: emoji belong into no store that is configured."""
    is_typed = ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE
    return ctx.params[name] if is_typed else None
