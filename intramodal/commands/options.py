"""Options that several commands share, each defined once."""

from __future__ import annotations

import difflib
import math
import os
import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from intramodal.commands import completion
from intramodal.commands.headings import write_help_text, write_options
from intramodal.commands.outputs import Output
from intramodal.commands.printing import WIDE
from intramodal.errors import IntramodalError

if TYPE_CHECKING:
    from intramodal.store.base import Filter

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_STORE = "./.intramodal/store"
DEFAULT_RUNS = "./.intramodal/runs.db"
SEED = click.IntRange(0)
COUNT = click.IntRange(1, 100_000)
"""Of things that each take time and memory: more would not come to an end."""
FILE = click.Path(path_type=Path, dir_okay=False)
LIST = click.UNPROCESSED
"""Type of what `comma_list` splits: click's STRING would print a list of a TOML file as text."""
JSON_ASKED = "intramodal.json"
"""Key of the context's meta: whether errors too are printed as JSON."""


class Preference(click.Option):
    """An option that ``intramodal.toml`` of any folder may set; made by `preference`."""


def preference(*names: str, **attributes: Any) -> Callable[[F], F]:
    """Declare an option, as `click.option` does, that a stranger's folder may set, too.

    It changes how something is computed or shown, and nothing more: it names no file, place,
    address or model, and decides nothing about what is written, deleted or sent. All other
    options are read from such a file only if the user trusts the folder.
    """
    return click.option(*names, cls=Preference, **attributes)


def _remember_json(ctx: click.Context, param: click.Parameter, value: bool) -> bool:
    ctx.meta[JSON_ASKED] = value
    return value


store_option = click.option(
    "--store",
    default=DEFAULT_STORE,
    show_default=True,
    envvar="INTRAMODAL_STORE",
    help="Vector store: a directory (embedded), :memory:, or http(s)://host:port; the API key of "
    "a server is read from QDRANT_API_KEY.",
)


ca_option = click.option(
    "--ca",
    type=click.Path(dir_okay=False),
    envvar="INTRAMODAL_CA",
    help="PEM file with the certificate of the authority that signed the server's, for REST and "
    "gRPC; default: the authorities that this machine trusts.",
)
timeout_option = preference(
    "--timeout",
    type=click.IntRange(1),
    metavar="SECONDS",
    envvar="INTRAMODAL_TIMEOUT",
    help="Time that a server may take for one request; default: 60.",
)
deadline_option = preference(
    "--deadline",
    type=click.FloatRange(0),
    metavar="SECONDS",
    envvar="INTRAMODAL_DEADLINE",
    help="How long a request to a server is repeated that fails for a passing reason; default: "
    "120.",
)
runs_option = click.option(
    "--runs",
    "runs_url",
    default=DEFAULT_RUNS,
    show_default=True,
    envvar="INTRAMODAL_RUNS",
    help="Database of recorded runs: a file (SQLite) or a SQLAlchemy URL.",
)
json_option = preference(
    "--json",
    "as_json",
    is_flag=True,
    callback=_remember_json,
    is_eager=True,  # before the options whose errors must be printed as JSON
    help="Print one JSON object instead of a table.",
)


