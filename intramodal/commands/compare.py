"""``intramodal compare``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import click

from intramodal.commands import completion
from intramodal.commands.columns import id_column, state_column, wide
from intramodal.commands.map_lines import MapLines, with_map_lines
from intramodal.commands.next_steps import (
    Name,
    label_file_words,
    note_again,
    note_line,
    note_next,
    program,
    say_made,
    unused,
)
from intramodal.commands.options import (
    COUNT,
    FILE,
    LIST,
    SEED,
    comma_list,
    label_file_options,
    least_option,
    max_queries_option,
    model_options,
    picture_options,
    preference,
    query_side_of,
    query_side_options,
    report_option,
    sample_option,
    shard_key_option,
    sides_options,
    vector_names,
    where_option,
    wide_option,
    with_options,
)
from intramodal.commands.outputs import Output
from intramodal.commands.printing import (
    interval,
    is_wide,
    named,
    note,
    note_held_out,
    note_where,
    note_whole,
    number,
    print_by_distance,
    print_table,
    printable,
    say,
    say_label_evidence,
    with_interval,
)
from intramodal.commands.session import JobCommand, Session, figures_kept, session_options
from intramodal.evaluation.gate import FAIL_ON

GATE_FAILED = 3
"""Exit code: 1 stays for errors, 2 for wrong usage."""

_GATE = ("fail_on", "junit", "baseline")
_SIDES = ("split", "queries", "gallery")
_QUERY_SIDE = ("query_side", "rerank")
_ONLY_LABELLED = (
    *(*_SIDES, "cluster", "projection", "beside", "sample", "max_queries"),
    *(*_GATE, *_QUERY_SIDE),
)
_ONLY_UNLABELLED = ("names", "model")
_NOT_RECORDED_LABELLED = ("names", "model", "k", "device", "precision")
_NOT_RECORDED_UNLABELLED = (
    *_ONLY_LABELLED,
    "labels",
    "tasks",
    "margin",
    "guard",
    "duplicates",
    "controls",
)


@click.command(
    "compare",
    cls=JobCommand,
    common=("vectors", "labels", "projection", "report", "pictures"),
    kept="the figures of finished fields are recorded with the run; run the same command again to "
    "start over",
    job="evaluation.compare:compare",
    settings="evaluation.agreement:compare_unlabelled",
)
@click.argument("collection", shell_complete=completion.collections)
@preference(
    "--vectors",
    shell_complete=completion.vectors,
    type=LIST,
    callback=vector_names,
    help="Two named vectors A,B: the one in use and the one that may replace it; '' is a vector "
    "without a name; default: the encoder's own and its projection, as the collection's metadata "
    "say.",
)
@preference(
    "--labels",
    shell_complete=completion.fields,
    type=LIST,
    callback=comma_list,
    help="Payload fields that hold the labels, comma-separated; nested fields as a.b. Without "
    "labels: compare neighbours, no verdict.",
)
@preference(
    "--task",
    "tasks",
    type=LIST,
    callback=comma_list,
    help="Tasks that supply the evidence, comma-separated: retrieval, fewshot.",
)
@preference(
    "--cluster",
    shell_complete=completion.field,
    help="Unit that is resampled for the interval: class, image, iid, or a payload field. "
    "Default: class from 20 classes on, else image.",
)
@preference(
    "--margin",
    type=float,
    help="Certain loss of mAP, nDCG@10 or accuracy you would accept (0.005 = half a point).",
)
@preference(
    "--guard",
    type=float,
    help="Loss of nDCG@10 or accuracy that must be excluded before vector B is adopted; of mAP, "
    "half of it.",
)
@preference(
    "--duplicates",
    metavar="COSINE|off",
    callback=lambda context, option, value: _threshold(value),
    help="Cosine, after the mean image is subtracted, above which images are near-copies and "
    "count as one.",
)
@least_option
@sides_options
@label_file_options
@where_option
@sample_option
@max_queries_option
@preference(
    "--all-queries",
    is_flag=True,
    help="Use all images as queries; otherwise 5,000 are drawn where there are more than 20,000.",
)
@preference(
    "--seed",
    type=SEED,
    help="Random seed.",
)
@preference(
    "--controls/--no-controls",
    default=None,
    help="Also evaluate control projections of the same size that use no texts; they never change "
    "the verdict.",
)
@click.option(
    "--beside",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Another projection file (centred, IsoCLIP, other anchors) to apply to vector A and "
    "evaluate; never changes the verdict. Repeatable.",
)
@click.option(
    "--projection",
    type=click.Path(path_type=Path),
    help="Projection file that made vector B; adds the controls that need it and a sweep over "
    "fewer dimensions.",
)
@query_side_options
@report_option
@picture_options
@preference(
    "--fail-on",
    type=click.Choice(FAIL_ON),
    help="Exit with code 3 if a field is worse or mixed (worse), is anything but better "
    "(not-better), or is inconclusive (not-settled).",
)
@click.option(
    "--junit",
    type=Output("junit"),
    help="Also write the verdicts as JUnit XML, one test case per field, e.g. compare.xml; fields "
    "that --fail-on names are failures.",
)
@click.option(
    "--baseline",
    shell_complete=completion.runs,
    metavar="RUN",
    help="Earlier comparison of the same vectors, a run id or its beginning: also say which "
    "fields changed their outcome. With --fail-on, a field that was better or not worse and is "
    "no longer fails, too.",
)
@click.option(
    "--names",
    help="Without labels: class names for zero-shot pseudo-labels: imagenet, wordnet, or a text "
    "file with one name per line.",
)
@click.option(
    "--model",
    help="Model that encodes the class names of --names; default: the model that made vector A.",
)
@click.option(
    "--text-vectors",
    type=FILE,
    help="Precomputed text embeddings (not projected), one row per name of --names, instead of "
    "--model. With labels: adds image-text figures to the report and, if --projection was "
    "fitted to them, the dropped dimensions to the sweep.",
)
@preference(
    "-k",
    type=COUNT,
    help="Without labels: number of neighbours that are compared.",
)
@model_options
@shard_key_option
@wide_option
@session_options
def command(session: Session, collection: str, **options: Any) -> None:
    """Decide, per label field, whether vector B should replace vector A.

    Without labels there is no verdict; the command then shows how many neighbours the vectors
    share, and the images on which they disagree.

    \b
    intramodal compare photos --labels category,season,color -o report.html
    intramodal compare photos --query-side pca.safetensors --rerank 100 --labels category
    intramodal compare photos --names imagenet -o page.html --pictures ~/photos
    """
    _check_vectors(options)
    if options["labels"]:
        _refuse(options, _ONLY_UNLABELLED, "without --labels only")
        found, no_pictures, place = _labelled(session, collection, options)
        shown = partial(_print_labelled, no_pictures=no_pictures, place=Name(place))
        session.answer(found, partial(shown, options=options))
        _end(found.get("gate"))
    else:
        _refuse(options, _ONLY_LABELLED, "with --labels only")
        found, no_pictures = _unlabelled(session, collection, options)
        shown = partial(_print_agreement, options=options, no_pictures=no_pictures)
        session.answer(found, shown)


def _check_vectors(options: dict[str, Any]) -> None:
    """Refuse any number of vectors but two, or one where the query side is the other."""
    given = options["vectors"]
    if given is None:
        return
    if options["query_side"] is None and len(given) != 2:
        raise click.UsageError("--vectors takes two names, for example raw,pca")
    if options["query_side"] is not None and len(given) != 1:
        raise click.UsageError(
            "--query-side takes the place of vector B; name one vector, for example --vectors raw"
        )


def _labelled(
    session: Session, collection: str, options: dict[str, Any]
) -> tuple[dict[str, Any], str, str]:
    """Return the verdicts; why a report would show no pictures, and where maps are fitted."""
    from intramodal.evaluation.compare import compare
    from intramodal.evaluation.gate import gated
    from intramodal.evaluation.resampling import Resampling
    from intramodal.evaluation.tasks import Sides
    from intramodal.files import check_place
    from intramodal.projection.posterior import load_map
    from intramodal.reports.pictures import PictureSource

    sides = Sides.parse(options["queries"], options["gallery"], options["split"])
    started = datetime.now(UTC)
    pictures = PictureSource(options["pictures"], options["picture_field"])
    for path in (options["report"], options["junit"]):
        check_place(path)
    projected = query_side_of(options)
    with session.open() as at:
        photos = at.collection(collection)
        a, b = _pair(photos, options, projected)
        earlier = _earlier(at.ledger, options["baseline"], collection, (a, b))
        projection = _projection(photos, b, options)
        stated = session.stated(but=_NOT_RECORDED_LABELLED) | {"vectors": str([a, b])}
        with at.ledger.run("compare", parameters=stated, seed=options["seed"]) as run:
            found = compare(
                photos,
                a,
                None if projected else b,
                fields=options["labels"],
                tasks=options["tasks"],
                sides=sides,
                margin=options["margin"],
                guard=options["guard"],
                duplicates=options["duplicates"],
                min_class_size=options["min_class_size"],
                controls=options["controls"],
                beside=[load_map(path) for path in options["beside"]],
                projection=projection,
                query_side=projected,
                rerank=options["rerank"],
                texts=_texts(options["text_vectors"]),
                where=options["where"],
                sample=options["sample"],
                max_queries=options["max_queries"],
                all_queries=options["all_queries"],
                resampling=Resampling(options["cluster"]),
                seed=options["seed"],
                run=run,
            )
            maps = options["projection"], options["query_side"], *options["beside"]
            lines = MapLines.of(photos, a, at.ledger, filter(None, maps))
            document = keep_document(found, run, at.ledger, lines=lines, pictures=pictures)
    result = gated({**document.comparison}, fail_on=options["fail_on"], baseline=earlier)
    _write_junit(result, options["junit"], started, run)
    write_report(document, options["report"], run)
    return result, document.no_pictures, lines.place


def _pair(photos: Any, options: dict[str, Any], projected: Any) -> tuple[str, str]:
    """Return the names of both vectors; B is the query side where there is one."""
    from intramodal.store.default_vectors import own_vector, vector_pair
    from intramodal.store.query_side import QuerySide

    given = options["vectors"] or ()
    if projected is None:
        return vector_pair(photos, *given)
    a = own_vector(photos, *given)
    return a, QuerySide(projected, a, options["rerank"]).name


def _earlier(ledger: Any, run_id: str | None, collection: str, vectors: tuple[str, str]) -> Any:
    """Read the outcomes of the baseline; refuse, before the work, one of something else."""
    if run_id is None:
        return None
    from intramodal.evaluation.gate import Baseline
    from intramodal.reports.report import report_of_run

    earlier = Baseline.of(report_of_run(ledger, run_id).comparison)
    earlier.check_is_of(collection, vectors)
    return earlier


def _write_junit(result: dict[str, Any], path: Path | None, started: datetime, run: Any) -> None:
    from intramodal.reports.junit import write_junit

    if path is not None:
        seconds = (datetime.now(UTC) - started).total_seconds()
        with figures_kept(run, "runs show"):
            write_junit(result, path, started=started, seconds=seconds)


def _end(gate: dict[str, Any] | None) -> None:
    """Say whether the gate is passed; by now all is printed, recorded and written."""
    if gate is not None:
        note(printable(gate["sentence"], limit=2000))
        if gate["failed"]:
            raise click.exceptions.Exit(GATE_FAILED)


def keep_document(
    found: Any, run: Any, ledger: Any, lines: MapLines | None = None, **about: Any
) -> Any:
    """Keep what a report of a comparison is rendered from with its run, and return it."""
    from intramodal.reports.report import DOCUMENT, document_of

    document = document_of(found, ledger=ledger, **about)
    if lines is not None:
        document = replace(document, comparison=with_map_lines(document.comparison, lines))
    run.save_artefact(DOCUMENT, document.to_dict(), media_type="application/json")
    return document


def write_report(document: Any, path: Path | None, run: Any) -> None:
    """Write the page of a recorded comparison, if there is a place for it."""
    from intramodal.reports.report import render_report

    if path is not None:
        with figures_kept(run, "report"):
            render_report(document, path)


def _threshold(text: str) -> float | None:
    """Read the threshold of near-copies."""
    from intramodal.evaluation.duplicates import parse_threshold

    return parse_threshold(text)


def _projection(photos: Any, vector: str, options: dict[str, Any]) -> Any:
    """Load the projection that made a vector; refuse another one."""
    path = options["projection"]
    if path is None:
        return None
    if options["query_side"] is not None:
        raise click.UsageError(
            "--projection is of a stored vector B, and --query-side is B itself; give one"
        )
    from intramodal.projection.posterior import load_map
    from intramodal.store.origins import check_is

    projection = load_map(path)
    check_is(projection, photos, vector)
    return projection


def _texts(path: Path | None) -> Any:
    if path is None:
        return None
    from intramodal.evaluation.texts import ReadyTexts
    from intramodal.ingest.vectors.matrices import read_matrix

    return ReadyTexts(read_matrix(path), str(path))


def _unlabelled(
    session: Session, collection: str, options: dict[str, Any]
) -> tuple[dict[str, Any], str]:
    """Return the agreement, and why the judging page shows no pictures."""
    from intramodal.commands.target import Target, TextSource
    from intramodal.errors import InputError
    from intramodal.evaluation.agreement import compare_unlabelled
    from intramodal.files import check_place
    from intramodal.projection.anchors import TEMPLATE, load_anchors
    from intramodal.reports.pictures import PictureSource
    from intramodal.store.default_vectors import vector_pair

    check_place(options["report"])
    pictures = PictureSource(options["pictures"], options["picture_field"])
    names, ready = options["names"], options["text_vectors"]
    if names is None and (options["model"] or ready):
        raise InputError(
            "--model and --text-vectors serve pseudo-labels; give their class names with --names"
        )
    with session.open() as at:
        photos = at.collection(collection)
        a, b = vector_pair(photos, *(options["vectors"] or ()))
        on = {"device": options["device"], "precision": options["precision"]}
        texts = TextSource(Target(photos, a), options["model"], ready, **on)
        stated = session.stated(but=_NOT_RECORDED_UNLABELLED) | {
            "vectors": str([a, b]),
            "template": TEMPLATE,
        }
        with at.ledger.run("compare-unlabelled", parameters=stated, seed=options["seed"]) as run:
            found = compare_unlabelled(
                photos,
                a,
                b,
                k=options["k"],
                names=None if names is None else load_anchors(names),
                texts=texts,
                where=options["where"],
                min_class_size=options["min_class_size"],
                seed=options["seed"],
                run=run,
            )
            no_pictures = ""
            if options["report"] is not None:
                no_pictures = _write_judging_page(photos, found, run, options, pictures)
    return found.to_dict(), no_pictures


def _write_judging_page(
    photos: Any, found: Any, run: Any, options: dict[str, Any], pictures: Any
) -> str:
    from intramodal.reports.pages import judging_page
    from intramodal.reports.report import render_report

    with figures_kept(run, "runs show"):
        page = judging_page(photos, found, pictures=pictures, seed=options["seed"] or 0)
        render_report(page, options["report"])
    return str(page.no_pictures)


def _refuse(options: dict[str, Any], names: tuple[str, ...], when: str) -> None:
    for name in names:
        if options[name] not in (None, ()):
            raise click.UsageError(f"--{name.replace('_', '-')} has a meaning {when}")


def _print_agreement(result: dict[str, Any], options: dict[str, Any], *, no_pictures: str) -> None:
    a, b = result["vectors"]
    rows = [
        (str(row["id"]), f"{row['overlap']:.0%}") for row in result["agreement"]["disagreements"]
    ]
    print_table((id_column(f"{a} and {b} disagree most on"), "in common>"), rows)
    for sentence in result["sentences"]:
        say(sentence)
    labels = result["pseudo_labels"] or {}
    say_label_evidence(
        ("pseudo-labels", one) for one in (labels.get("label_evidence") or {}).values()
    )
    _print_costs(result["cost"], result["vectors"])
    _say_report(options, no_pictures)
    note_where(result)
    note("a verdict needs labels: --labels FIELD of the payload, or --labels-from FILE")
    note_held_out(result)
    note(f"run {result['run_id']}")
    if options["report"] is None:
        note_again("-o", unused("judge.html"))
    else:
        note_whole(f"open it, vote and save the votes; then: {program()} judge votes.json")


def _print_labelled(
    result: dict[str, Any], options: dict[str, Any], *, no_pictures: str, place: Name
) -> None:
    print_verdicts(result)
    if options["beside"]:
        _print_others(result)
    if "baseline" in result:
        say(printable(result["baseline"]["sentence"], limit=2000))
    _say_report(options, no_pictures)
    if options["report"] is None:
        page = unused("report.html")
        note_next("report", str(result["run_id"]), "-o", page, at=("runs_url",))
    _note_maps(result, place)


def _note_maps(result: dict[str, Any], place: Name) -> None:
    """Note how to fit the maps that may serve the fields that B does not, and which to take."""
    from intramodal.types import listed

    maps = result["decision"]["next_maps"]
    for line in dict.fromkeys(line for one in maps for line in one["commands"]):
        note_line(line)
    fields = dict.fromkeys(name for one in maps for name in one["fields"])
    if fields:
        labels = ",".join(map(listed, fields))
        note_next("advise", place, "--labels", labels, *label_file_words())


def _say_report(options: dict[str, Any], no_pictures: str) -> None:
    if options["report"] is not None:
        say_made("report", options["report"])
        if no_pictures:
            note(with_options(no_pictures))


def _print_others(result: dict[str, Any]) -> None:
    """Print how the other projections of vector A do, one row per field and projection."""
    rows = [
        (name, other["vector"], number(other["map"]), _delta(other))
        for name, field in result["fields"].items()
        for other in field["others"]
    ]
    columns = ("field", "vector", "mAP>", f"minus {named(result['vectors'][0])}>")
    print_table(columns, rows, title="other projections and controls, never part of the verdict")


def _delta(other: dict[str, Any]) -> str:
    if other["delta"] is None or other["interval"] is None:
        return number(other["delta"], sign=True)
    return with_interval(other["delta"], other["interval"], sign=True)


def print_verdicts(result: dict[str, Any]) -> None:
    """Print the decision, one row and one sentence a field, and one row a piece of evidence."""
    if result["max_queries"]:
        say(f"at most {result['max_queries']:,} random images as queries, all in the gallery")
    say(result["decision"]["sentence"])
    _print_fields(result)
    own = [
        (name, vector, {"map": field["map"][vector], "by_distance": {"map": own}})
        for name, field in result["fields"].items()
        for vector, own in (field["map_by_distance"] or {}).items()
    ]
    print_by_distance(result, own)
    for name, field in result["fields"].items():
        say(f"{name}: {field['sentence' if is_wide() else 'brief']}")
    for name, field in result["fields"].items():
        say_label_evidence((name, one) for one in (field["label_evidence"] or {}).values())
    _print_pieces(result["fields"])
    _print_costs(result["cost"], result["vectors"])
    _print_index(result["index"])
    if result["decision"]["snippet"]:
        click.echo(result["decision"]["snippet"])
    note_where(result)
    note_held_out(result)
    note(f"run {result['run_id']}")


def _print_fields(result: dict[str, Any]) -> None:
    """Print one row per field: both mAP, their difference, and the verdict."""
    from intramodal.evaluation.verdict import PIECES, SHORT

    a, b = result["vectors"]
    rows = []
    for name, field in result["fields"].items():
        pieces = field["pieces"]
        ends = pieces["map"] or {"a": field["map"][a], "b": field["map"][b]}
        first, *others = (pieces[piece] for piece in PIECES)
        delta = with_interval(first["delta"], first["interval"], sign=True) if first else "–"
        more = [number(other and other["delta"], sign=True) for other in others]
        figures = (number(ends["a"]), number(ends["b"]), delta, *more, f"{field['n_queries']:,}")
        rows.append((name, *figures, SHORT[field["verdict"]]))
    heads = (f"mAP {named(a)}>", f"mAP {named(b)}>", "delta>", wide("nDCG@10>"), wide("few-shot>"))
    print_table(("field", *heads, "n>", state_column("verdict")), rows)
    if balanced := [name for name, row in result["fields"].items() if _is_balanced(row)]:
        note(f"mAP of {', '.join(balanced)}: mean over classes, which all count the same")


def _is_balanced(field: dict[str, Any]) -> bool:
    """Return whether the verdict's mAP is the mean over classes, not over queries."""
    return bool(field["pieces"]["map"]) and field["population"] == "classes"


