"""Numbers, texts, paths and addresses that nobody can mean: a sentence, never a traceback."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result

from intramodal import Projection
from intramodal.cli import cli
from tests.cli.kit import invoke, make_photos, walk

LONG = "a" * 10_000
LARGE = "9" * 20
NUMBERS = ("-1", "0", LARGE, f"-{LARGE}", "nan", "inf", "1e400", "")
TEXTS = (
    "",
    " ",
    LONG,
    "a\0b",
    "\ud800",
    "\udcff",
    "=",
    ",",
    '"',
    "{}{0}%s",
    "-1",
    "\x1b[2J\u202e",
)
PATHS = ("", ".", LONG, "a/" * 3000, "absent/x.html", "a\0b", "\ud800.html")
STORES = (
    "", "http://", "http://[::1", "http://127.0.0.1:99999999", f"http://{LONG}", "sqlite:///",
    "http://%zz", "http:// x", "http://é.․", "http://127.0.0.1:1\n", "http://127.0.0.1:-1", "ftp://x",
    ":x:", "a:1", LONG, "a\0b",
)  # fmt: skip
RUNS = (
    f"sqlite:///{LONG}", "nonsense://x", "://", "mysql://x", "postgresql+psycopg://[::1",
    "postgresql://127.0.0.1:abc/x", "postgresql://127.0.0.1:99999999/x", "sqlite:///r.db?timeout=abc",
    "sqlite+aiosqlite:///r.db", LONG, "a\0b", ".",
)  # fmt: skip
COMMANDS = {name.strip(): command for name, command in walk(cli)}
RUN = "20200101"
WORDS = {
    "ingest": ["X.npy", "--collection", "c", "--made-by", "m"],
    "fit": [
        "--text-vectors",
        "X.npy",
        "--anchors",
        "a.txt",
        "--components",
        "2",
        "--made-by",
        "m",
    ],
    "backfill": ["photos", "--projection", "p.safetensors", "--to", "p4", "--dry-run"],
    "adopt": ["photos", "--vector", "raw", "--made-by", "clip"],
    "compare": ["photos", "--labels", "kind", "--no-controls", "--task", "retrieval"],
    "search": ["photos", "--id", "0"],
    "export": ["photos", "--vector", "raw", "-o", "e.npy"],
    "evaluate retrieval": ["photos", "--labels", "kind", "--vectors", "raw", "--cluster", "none"],
    "evaluate fewshot": ["photos", "--labels", "kind", "--vectors", "raw", "--episodes", "1"],
    "evaluate index": ["photos", "--labels", "kind", "--searches", "raw"],
    "report": ["-o", "r.html"],
    "reproduce": ["table3", "--data", ".", "--dry-run"],
    "runs compare": [RUN, RUN],
    "runs show": [RUN],
    "runs export": ["-o", "r.csv"],
    "runs prune": ["--keep", "1"],
}
"""What makes sense of a command, so that an absurd value is the one thing wrong with it."""


@pytest.fixture(scope="module", autouse=True)
def place(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Stand in a folder with a collection, vectors, a projection and anchors."""
    folder, before = tmp_path_factory.mktemp("place"), Path.cwd()
    os.chdir(folder)
    try:
        make_photos(np.random.default_rng(7))
        np.save("X.npy", np.eye(6, 16, dtype=np.float32))
        Projection(np.eye(16)[:, :4], "pca", "clip", "3f9a").save(Path("p.safetensors"))
        Path("a.txt").write_text("\n".join(f"kind {i}" for i in range(6)))
        yield
    finally:
        os.chdir(before)


def values(param: click.Parameter) -> tuple[str, ...]:
    if param.name in ("store", "runs", "runs_url"):
        return STORES if param.name == "store" else RUNS
    if isinstance(param.type, click.types.IntParamType | click.types.FloatParamType):
        return NUMBERS
    return PATHS if isinstance(param.type, click.Path) else TEXTS


def options(command: click.Command) -> list[click.Option]:
    return [p for p in command.params if isinstance(p, click.Option) and not p.is_flag]


def ends_well(result: Result) -> bool:
    """Return whether a command came to an end that was meant, and said so in a few lines."""
    meant = result.exit_code in (0, 1, 2, 3)
    is_report = result.stdout.startswith("ok ") and "\nproblem " in result.stdout  # of doctor
    says = bool(result.exit_code == 0 or is_report or "Error: " in result.stderr)
    return meant and says and "Traceback" not in result.output and len(result.stderr) < 4000


def tried(name: str, option: click.Option, value: str) -> Result:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of arithmetic; not what is looked for here
        long = option.opts[-1].startswith("--")
        given = [f"{option.opts[-1]}={value}"] if long else [option.opts[-1], value]
        return invoke(*name.split(), *WORDS.get(name, []), *given)


