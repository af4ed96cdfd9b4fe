"""Where real servers come from: addresses in the environment, else containers.

============================================  ===================================================
INTRAMODAL_TEST_QDRANT_URL                    a Qdrant from 1.18.2 on that holds nothing
INTRAMODAL_TEST_QDRANT_API_KEY                its key, if it has one
INTRAMODAL_TEST_QDRANT_READ_ONLY_API_KEY      its key for reading
INTRAMODAL_TEST_OLD_QDRANT_URL                a second one, below 1.18; ..._API_KEY its key
INTRAMODAL_TEST_CLUSTER_URLS                  all nodes of a cluster from 1.18.2 on, at least two
                                              and comma-separated; ..._CLUSTER_API_KEY their key
INTRAMODAL_TEST_DB_URL                        PostgreSQL, as a SQLAlchemy URL
INTRAMODAL_TEST_QDRANT_IMAGE                  the image of its container, by default `IMAGE`
INTRAMODAL_TEST_OLD_QDRANT_IMAGE              that of the second one, by default `OLD_IMAGE`
INTRAMODAL_TEST_DB_IMAGE                      that of PostgreSQL's, by default `DB_IMAGE`
============================================  ===================================================

Without an address a container is started where there is a daemon: DOCKER_HOST, else the default
socket. With neither, or where the daemon has not got an image and cannot pull it, the tests of a
real server are skipped, and run on a stand-in of the wire (tests/faults/wire) under that name.
"""

from __future__ import annotations

import os
import secrets
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import create_engine, make_url, text

from intramodal.errors import StoreUnavailable
from intramodal.store.base import Store
from intramodal.store.server.client import Retry, connect_server
from intramodal.store.server.store import ServerStore
from tests.faults.ports import two_ports
from tests.faults.wire import Keys, WireServer

URL = "INTRAMODAL_TEST_QDRANT_URL"
OLD_URL = "INTRAMODAL_TEST_OLD_QDRANT_URL"
CLUSTER_URLS = "INTRAMODAL_TEST_CLUSTER_URLS"
DB_URL = "INTRAMODAL_TEST_DB_URL"

# The one that docker/compose.yaml starts, and the last of a series that cannot add vectors but
# keeps metadata of collections.
IMAGE = "qdrant/qdrant:v1.19.0"
OLD_IMAGE = "qdrant/qdrant:v1.16.2"
DB_IMAGE = "postgres:17-bookworm"

SERVER, STAND_IN = "server", "stand-in"

_DEFAULT_DAEMON = "unix:///var/run/docker.sock"
_START_DEADLINE_S = 120.0


@dataclass(frozen=True)
class Qdrant:
    """A running server and its keys."""

    url: str
    api_key: str | None = field(default=None, repr=False)
    read_only_key: str | None = field(default=None, repr=False)
    is_stand_in: bool = False

    def store(self, *, grpc: bool | None = None, retry: Retry | None = None) -> Store:
        """Return a store of it, over gRPC or REST; None: as commands choose."""
        connection = connect_server(self.url, api_key=self.api_key, prefer_grpc=grpc, retry=retry)
        return ServerStore(connection)

    def why_no_grpc(self) -> str:
        """Return why gRPC cannot be tried, in a few words; empty if it can."""
        with self.store() as seen:
            answers = seen.describe()["protocol"] == "grpc"
        return "" if answers else f"the port after {self.url} does not answer in gRPC; open it"


def named_qdrant(variable: str = URL) -> Qdrant | None:
    """Return the server that the environment names."""
    url = os.environ.get(variable)
    if not url:
        return None
    stem = variable.removesuffix("_URL")
    key, reading = (os.environ.get(f"{stem}_{kind}") for kind in ("API_KEY", "READ_ONLY_API_KEY"))
    return Qdrant(url, key or None, reading or None)


def why_no_container() -> str:
    """Return why none can be started, in a few words; empty if one can."""
    if find_spec("testcontainers") is None:
        return "testcontainers is not installed"
    daemon = os.environ.get("DOCKER_HOST") or _DEFAULT_DAEMON
    parts = urlsplit(daemon)
    try:
        if parts.scheme == "unix":
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(5)
                connection.connect(parts.path)
        elif parts.scheme == "tcp":
            socket.create_connection((parts.hostname or "", parts.port or 2375), timeout=5).close()
    except OSError:
        return f"no container daemon at {daemon}"
    return ""


def why_not(variable: str) -> str:
    """Return why what `variable` names cannot be had; empty if it can."""
    missing = "" if os.environ.get(variable) else why_no_container()
    return f"{variable} is not set and there is {missing}" if missing else ""