def _print_pieces(fields: dict[str, Any]) -> None:
    """Print what each piece of evidence says, and what would settle it."""
    from intramodal.evaluation.verdict import NAMES, p_value

    rows = []
    for name, field in fields.items():
        for piece, found in field["pieces"].items():
            if found:
                ends = found["interval"]
                delta = with_interval(found["delta"], ends, sign=True)
                p, needs = p_value(found["p_adjusted"]), found["needs"]
                told = f"{needs:,}" if needs else "–"
                what = NAMES[piece].removesuffix(" accuracy")
                rows.append((name, what, delta, interval(ends, sign=True), p, told))
    columns = ("field", "piece", "delta>", wide("95% interval>"), "p (adj.)>", "needs>")
    print_table(columns, rows)


def _print_costs(costs: dict[str, Any], vectors: Sequence[str]) -> None:
    """Print one row a vector, and one for the search in two stages."""
    from intramodal.evaluation.cost import two_stages

    columns = ("vector", "bytes>", "RAM MB>", wide("in int8>"), "ms p50>", wide("p95>"))
    rows = [
        (
            name,
            f"{cost['bytes_per_vector']:,}",
            *(f"{cost[key] / 1e6:,.1f}" for key in ("ram_bytes", "ram_bytes_int8")),
            *(number(cost[key], 2) for key in ("latency_ms_p50", "latency_ms_p95")),
            number(cost["recall_at_10"], 3),
        )
        for name, cost in costs.items()
    ]
    print_table((*columns, "recall@10>"), rows)
    _print_first_results(costs)
    if len(costs) > len(vectors):  # the search in two stages
        say(two_stages(*vectors))


