from __future__ import annotations

import json
from collections.abc import Callable

import httpx
import pytest
from qdrant_client import QdrantClient
from qdrant_client.common.client_exceptions import ResourceExhaustedResponse
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from intramodal.errors import (
    AccessDenied,
    Conflict,
    InputError,
    NotFound,
    StoreError,
    StoreUnavailable,
    Unsupported,
)
from intramodal.store.server.refusals import Overloaded, OversizedRequestError, translated

KEY = "s3cr3t-key"


def answer(status: int, text: str = "") -> UnexpectedResponse:
    content = f'{{"status": {{"error": "{text}"}}}}'.encode()
    return UnexpectedResponse(status, "reason", content, httpx.Headers())


def broken(error: type[httpx.TransportError]) -> ResponseHandlingException:
    return ResponseHandlingException(error("socket says no"))


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (answer(401), AccessDenied),
        (answer(403, "Global manage access is required"), AccessDenied),
        (answer(404, "Collection x doesn't exist"), NotFound),
        (answer(409, "exists"), Conflict),
        (answer(400, "Wrong input: Vector dimension error: expected 4, got 3"), InputError),
        (answer(413), OversizedRequestError),
        (answer(507), StoreError),
        *((answer(status), StoreUnavailable) for status in (408, 429, 500, 502, 503, 504)),
        (broken(httpx.ConnectError), StoreUnavailable),
        (broken(httpx.ReadTimeout), StoreUnavailable),
        (broken(httpx.RemoteProtocolError), StoreUnavailable),
        (ResourceExhaustedResponse("busy", retry_after_s=3), StoreUnavailable),
    ],
    ids=str,
)
def test_each_answer_of_a_server_becomes_one_error_of_ours(
    raised: Exception, expected: type[Exception]
) -> None:
    with (
        pytest.raises(expected) as caught,
        translated("read 'photos'", "http://host:6333"),
    ):
        raise raised
    assert type(caught.value) in (expected, *expected.__subclasses__())
    assert "read 'photos' at http://host:6333" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_not_worth_another_try_is_never_called_unavailable() -> None:
    for status in (400, 401, 403, 404, 405, 409, 413, 422, 507):
        with pytest.raises((StoreError, InputError)) as caught, translated("x", "y"):
            raise answer(status, "no")
        assert not isinstance(caught.value, StoreUnavailable), status


def test_a_pause_below_nothing_is_none() -> None:
    with pytest.raises(Overloaded) as caught, translated("x", "y"):
        raise ResourceExhaustedResponse("busy", retry_after_s=-5)
    assert caught.value.retry_after_s == 0


@pytest.mark.parametrize("body", ['{"result": {"poi', ' {"time": 0.1'])
def test_an_answer_that_broke_off_is_worth_another_try(body: str) -> None:
    with pytest.raises(StoreUnavailable, match="broke off"), translated("x", "y"):
        json.loads(body)


@pytest.mark.parametrize("body", ["<html></html>", "", "Bad Gateway"])
def test_an_answer_of_somebody_else_is_not(body: str) -> None:
    with pytest.raises(StoreError, match="not Qdrant's") as caught, translated("x", "y"):
        json.loads(body)
    assert not isinstance(caught.value, StoreUnavailable)


def test_an_answer_without_a_result_is_somebody_elses() -> None:
    with pytest.raises(StoreError, match="not Qdrant's"), translated("x", "y"):
        raise AssertionError("Count points returned None result")  # as qdrant-client does


def test_a_key_never_appears_in_message_or_cause() -> None:
    with pytest.raises(StoreError) as caught, translated("x", "y", (KEY,)):
        raise answer(400, f"the key {KEY} is odd")
    assert KEY not in f"{caught.value}{caught.value.__cause__!r}"
    assert "***" in str(caught.value)


def test_local_mode_says_the_same_with_its_own_exceptions() -> None:
    client = QdrantClient(":memory:")
    for expected, call in _local_failures(client):
        with pytest.raises(expected), translated("x", ":memory:"):
            call()
    client.close()


def _local_failures(
    client: QdrantClient,
) -> list[tuple[type[Exception], Callable[[], object]]]:
    return [
        (NotFound, lambda: client.get_collection("absent")),
        (NotFound, lambda: client.count("absent")),
    ]


REFUSED = {
    "search_allow_exact": "Exact search disabled!. Help: Set exact=false.",
    "unindexed_filtering_retrieve": 'Index required but not found for "year" of one of the '
    "following types: [integer]. Help: Create an index for this key or use a different filter.",
    "filter_max_conditions": "Filter condition limit reached (2 > 1). Help: Reduce the amount of "
    "conditions of your filter.",
    "condition_max_size": "Condition size limit reached (11 > 10). Help: Reduce the size of your "
    "condition.",
    "max_query_limit": 'Limit exceeded 50 > 40 for "limit". Help: Reduce the "limit" parameter to '
    "or below 40.",
    "search_max_batchsize": 'Limit exceeded 8 > 7 for "search batch size". Help: Reduce it.',
    "upsert_max_batchsize": 'Limit exceeded 50 > 20 for "update limit". Help: Reduce it.',
    "search_max_hnsw_ef": 'Limit exceeded 100 > 50 for "hnsw_ef". Help: Reduce it.',
    "search_max_oversampling": 'Limit exceeded 2 > 1 for "oversampling". Help: Reduce it.',
    "max_timeout": 'Limit exceeded 5 > 1 for "timeout". Help: Reduce it.',
    "max_collection_vector_size_bytes": "Max vector storage size limit of 1MB reached!",
    "max_collection_payload_size_bytes": "Max payload storage size limit of 1MB reached!",
    "max_points_count": "Max points count limit of 70 reached!",
    "max_payload_index_count": "Collection already has the maximum number of payload indices (1). "
    "Help: Please delete an existing index before creating a new one.",
    "multivector_config": "Multivector 'late' has a limit of 2 vectors, but 3 were provided!",
}
"""What Qdrant 1.18.3 and 1.19.0 answered, by the setting in force; some shortened."""


@pytest.mark.parametrize("setting", REFUSED)
def test_a_limit_of_strict_mode_is_named_by_its_setting(setting: str) -> None:
    with (
        pytest.raises(Unsupported) as caught,
        translated("read 'photos'", "http://host:6333"),
    ):
        raise answer(400, f"Bad request: {REFUSED[setting]}".replace('"', '\\"'))
    sentence = str(caught.value)
    assert f"strict mode forbids it by {setting} (" in sentence
    assert "Bad request" not in sentence
    assert "Help:" not in sentence