def kinds(variable: str, image: str) -> list[str]:
    """Return what the tests run on: a real server, and a stand-in where there may be none.

    Nothing is pulled yet: where that is still to be tried, both run.
    """
    if os.environ.get(variable):
        return [SERVER]
    has_all = not why_no_container() and all(map(_has_image, _images(image)))
    return [SERVER] if has_all else [SERVER, STAND_IN]


def chosen(variable: str, default: str) -> str:
    """Return the image that the environment names beside an address, or the default."""
    return os.environ.get(variable.removesuffix("_URL") + "_IMAGE") or default


@cache
def why_no_image(image: str) -> str:
    """Return why the daemon can start none of an image, in a few words; empty if it can.

    What is not there is pulled, once; testcontainers' own helper, which removes what tests leave,
    is needed, too.
    """
    from docker.errors import DockerException

    for name in _images(image):
        if _has_image(name):
            continue
        try:
            _daemon().images.pull(name)
        except DockerException as error:
            said = " ".join(str(error).split())
            return f"no image {name}: the container daemon cannot pull it ({said[:200]})"
    return ""


def _images(image: str) -> list[str]:
    from testcontainers.core.config import testcontainers_config as config

    return [image] if config.ryuk_disabled else [config.ryuk_image, image]


def _has_image(image: str) -> bool:
    from docker.errors import DockerException

    try:
        _daemon().images.get(image)
    except DockerException:
        return False
    return True


def _daemon() -> Any:
    """Return a client of the daemon that testcontainers speaks to."""
    from testcontainers.core.docker_client import DockerClient

    return DockerClient().client


@contextmanager
def stand_in(image: str) -> Iterator[Qdrant]:
    """Stand in for the server of an image: its version and keys; the old one in REST alone."""
    keys = Keys(secrets.token_urlsafe(24), secrets.token_urlsafe(24))
    version = image.rpartition(":v")[2]
    with WireServer(version=version, keys=keys, speaks_grpc=image == IMAGE) as server:
        yield Qdrant(server.url, keys.full, keys.reading, is_stand_in=True)


@contextmanager
def qdrant_container(image: str) -> Iterator[Qdrant]:
    """Start a server with two keys; gRPC is on the port after REST's, where the client looks."""
    from testcontainers.community.qdrant import QdrantContainer
    from testcontainers.core.wait_strategies import HttpWaitStrategy

    port = _first_of_two_free_ports()
    key, reading = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
    container = QdrantContainer(image, api_key=key)
    container.with_bind_ports(6333, port).with_bind_ports(6334, port + 1)
    container.with_env("QDRANT__SERVICE__READ_ONLY_API_KEY", reading)
    container.with_env("QDRANT__TELEMETRY_DISABLED", "true")
    # Not the default, a line of the log: its words are the server's own business.
    container.waiting_for(HttpWaitStrategy(6333, "/readyz"))
    with container:
        # Seen from inside another container the ports are the container's own: neighbours, too.
        seen = container.get_exposed_port(6333)
        server = Qdrant(f"http://{container.get_container_host_ip()}:{seen}", key, reading)
        _wait_for_grpc(server)
        yield server


def _first_of_two_free_ports() -> int:
    guards, port = two_ports()
    for guard in guards:
        guard.close()
    return port


def _wait_for_grpc(server: Qdrant) -> None:
    deadline = time.monotonic() + _START_DEADLINE_S
    while True:
        try:
            return server.store(grpc=True, retry=Retry(deadline_s=_START_DEADLINE_S)).close()
        except StoreUnavailable:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


@contextmanager
def postgres_container(image: str) -> Iterator[str]:
    """Start a server; yields its URL."""
    from testcontainers.community.postgres import PostgresContainer

    password = secrets.token_urlsafe(24)
    with PostgresContainer(
        image, username="intramodal", password=password, dbname="intramodal", driver="psycopg"
    ) as container:
        yield container.get_connection_url()


@contextmanager
def own_schema(url: str) -> Iterator[str]:
    """Make a schema that nobody else uses; yields the URL that leads into it."""
    schema = f"intramodal_test_{uuid.uuid4().hex}"
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE SCHEMA {schema}"))
    own = make_url(url).update_query_dict({"options": f"-csearch_path={schema}"})
    yield own.render_as_string(hide_password=False)
    with engine.connect() as connection:
        connection.execute(text(f"DROP SCHEMA {schema} CASCADE"))
    engine.dispose()
