"""Strict mode: which setting of a collection a refusal of the server means."""

from __future__ import annotations

import re

_SETTINGS = (
    # In the server's words (lib/collection/src/operations/verification), the first that fits.
    ("exact search disabled", "search_allow_exact"),
    ("global vector indexing is disabled", "search_allow_exact"),
    ("index required but not found", "unindexed_filtering_retrieve"),
    ("filter condition limit reached", "filter_max_conditions"),
    ("condition size limit reached", "condition_max_size"),
    ('for "limit"', "max_query_limit"),
    ('for "search batch size"', "search_max_batchsize"),
    ('for "upsert limit"', "upsert_max_batchsize"),
    ('for "update limit"', "upsert_max_batchsize"),
    ('for "hnsw_ef"', "search_max_hnsw_ef"),
    ('for "oversampling"', "search_max_oversampling"),
    ('for "timeout"', "max_timeout"),
    ("max vector storage size limit", "max_collection_vector_size_bytes"),
    ("max payload storage size limit", "max_collection_payload_size_bytes"),
    ("max points count limit", "max_points_count"),
    ("maximum number of payload indices", "max_payload_index_count"),
    ("resident memory usage is at", "max_resident_memory_percent"),
    ("read rate limit exceeded", "read_rate_limit"),
    ("write rate limit exceeded", "write_rate_limit"),
)
_ABOUT_PARTS = (
    (re.compile(r"multivector '.*' has a limit of"), "multivector_config"),
    (re.compile(r"sparse vector '.*' has a limit of"), "sparse_config"),
)
_HELP = re.compile(r"\.? Help: .*$")


def setting_of(text: str) -> str | None:
    """Return the setting that a refusal means, None if it is about something else.

    Examples
    --------
    >>> setting_of("Bad request: Max points count limit of 70 reached!")
    'max_points_count'
    """
    lower = text.lower()
    plain = (setting for words, setting in _SETTINGS if words in lower)
    parts = (setting for words, setting in _ABOUT_PARTS if words.search(lower))
    return next(plain, next(parts, None))


def forbidden(text: str, setting: str) -> str:
    """Return the sentence that a setting forbids something, in front of it what.

    Examples
    --------
    >>> forbidden("Bad request: Max points count limit of 70 reached!", "max_points_count")
    'strict mode forbids it by max_points_count (Max points count limit of 70 reached!); ask for \
less, or have that setting of the collection changed'
    """
    said = _HELP.sub("", text.removeprefix("Bad request: "))
    return (
        f"strict mode forbids it by {setting} ({said}); request less, or have that setting of the "
        f"collection changed"
    )
