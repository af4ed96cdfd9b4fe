"""``intramodal demo``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from intramodal.commands.ingest import PICTURES_DEFAULTS, VECTORS_DEFAULTS
from intramodal.commands.next_steps import command_line, say_made
from intramodal.commands.options import CheckedCommand, json_option
from intramodal.commands.printing import note_whole, printable, say
from intramodal.commands.session import Access, Session, Workspace, access_options

MODEL = "demo"
COLLECTION, ENCODED = "demo", "demo-encoded"
"""Of the shipped vectors, and of those that the model makes here: never mixed."""

FIELDS = ("identity", "subgroup", "category", "vendor")
CLUSTER = "code_point"
"""The same drawing idea by four vendors is one piece of evidence, not four."""

TITLE = "Emoji by four vendors: raw against PCA←"
ABOUT = (
    "What this is: emoji drawn by four vendors, encoded by a small shipped model. Its image tower "
    "was trained on ImageNet's labels and is locked; its text tower was fitted to the names of "
    "other emoji and of ImageNet's classes, and nothing shown here was used to train it. It shows "
    "how the tool works and, in small, what the paper reports: concepts gain and style loses. It "
    "is not a benchmark, and its figures say nothing about your model or your images."
)


@click.command("demo", cls=CheckedCommand, common=("out", "encode"))
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("intramodal-demo"),
    show_default=True,
    help="Folder for the store, the runs database and the report.",
)
@click.option(
    "--encode",
    is_flag=True,
    help="Encode the images and texts with the bundled model instead of reading its bundled "
    "vectors; needs intramodal[encoders].",
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
    encode: bool,
    store: str | None,
    runs: str | None,
    as_json: bool,
    **access: Any,
) -> None:
    """Run the whole workflow on bundled images, offline: ingest, fit, compare, report.

    The images are emoji drawn by four vendors; their vectors are those of a small bundled model,
    so no torch is needed. The report explains what they can and cannot show.
    """
    places = {"store": _typed(ctx, "store"), "runs": _typed(ctx, "runs")}
    given: dict[str, Any] = {
        name: place or str(out / default)
        for (name, place), default in zip(places.items(), ("store", "runs.db"), strict=True)
    }
    session = Session(**given, as_json=as_json, options={}, access=Access(**access))
    session.answer(_run(session, out, encode=encode), _show)


def _run(session: Session, out: Path, *, encode: bool) -> dict[str, Any]:
    """Fit, ingest, compare and report; running it again writes nothing and compares again."""
    from intramodal.commands.compare import keep_document, write_report
    from intramodal.demo import pictures_list
    from intramodal.evaluation.compare import compare
    from intramodal.evaluation.resampling import Resampling
    from intramodal.reports.pictures import PictureSource

    started = time.perf_counter()
    pictures = pictures_list().parent
    name = ENCODED if encode else COLLECTION
    encoder = _encoder() if encode else None
    out.mkdir(parents=True, exist_ok=True)
    report, projection_file = out / "report.html", out / f"{name}-pca.safetensors"
    projection, texts = _fitted_once(encoder, projection_file)
    with session.open(creates=True) as at:
        ingested = _ingested(session, at, encoder, projection, projection_file)
        stated = _stated(session, name, report, projection_file)
        with at.ledger.run("compare", parameters=stated, seed=0) as run:
            found = compare(
                at.collection(name),
                fields=FIELDS,
                projection=projection,
                texts=texts,
                resampling=Resampling(CLUSTER),
                run=run,
            )
            document = keep_document(
                found, run, at.ledger, title=TITLE, about=ABOUT, pictures=PictureSource(pictures)
            )
    write_report(document, report, run)
    changed = {"gain": found.most_changed(+1), "loss": found.most_changed(-1)}
    return {
        **found.to_dict(),
        "n_images": ingested["written"] + ingested["skipped"] + ingested["updated"],
        "n_failed": ingested["failed"],
        "report": str(report),
        "about": ABOUT,
        "seconds": round(time.perf_counter() - started, 3),
        "most_changed": changed,
        "next": _next(session, name, out, pictures, changed),
    }


def _encoder() -> Any:
    from intramodal.ingest.encoders.registry import load_encoder

    return load_encoder(MODEL)


def _fitted_once(encoder: Any, path: Path) -> tuple[Any, Any]:
    """Return PCA← and its texts; it is saved, as a second fit may differ in its last bits."""
    from intramodal.demo import text_vectors
    from intramodal.ingest.vectors.matrices import read_matrix
    from intramodal.projection.anchors import AnchorSet
    from intramodal.projection.fit import fit_projection
    from intramodal.projection.projection import Projection

    texts = AnchorSet.imagenet().embed(encoder) if encoder else read_matrix(text_vectors())
    if not path.is_file():
        fitted = fit_projection(encoder) if encoder else fit_projection(texts, made_by=MODEL)
        fitted.save(path)
    return Projection.load(path), texts


def _stated(session: Session, name: str, report: Path, projection: Path) -> dict[str, str]:
    """Return the options of `compare` that would do the same, as its run records them."""
    from intramodal.demo import pictures_list, text_vectors

    options = {
        "collection": name,
        "store": session.store,
        "runs": session.runs,
        "labels": list(FIELDS),
        "vectors": ["raw", "pca"],
        "tasks": ["retrieval", "fewshot"],
        "cluster": CLUSTER,
        "margin": 0.005,
        "min_class_size": 2,
        "projection": projection,
        **({} if name == ENCODED else {"text_vectors": text_vectors()}),
        "report": report,
        "controls": True,
        "pictures": pictures_list().parent,
        "title": TITLE,
        "about": ABOUT,
    }
    return {name: str(value) for name, value in options.items()}


def _next(
    session: Session, name: str, out: Path, pictures: Path, changed: dict[str, Any]
) -> list[str]:
    """Return commands that look further, as a shell takes them, without passwords.

    The searches are those of the queries that gain and that lose most.
    """
    runs = ("--runs", session.runs)
    places = ("--store", session.store, *runs, "--pictures", str(pictures))
    commands = [
        ["search", name, *_asked(query), *places, "--html", str(out / f"{which}.html")]
        for which, query in changed.items()
        if query
    ]
    commands.append(["runs", "list", *runs])
    return [command_line(command) for command in commands]


def _asked(query: dict[str, Any]) -> list[str]:
    return ["--id", str(query["id"]), "--label", query["field"]]


def _ingested(
    session: Session, at: Workspace, encoder: Any, projection: Any, projection_file: Path
) -> dict[str, Any]:
    """Encode the images, or take their bundled vectors; what is stored is not written again."""
    places = {"store": session.store, "runs": session.runs, "projection": str(projection_file)}
    if encoder:
        return _ingested_images(at, encoder, projection, places)
    return _ingested_vectors(at, projection, places)


def _ingested_images(
    at: Workspace, encoder: Any, projection: Any, places: dict[str, str]
) -> dict[str, Any]:
    from intramodal.demo import pictures_list
    from intramodal.ingest.pipeline import images_collection, ingest_images
    from intramodal.ingest.sources.formats import open_source

    source = open_source(str(pictures_list()))
    stated = PICTURES_DEFAULTS | {
        "source": str(pictures_list()),
        "collection": ENCODED,
        "model": encoder.name,
        **places,
        **{"prune": False, "yes": False, "dry_run": False, "nodes": []},
    }
    with at.ledger.run("ingest", parameters=stated) as run:
        images = images_collection(at.store, ENCODED, encoder=encoder, projection=projection)
        done = ingest_images(source, images, encoder=encoder, projection=projection, run=run)
    return done.to_dict()


def _ingested_vectors(at: Workspace, projection: Any, places: dict[str, str]) -> dict[str, Any]:
    from intramodal.demo import image_vectors, pictures_list
    from intramodal.ingest.adopt import declared
    from intramodal.ingest.pipeline import ingest_vectors, vectors_collection
    from intramodal.ingest.vectors.load import vectors_of
    from intramodal.ingest.vectors.ready import open_ready
    from intramodal.store.default_vectors import RAW

    ready = open_ready(
        image_vectors(), dataset=COLLECTION, table=pictures_list(), id_column="path"
    )
    vectors = vectors_of(ready, declared(MODEL), RAW, projection)
    stated = VECTORS_DEFAULTS | {
        "source": str(image_vectors()),
        "metadata": str(pictures_list()),
        "id_column": "path",
        "collection": COLLECTION,
        "made_by": MODEL,
        "vector": RAW,
        **places,
        "nodes": [],
    }
    with at.ledger.run("ingest", parameters=stated) as run:
        images = vectors_collection(at.store, COLLECTION, vectors)
        done = ingest_vectors(ready, images, made_by=MODEL, projection=projection, run=run)
    return done.to_dict()


def _show(result: dict[str, Any]) -> None:
    from intramodal.commands.compare import print_verdicts

    counts = f"{result['n_images']:,} images, {result['n_failed']} failed"
    say(f"{counts}, {result['seconds']:.0f} s")
    print_verdicts(result)
    say(result["about"])
    for which, query in result["most_changed"].items():
        if query:
            ends = " to ".join(f"{value:.3f}" for value in query["ap"].values())
            label = printable(str(query["label"]))
            say(f"largest {which}: {query['field']} {label!r}, average precision {ends}")
    say_made("report", result["report"])
    for line in result["next"]:
        note_whole(f"next: {line}")


def _typed(ctx: click.Context, name: str) -> str | None:
    """Return an option that somebody typed: emoji belong into no store that is configured."""
    is_typed = ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE
    return ctx.params[name] if is_typed else None
