"""Servers for the tests of this folder, real or stood in for; each test finds them empty."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from intramodal.store.base import Store
from tests.integration.servers import (
    DB_IMAGE,
    DB_URL,
    IMAGE,
    OLD_IMAGE,
    OLD_URL,
    STAND_IN,
    URL,
    Qdrant,
    chosen,
    kinds,
    named_qdrant,
    own_schema,
    postgres_container,
    qdrant_container,
    stand_in,
    why_no_image,
    why_not,
)

_HERE = Path(__file__).parent
_FULL_COUNTS_ON_A_STAND_IN = (
    "test_the_kind_gains_and_what_texts_do_not_name_does_not",
    "test_points_are_ingested_with_both_vectors_from_the_start",
    "test_every_figure_is_that_of_the_embedded_store[stand-in-compare]",
    "test_a_hundred_thousand_floats_in_one_call_stay_below_the_servers_limit",
)
"""What says most about an engine, and costs seconds."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if _HERE in item.path.parents:
            item.add_marker(pytest.mark.docker)
            # The Docker SDK leaves connections to its daemon open.
            item.add_marker(pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"))
            if STAND_IN in item.name and item.name.startswith(_FULL_COUNTS_ON_A_STAND_IN):
                item.add_marker(pytest.mark.slow)


# "server" is a real one, and its tests are skipped where there is none; then, and only then, they
# run a second time on a stand-in of the wire, which proves our half of the conversation.
@pytest.fixture(scope="session", params=kinds(URL, chosen(URL, IMAGE)))
def running_qdrant(request: pytest.FixtureRequest) -> Iterator[Qdrant]:
    yield from _running(request.param, URL, IMAGE)


@pytest.fixture(scope="session", params=kinds(OLD_URL, chosen(OLD_URL, OLD_IMAGE)))
def running_old_qdrant(request: pytest.FixtureRequest) -> Iterator[Qdrant]:
    yield from _running(request.param, OLD_URL, OLD_IMAGE)


def _running(kind: str, variable: str, image: str) -> Iterator[Qdrant]:
    if kind == STAND_IN:
        with stand_in(image) as server:
            yield server
        return
    named = named_qdrant(variable)
    if named is not None:
        _require_empty(named, variable)
        yield named
        return
    image = chosen(variable, image)
    reason = why_not(variable) or why_no_image(image)
    if reason:
        pytest.skip(reason)
    with qdrant_container(image) as server:
        yield server


def _require_empty(server: Qdrant, variable: str) -> None:
    """Fail rather than drop what may be somebody's."""
    with server.store() as store:
        found = [*store.collections(), *store.aliases()]
    if found:
        pytest.fail(
            f"the server that {variable} names holds {', '.join(found[:5])}; these tests drop "
            f"every collection: name an empty server of their own"
        )


def _drop_all(server: Qdrant) -> None:
    with server.store() as store:
        for name in store.collections():
            store.drop(name)


@pytest.fixture
def qdrant(running_qdrant: Qdrant) -> Iterator[Qdrant]:
    """Return a server from 1.18.2 on that holds nothing."""
    yield running_qdrant
    _drop_all(running_qdrant)


@pytest.fixture
def old_qdrant(running_old_qdrant: Qdrant) -> Iterator[Qdrant]:
    """Return a server below 1.18 that holds nothing."""
    yield running_old_qdrant
    _drop_all(running_old_qdrant)


@pytest.fixture
def locked_qdrant(qdrant: Qdrant) -> Qdrant:
    """Return a server that asks for a key, and has one for reading."""
    if qdrant.api_key is None or qdrant.read_only_key is None:
        stem = URL.removesuffix("_URL")
        pytest.skip(
            f"{stem}_API_KEY and {stem}_READ_ONLY_API_KEY are not set: a server that asks for "
            f"keys is needed"
        )
    return qdrant


@pytest.fixture(params=["rest", "grpc"])
def store(qdrant: Qdrant, request: pytest.FixtureRequest) -> Iterator[Store]:
    """Return a store of the server, over REST and over gRPC."""
    is_grpc = request.param == "grpc"
    if is_grpc and (reason := qdrant.why_no_grpc()):
        pytest.skip(reason)
    with qdrant.store(grpc=is_grpc) as store:
        yield store


@pytest.fixture(scope="session")
def running_postgres() -> Iterator[str]:
    url, image = os.environ.get(DB_URL), chosen(DB_URL, DB_IMAGE)
    if url:
        yield url
        return
    reason = why_not(DB_URL) or why_no_image(image)
    if reason:
        pytest.skip(reason)
    with postgres_container(image) as started:
        yield started


@pytest.fixture
def database(running_postgres: str) -> Iterator[str]:
    """Return the URL of an empty schema in PostgreSQL."""
    with own_schema(running_postgres) as url:
        yield url


@pytest.fixture
def at_server(qdrant: Qdrant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Qdrant:
    """Let commands work in an empty folder, with the server as their store."""
    enter(qdrant, tmp_path, monkeypatch)
    return qdrant


def enter(server: Qdrant, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("INTRAMODAL_STORE", server.url)
    monkeypatch.delenv("QDRANT_API_KEY", raising=False)
    if server.api_key is not None:
        monkeypatch.setenv("QDRANT_API_KEY", server.api_key)
