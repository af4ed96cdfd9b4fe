"""Labels that the path of a picture implies."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import PurePosixPath

from intramodal.errors import SourceError
from intramodal.types import Payload

LabelRule = Callable[[str], Payload]
"""From a key to the payload that it implies."""

_FORMS = "`parent` or a regular expression with named groups, such as '(?P<label>[^/]+)/'"


def no_label(key: str) -> Payload:
    """Return nothing."""
    return {}


def parent_label(key: str) -> Payload:
    """Return the name of the folder the picture is in; nothing at the top."""
    parent = PurePosixPath(key).parent.name
    return {"label": parent} if parent else {}


def label_rule(label_from: str | None) -> LabelRule:
    """Return the rule that ``--label-from`` means.

    Raises
    ------
    SourceError
        If it is neither ``parent`` nor a regular expression with named groups.

    Examples
    --------
    >>> label_rule(r"(?P<label>[^/]+)/(?P<shop>[^/]+)/")("shoes/north/1.jpg")
    {'label': 'shoes', 'shop': 'north'}
    """
    if label_from is None:
        return no_label
    if label_from == "parent":
        return parent_label
    pattern = _compiled(label_from)

    def found_in(key: str) -> Payload:
        match = pattern.search(key)
        groups = match.groupdict() if match else {}
        return {name: text for name, text in groups.items() if text is not None}

    return found_in


def _compiled(label_from: str) -> re.Pattern[str]:
    try:
        pattern = re.compile(label_from)
    except (re.error, OverflowError, RecursionError) as error:
        raise SourceError(
            f"label_from {label_from!r} is no regular expression ({error}); give {_FORMS}"
        ) from error
    if not pattern.groupindex:
        raise SourceError(f"label_from {label_from!r} has no named groups; give {_FORMS}")
    return pattern