def _print_index(index: dict[str, Any] | None) -> None:
    """Print what the index loses of stored and of projected queries, one row a search."""
    if index is None:
        return
    if index["note"]:
        say(f"index: {index['note']}")
        return
    rows = [
        (name, *(number(recall, 3) for recall in found.values()), index["needs"][name] or "more")
        for name, found in index["recall_at_10"].items()
    ]
    efs = next(iter(index["recall_at_10"].values()))
    heads = (f"{'' if ef == 'default' else 'ef '}{ef}>" for ef in efs)
    needs = f"ef for {index['enough']:g}>"
    title = f"recall@10 of the index, from {index['n_probes']:,} queries"
    print_table(("search", *heads, needs), rows, title=title)


def _print_first_results(costs: dict[str, Any]) -> None:
    """Print how good the first results of every search are, one row a field."""
    found = [cost["fields"] for cost in costs.values()]
    rows = []
    for field in found[0]:
        each = [by_field[field] for by_field in found]
        cells = [
            f"{number(row['ndcg_at_10'], 3)} / {number(row['precision_at_10'], 3)}" if row else "–"
            for row in each
        ]
        asked = [row["n_queries"] for row in each if row]
        if asked:
            rows.append((field, *cells, f"{asked[0]:,}"))
    if rows:
        columns = ("field", *(f"{name}>" for name in costs), "queries>")
        print_table(columns, rows, title="nDCG@10 / precision@10 of the store's results")
