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
