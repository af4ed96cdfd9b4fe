"""How a command's help is laid out: options under headings, examples that fit the terminal."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterable, Sequence

import click

COMMON = "Common"
"""Heading of the options that most people need first: those that a command lists as `common`, and
those that it cannot do without."""

OTHER = "Other"
"""Heading of options that the table below does not know; a test finds none."""

HEADINGS: dict[str, tuple[str, ...]] = {
    "Data": (
        *("where", "queries", "gallery", "split", "test-share", "min-class-size", "sample"),
        *("max-queries", "all-queries", "labels-from", "id-column", "shard-key", "into-shard"),
        *("metadata", "vector", "tensor", "vector-column", "dataset", "label-from", "split-file"),
        *("ground-truth", "name-field", "crop", "augment", "augment-seed", "text-images"),
        *("datasets", "on", "label", "limit", "only", "kind", "status", "older-than", "keep"),
        *("fit-share", "fit-rows"),
    ),
    "Method": (
        *("task", "protocol", "ties", "ks", "k", "exact", "candidates", "ef", "indexed-only"),
        *("ignore-quantization", "rescore", "oversampling", "denominator", "timed", "shots"),
        *("shots-from", "episodes", "classifiers", "methods", "by", "validation", "preset"),
        *("recipe", "normalize-text", "components", "center", "k-top", "k-bottom", "steps"),
        *("sizes", "subsets", "pairs", "bins", "max-pairs", "map", "metric", "best"),
        *("label-weight", "word-weight", "words", "known"),
        *("query-side", "rerank", "normalize"),
    ),
    "Evidence": (
        *("cluster", "margin", "guard", "duplicates", "controls", "beside", "seed", "fail-on"),
        *("baseline", "junit"),
    ),
    "Model": (
        *("model", "models", "made-by", "text-vectors", "texts", "projection", "projectors"),
        *("anchors", "names", "template", "class-texts", "device", "precision"),
    ),
    "New vector": ("to", "new-collection", "on-disk", "quantize", "datatype"),
    "Changes": (
        *("verify", "recompute", "rollback", "prune", "max-failures", "move", "remove", "force"),
        *("repair", "yes", "dry-run"),
    ),
    "Speed and memory": (
        *("batch-size", "workers", "decode-mb", "throttle", "upload-streams", "wait"),
    ),
    "Store and server": (
        *("store", "runs", "ca", "timeout", "deadline", "node", "shards", "replicas"),
        *("write-consistency",),
    ),
    "Output": (
        *("report", "html", "judgments", "out", "format", "pictures", "picture-field", "classes"),
        *("average", "intervals", "list", "wide", "json", "help"),
    ),
}
"""Long names of options by heading; headings are in the order of the help."""

_WIDEST_NAME = 30
"""Columns; the text of an option with a longer name begins on the next line, as click does it."""


def write_help_text(text: str, formatter: click.HelpFormatter) -> None:
    """Write what a command does; examples that are too long go on in a further line."""
    indent = 2
    lines = inspect.cleandoc(text).splitlines()
    fitted = (_folded(line, formatter.width - indent) for line in lines)
    formatter.write_paragraph()
    with formatter.indentation():
        formatter.write_text("\n".join(fitted))


def _folded(line: str, width: int) -> str:
    r"""Return an example in lines that a shell reads as one; options stay with their values.

    Examples
    --------
    >>> print(_folded("intramodal export photos -o pca.npy", 30))
    intramodal export photos \
        -o pca.npy
    """
    if len(line) <= width or not line.startswith("intramodal "):
        return line
    glued = re.sub(r" (-\S+) (?!-)", " \\1\0", line)
    lines = textwrap.wrap(
        glued, width - 2, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False
    )
    return " \\\n".join(lines).replace("\0", " ")


def write_options(
    params: Iterable[click.Parameter],
    common: Sequence[str],
    ctx: click.Context,
    formatter: click.HelpFormatter,
) -> None:
    """Write options under their headings, in the order of `HEADINGS`."""
    groups = grouped(params, common)
    rows = {
        heading: [record for option in options if (record := option.get_help_record(ctx))]
        for heading, options in groups.items()
    }
    widest = max(len(name) for records in rows.values() for name, _ in records)
    column = min(widest, _WIDEST_NAME)  # the same under all headings
    for heading, records in rows.items():
        with formatter.section(heading):
            formatter.write_dl([(name.ljust(column), text) for name, text in records])


def grouped(
    params: Iterable[click.Parameter], common: Sequence[str]
) -> dict[str, list[click.Option]]:
    """Return options by their headings.

    Those of `common` are in its order, others as they are declared.
    """
    options = [param for param in params if isinstance(param, click.Option)]
    by_name = {long_names(option)[0]: option for option in options}
    first = list(dict.fromkeys([*common, *(n for n, o in by_name.items() if o.required)]))
    groups = {COMMON: [by_name[name] for name in first]}
    for heading, names in HEADINGS.items():
        groups[heading] = [o for n, o in by_name.items() if n in names and n not in first]
    shown = {*first, *(name for names in HEADINGS.values() for name in names)}
    groups[OTHER] = [option for name, option in by_name.items() if name not in shown]
    return {heading: found for heading, found in groups.items() if found}


def long_names(option: click.Option) -> list[str]:
    """Return how an option is called without dashes in front: its long names, else its short one.

    Examples
    --------
    >>> long_names(click.Option(["--top-k", "-k"])), long_names(click.Option(["-k"]))
    (['top-k'], ['k'])
    """
    spelled = [*option.opts, *option.secondary_opts]
    return [name[2:] for name in spelled if name.startswith("--")] or [spelled[0].lstrip("-")]