@pytest.mark.parametrize("name", COMMANDS)
def test_no_command_takes_a_number_that_nothing_can_count(name: str) -> None:
    """Refused before a store is opened, whatever else is given."""
    for option in options(COMMANDS[name]):
        if isinstance(option.type, click.types.IntParamType | click.types.FloatParamType):
            for value in ("nan", "inf", "1e400", LARGE)[
                : 4 if isinstance(option.type, click.types.IntParamType) else 3
            ]:
                result = invoke(*name.split(), *WORDS.get(name, []), f"{option.opts[-1]}={value}")
                assert result.exit_code == 2, (option.opts, value, result.output)
                assert ends_well(result)


@pytest.mark.parametrize("name", COMMANDS)
def test_no_command_takes_a_text_that_no_file_can_hold(name: str) -> None:
    for option in options(COMMANDS[name]):
        for value in ("a\0b", "\ud800"):
            result = tried(name, option, value)
            assert result.exit_code == 2, (option.opts, value, result.output)
            assert ends_well(result)


@pytest.mark.parametrize(
    "words",
    ["ingest X.npy --made-by m --collection", "ingest X.npy --made-by m --collection c --vector",
     "backfill photos --projection p.safetensors --to", "runs list --kind",
     "compare photos --labels kind --no-controls --task retrieval --baseline"],
)  # fmt: skip
def test_bytes_that_are_not_utf_8_are_no_name(words: str) -> None:
    """Issue 20: names of files may hold them, those of collections and runs may not."""
    result = invoke(*words.split(), "\udcff")
    assert result.exit_code == 1, result.output
    assert ends_well(result), result.output


@pytest.mark.parametrize("name", ["", "."])
@pytest.mark.parametrize(
    "words",
    ["fit --text-vectors X.npy --made-by m -o q.safetensors --anchors",
     "fit --anchors a.txt --made-by m -o q.safetensors --text-vectors",
     "evaluate fewshot-text photos --labels kind --text-vectors X.npy --class-texts",
     "backfill photos --to p4 --projection"],
)  # fmt: skip
def test_a_folder_in_place_of_a_file_is_said_without_an_error_number(
    words: str, name: str
) -> None:
    result = invoke(*words.split(), name)
    assert result.exit_code in (1, 2), result.output
    assert ends_well(result), result.output
    assert "Errno" not in result.stderr


def test_a_comparison_without_an_interval_is_refused() -> None:
    result = invoke("compare", "photos", "--labels", "kind", "--cluster", "none")
    assert result.exit_code == 1, result.output
    assert "decided by its interval" in result.stderr


def test_a_comparison_of_a_few_queries_divides_by_no_zero() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        words = "compare photos --labels kind --no-controls --max-queries 10"
        result = invoke(*words.split())
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("store", STORES)
def test_an_address_that_is_none_is_one_sentence(store: str) -> None:
    result = invoke("export", "photos", "--vector", "raw", "-o", "e.npy", f"--store={store}")
    assert result.exit_code in (1, 2), result.output
    assert ends_well(result), result.output


@pytest.mark.parametrize("runs", RUNS)
def test_a_runs_database_that_is_none_is_one_sentence(runs: str) -> None:
    result = invoke("runs", "list", f"--runs={runs}")
    assert result.exit_code in (1, 2), result.output
    assert ends_well(result), result.output


@pytest.mark.parametrize("name", ["", ".", "/", LONG])
@pytest.mark.parametrize(
    "words",
    ["report -o", "search photos --id 0 --html", "compare photos --labels kind -o",
     "export photos --vector raw -o", "runs export -o", "runs table -o",
     "fit --text-vectors X.npy --anchors a.txt --components 2 --made-by m -o"],
)  # fmt: skip
def test_a_file_without_a_name_is_one_sentence(words: str, name: str) -> None:
    result = invoke(*words.split(), name)
    assert result.exit_code in (1, 2), result.output
    assert ends_well(result), result.output


def test_a_setting_with_a_character_that_no_file_can_hold_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("intramodal.toml").write_text('[compare]\ncluster = "a\\u0000b"\n')
    result = CliRunner().invoke(cli, ["compare", "photos"])
    assert result.exit_code == 2, result.output
    assert "a NUL" in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "option"),
    [(name, option) for name, command in COMMANDS.items() for option in options(command)
     if name not in ("demo", "evaluate oti")],
    ids=lambda value: value if isinstance(value, str) else value.opts[-1],
)  # fmt: skip
def test_every_option_of_every_command_survives_every_absurd_value(
    name: str, option: click.Option
) -> None:
    for value in values(option):
        result = tried(name, option, value)
        assert ends_well(result), (value[:40], result.exit_code, result.output[-2000:])