def _remember_wide(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    ctx.meta[WIDE] = value


wide_option = preference(
    "--wide",
    is_flag=True,
    expose_value=False,  # how a table looks is no part of what a run records
    callback=_remember_wide,
    help="Print all columns of the tables, and sentences in full.",
)


shard_key_option = click.option(
    "--shard-key",
    metavar="KEY",
    help="Read and write only the points under this shard key of a collection with custom "
    "sharding; default: all, named KEY/ID. 7 is the number, '\"7\"' in quotes the text.",
)


def model_options(command: F) -> F:
    """Add ``--device`` and ``--precision``."""
    command = preference(
        "--precision",
        type=click.Choice(["fp32", "bf16"]),
        default=None,
        help="Arithmetic of the encoder; default: fp32 on a CPU, bf16 autocast on CUDA.",
    )(command)
    return preference(
        "--device",
        default=None,
        help="Device of the encoder: cpu, cuda, cuda:1, ...; default: CUDA if a GPU is found.",
    )(command)


def text_options(row: str) -> Callable[[F], F]:
    """Add ``--model`` and ``--text-vectors``, which has one row per `row`."""

    def add(command: F) -> F:
        command = click.option(
            "--text-vectors",
            type=FILE,
            help=f"Precomputed text embeddings (not projected), one row per {row}, instead of "
            "--model.",
        )(command)
        return click.option(
            "--model",
            help="Model that encodes the texts; default: the model that made the vector.",
        )(command)

    return add


def _for_methods(of: str, text: str) -> str:
    """Return a help text after the methods that the option is for, if it is not for all."""
    return f"{of}: {text}" if of else f"{text[0].upper()}{text[1:]}"


def fit_rows_options(of: str = "") -> Callable[[F], F]:
    """Add ``--fit-share`` and ``--fit-rows``; `of` names the methods that they are for."""

    def add(command: F) -> F:
        command = preference(
            "--fit-rows",
            metavar="FIELD=VALUE",
            help=_for_methods(of, "points that are for fitting instead, e.g. split=train."),
        )(command)
        return preference(
            "--fit-share",
            type=click.FloatRange(0, 1, min_open=True),
            help=_for_methods(
                of,
                "share of the points that is for fitting, drawn by a hash of the id; they never "
                "judge the map; default: 0.5.",
            ),
        )(command)

    return add


def picture_options(command: F) -> F:
    """Add ``--pictures`` and ``--picture-field``: where the pictures of a page are."""
    command = preference(
        "--picture-field",
        metavar="FIELD",
        shell_complete=completion.field,
        help="Payload field that names the image of a point, a file or an http(s) address; "
        "default: the first of path, file, filename, image, image_path, image_url, url, key.",
    )(command)
    return click.option(
        "--pictures",
        metavar="FOLDER|PATTERN",
        help="Folder that the file names in the payload are relative to, for the images on the "
        "page, or a pattern with payload fields, e.g. 'photos/{sku}.jpg'.",
    )(command)


def upload_options(command: F) -> F:
    """Add ``--upload-streams`` and ``--node``."""
    command = click.option(
        "--node",
        "nodes",
        multiple=True,
        metavar="URL",
        help="Another node of the cluster at --store; writing waits until it knows a new vector. "
        "Repeatable.",
    )(command)
    return preference(
        "--upload-streams",
        type=click.IntRange(1, 64),
        help="Number of concurrent write requests to a server; default: 4.",
    )(command)


def query_side_options(command: F) -> F:
    """Add ``--query-side`` and ``--rerank``."""
    command = preference(
        "--rerank",
        type=COUNT,
        help="With --query-side: number of first results that are fetched with their vectors and "
        "put in the order of their projected cosines, e.g. 100.",
    )(command)
    return click.option(
        "--query-side",
        type=FILE,
        help="Projection file that the queries go through: searches the stored vectors as they "
        "are, the first that is named (default: the encoder's own alone), and writes nothing.",
    )(command)


def query_side_of(options: Mapping[str, Any]) -> Any:
    """Load the projection of ``--query-side``; None where it is not given."""
    if options["query_side"] is None:
        if options["rerank"] is not None:
            raise click.UsageError("--rerank is for --query-side only; give both, or leave it out")
        return None
    from intramodal.projection.projection import Projection

    return Projection.load(options["query_side"])


def fit_rows_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return which rows are for fitting by ``--fit-rows`` or ``--fit-share``, where given."""
    from intramodal.evaluation.tasks import FieldFilter
    from intramodal.fit_rows import FitRows

    if options["fit_rows"] is not None and options["fit_share"] is not None:
        raise click.UsageError("give either --fit-share or --fit-rows")
    if options["fit_rows"] is not None:
        chosen = FieldFilter.parse(options["fit_rows"])
        return {"rows": FitRows(where=(chosen.field, chosen.values))}
    share = options["fit_share"]
    return {} if share is None else {"rows": FitRows(share=share)}


def text_axes_of(options: Mapping[str, Any]) -> Any:
    """Return what gives text axes: ``--projection`` or ``--text-vectors``; None for neither."""
    if options["projection"] is not None and options["text_vectors"] is not None:
        raise click.UsageError("give either --projection or --text-vectors")
    if options["projection"] is not None:
        from intramodal.projection.projection import Projection

        return Projection.load(options["projection"])
    if options["text_vectors"] is not None:
        from intramodal.ingest.vectors.matrices import read_matrix

        return read_matrix(options["text_vectors"])
    return None


def as_list(ctx: click.Context, param: click.Parameter, value: tuple[Any, ...]) -> list[Any]:
    """Return the values of a repeatable option as a list, as runs record them."""
    return list(value)


def comma_list(ctx: click.Context, param: click.Parameter, value: Any) -> list[str]:
    """Split ``a,b,"c, d"``; TOML lists pass as they are."""
    return [item.strip() for item in _listed(value) if item.strip()]


def _listed(value: Any) -> Iterable[str]:
    if not isinstance(value, str):
        return value or ()
    if '"' not in value:
        return value.split(",")
    from intramodal.types import split_list

    return split_list(value)


def names(ctx: click.Context, param: click.Parameter, value: Any) -> list[str]:
    """Split ``a,b,c`` into different names, at least one."""
    found = list(dict.fromkeys(comma_list(ctx, param, value)))
    if not found:
        raise click.BadParameter("takes at least one name")
    return found


def names_if_given(ctx: click.Context, param: click.Parameter, value: Any) -> list[str] | None:
    """Split ``a,b,c`` into different names, at least one; None where nothing was given."""
    return None if value is None else names(ctx, param, value)


def vector_names(ctx: click.Context, param: click.Parameter, value: Any) -> list[str] | None:
    """Split ``a,b`` into different names of vectors, at least one; None where none was given.

    ``''`` is the one without a name.
    """
    if value is None:
        return None
    named = (name.strip() for name in _listed(value) if name.strip() or '"' in str(value))
    found = list(dict.fromkeys("" if name in ("''", '""') else name for name in named))
    if not found:
        raise click.BadParameter("takes at least one name")
    return found


def pairs(ctx: click.Context, param: click.Parameter, value: Any) -> dict[str, str]:
    """Split ``a=b,c=d``; tables of a TOML file pass as they are."""
    if isinstance(value, Mapping):
        return {str(key): str(of) for key, of in value.items()}
    found = [item.partition("=") for item in comma_list(ctx, param, value)]
    if not all(key.strip() and of.strip() for key, _, of in found):
        raise click.BadParameter(f"takes VECTOR=VECTOR, comma-separated, got {value!r}")
    return {key.strip(): of.strip() for key, _, of in found}


def whole_numbers(ctx: click.Context, param: click.Parameter, value: Any) -> list[int]:
    """Split ``1,2,4`` into whole numbers from 1; TOML lists pass as they are."""
    if isinstance(value, int | list | tuple):
        value = ",".join(map(str, value if isinstance(value, list | tuple) else [value]))
    items = comma_list(ctx, param, value)
    try:
        found = [int(item) for item in items]
    except ValueError:
        found = [0]
    if any(number < 1 for number in found):
        raise click.BadParameter(f"takes whole numbers from 1, comma-separated, got {value!r}")
    return found


_LABELS: dict[str, Any] = {
    "type": LIST,
    "shell_complete": completion.fields,
    "help": "Payload fields that hold the labels, comma-separated; nested fields as a.b; a name "
    "with a comma in double quotes.",
}
labels_option = preference("--labels", required=True, callback=names, **_LABELS)
optional_labels_option = preference("--labels", callback=names_if_given, **_LABELS)
vectors_option = preference(
    "--vectors",
    shell_complete=completion.vectors,
    type=LIST,
    callback=vector_names,
    help="Named vectors to evaluate, comma-separated; '' is a vector without a name; default: the "
    "encoder's own and its projection, as the collection's metadata say.",
)
least_option = preference(
    "--min-class-size",
    type=click.IntRange(1),
    help="Minimum number of images per class; smaller classes are left out as queries and in the "
    "gallery. 1 keeps all.",
)


cluster_option = preference(
    "--cluster",
    shell_complete=completion.field,
    metavar="UNIT",
    help="Unit that is resampled for the interval: class, image, iid, or a payload field; none: "
    "no interval. Default: class from 20 classes on, else image (slower than the ranking "
    "itself).",
)


def payload_filter(
    ctx: click.Context, param: click.Parameter, value: tuple[str, ...]
) -> Filter | None:
    """Read a repeatable option as one payload filter; None where it is not given."""
    if not value:
        return None
    from intramodal.errors import InputError
    from intramodal.store.filters import parse_filter

    try:
        return parse_filter(value)
    except InputError as error:
        raise click.BadParameter(str(error)) from error


where_option = preference(
    "--where",
    multiple=True,
    metavar="FILTER",
    callback=payload_filter,
    help="Evaluate only points that match FIELD=VALUE[,VALUE...] or id=ID[,ID...], e.g. "
    "tenant=acme; repeatable: filters on different fields must all match.",
)


def label_file_options(command: F) -> F:
    """Add ``--labels-from`` and ``--id-column``."""
    command = click.option(
        "--id-column",
        metavar="COLUMN",
        help="Column of --labels-from with the ids of the points; default: id.",
    )(command)
    return click.option(
        "--labels-from",
        type=FILE,
        metavar="FILE",
        help="CSV, TSV, JSONL or Parquet file with the ids of points and further columns, which "
        "become fields, in filters too, and take the place of the payload's; nothing is written.",
    )(command)


def sides_options(command: F) -> F:
    """Add ``--queries``, ``--gallery`` and ``--split``."""
    for name, metavar, text in (
        ("--split", "FIELD", "Short for --queries FIELD=test --gallery FIELD=train."),
        (
            "--gallery",
            "FILTER",
            "Payload filter for the gallery, e.g. split=train or color=red,blue.",
        ),
        (
            "--queries",
            "FILTER",
            "Payload filter for the queries, e.g. split=test or color=red,blue.",
        ),
    ):
        offered = completion.field if metavar == "FIELD" else None
        command = preference(name, metavar=metavar, help=text, shell_complete=offered)(command)
    return command


max_queries_option = preference(
    "--max-queries",
    type=click.IntRange(2),
    help="Maximum number of queries; if there are more, this many are drawn at random (--seed). "
    "The gallery stays whole, so mAP still estimates that of the whole collection.",
)
sample_option = preference(
    "--sample",
    type=click.IntRange(10),
    help="Number of points to read, drawn at random (--seed), instead of all; takes less memory, "
    "but the figures are those of a smaller gallery.",
)


report_option = click.option(
    "-o",
    "--report",
    type=Output("html"),
    help="Also write the report, one HTML page with tables and plots, e.g. report.html.",
)
template_option = preference(
    "--template", help="Prompt for the texts; {} stands for the class name."
)
anchors_option = click.option(
    "--anchors",
    help="Class names that serve as anchors: imagenet, wordnet, or a text file with one name per "
    "line.",
)
projected_option = click.option(
    "--projection",
    type=FILE,
    help="Projection file that made the vector, if the vector is a projection.",
)
exact_option = preference(
    "--exact", is_flag=True, help="Compare with every point instead of using the index."
)
shots_option = preference(
    "--shots",
    type=LIST,
    callback=whole_numbers,
    help="Numbers of labelled images per class, comma-separated.",
)
draws_option = preference(
    "--seed",
    type=SEED,
    help="Random seed of the draws; they are the same for all vectors, and smaller sets of shots "
    "are nested in larger ones (protocol paper: seeds SEED+1, SEED+2, ..., not nested).",
)
protocol_option = preference(
    "--protocol",
    type=click.Choice(["nested", "paper"]),
    help="nested: many episodes, fewer shots are part of more; paper: as the paper's "
    "code, seeds 1, 2, 3, shots from the train side drawn anew for each number, projected vectors "
    "not rescaled.",
)
shots_from_option = preference(
    "--shots-from",
    metavar="VECTOR=VECTOR",
    type=LIST,
    callback=pairs,
    help="Vectors that the shots of others are taken from, comma-separated, e.g. "
    "raw=raw_augmented,pca=pca_augmented (see `ingest --augment`); tested images keep their own.",
)
lengths_option = click.option(
    "--projection",
    "projections",
    multiple=True,
    callback=as_list,
    type=FILE,
    help="Projection file that made one of the vectors; the paper's protocol needs its lengths, "
    "which a store does not keep. Repeatable.",
)
split_option = preference(
    "--split",
    shell_complete=completion.field,
    metavar="FIELD",
    help="Take shots from FIELD=train and test images from FIELD=test; default: test on all "
    "images that are not shots.",
)
test_share_option = preference(
    "--test-share",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Without --split: share of each class that is set aside once as test images, e.g. 0.2.",
)
classes_option = preference(
    "--classes", is_flag=True, help="Also include the accuracy of each class in the JSON."
)


STOPPED = "intramodal.stopped"
"""Where a command leaves in `click.Context.meta` what it says when it is stopped."""


_LONGEST_SENTENCE = 1000


class SentenceGroup(click.Group):
    """A group whose help has a whole sentence of each command: click cuts it to one line."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the first sentence of every command, folded where it is long."""
        found = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        rows = [(name, one.get_short_help_str(_LONGEST_SENTENCE)) for name, one in found if one]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


class KindGroup(SentenceGroup):
    """A group of commands whose name is easily left out: the message lists them.

    Parameters
    ----------
    usual : str
        The command that is meant most often.
    """

    def __init__(self, *arguments: Any, usual: str, **attributes: Any) -> None:
        super().__init__(*arguments, **attributes)
        self.usual = usual

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Refuse an unknown command with the closest ones, or all and the one that was meant."""
        name = args[0]
        if name not in self.commands and not name.startswith("-") and not ctx.resilient_parsing:
            ctx.fail(self._refusal(f"intramodal {self.name}", args))
        return super().resolve_command(ctx, args)

    def _refusal(self, path: str, args: list[str]) -> str:
        name = args[0]
        close = difflib.get_close_matches(name, self.commands)
        if close:
            return f"there is no command '{path} {name}'; did you mean {' or '.join(close)}?"
        return (
            f"{path} needs one of {', '.join(self.commands)} before {name!r}, for example: {path} "
            f"{self.usual} {shlex.join(args)}"
        )


def with_options(sentence: str) -> str:
    """Return a sentence of the library with parameters spelled as options of this command."""
    command = click.get_current_context().command
    return command.with_options(sentence) if isinstance(command, CheckedCommand) else sentence


class CheckedCommand(click.Command):
    """A command that refuses values with which nothing can be done, whoever gives them.

    Parameters
    ----------
    kept : str, optional
        What is kept where it is stopped, and how to go on; a sentence without its end.
    common : sequence of str, optional
        Long names of the options that most people need first.
    """

    def __init__(
        self, *arguments: Any, kept: str = "", common: Sequence[str] = (), **attributes: Any
    ) -> None:
        super().__init__(*arguments, **attributes)
        self.kept = kept
        self.common = common

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write what the command does, with examples that fit the terminal."""
        write_help_text(self.help or "", formatter)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options under headings."""
        write_options(self.get_params(ctx), self.common, ctx, formatter)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, which knows what is kept when it is stopped.

        An error of the library names a parameter as `name`, which is the command's option.
        """
        ctx.meta[STOPPED] = self.kept
        try:
            return super().invoke(ctx)
        except IntramodalError as error:
            error.args = (self.with_options(str(error)), *error.args[1:])
            raise

    def with_options(self, sentence: str) -> str:
        """Return a sentence with the parameters that it names as options, where there are any."""
        options = [param for param in self.params if isinstance(param, click.Option)]
        longest = {option.name: max(option.opts, key=len) for option in options}
        flags = {flag.lstrip("-").replace("-", "_"): flag for flag in longest.values()} | longest
        return re.sub(r"`(\w+)`", lambda found: flags.get(found[1], found[0]), sentence)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse, and check texts before and numbers after they are read."""
        configured = (ctx.default_map or {}).values()
        for text in filter(_is_no_name, () if ctx.resilient_parsing else [*args, *configured]):
            ctx.fail(f"{text[:60]!r} holds what no file, payload or database can: a NUL, or half "
                     f"a character")  # fmt: skip
        rest = super().parse_args(ctx, args)
        if ctx.resilient_parsing:
            return rest
        for param in self.params:
            value = ctx.params.get(str(param.name))
            why = _why_absurd(value)
            if isinstance(param.type, click.Path) and not param.type.dir_okay and value == Path():
                why = "takes the name of a file"
            if why:
                raise click.BadParameter(why, ctx, param)
        return rest


def _is_no_name(text: Any) -> bool:
    """Return whether no operating system can have passed a text."""
    if not isinstance(text, str):
        return False
    try:
        return b"\0" in os.fsencode(text)
    except UnicodeEncodeError:
        return True


_LARGEST = 2**63 - 1
"""What databases, arrays and clocks count in."""


def _why_absurd(value: Any) -> str | None:
    """Return why nothing can be done with a number, or with one of a list; else None."""
    if isinstance(value, list | tuple):
        return next(filter(None, map(_why_absurd, value)), None)
    if isinstance(value, int) and abs(value) > _LARGEST:
        return f"takes a number of at most {_LARGEST}, got {str(value)[:40]}"
    if isinstance(value, float) and not math.isfinite(value):
        return f"takes a finite number, got {value}"
    return None


def print_json(result: dict[str, Any]) -> None:
    """Print one JSON object on stdout."""
    from intramodal.commands.printing import json_line

    click.echo(json_line(result))
