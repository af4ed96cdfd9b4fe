"""Every command on a terminal, with names that try to act in every place that takes one."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from qdrant_client import QdrantClient, models

from intramodal import ImageCollection, open_store
from intramodal.cli import cli
from intramodal.commands.options import DEFAULT_STORE
from intramodal.evaluation.preference import VOTES_FORMAT
from intramodal.projection.projection import Projection
from intramodal.store.manifest import VectorOrigin
from intramodal.types import unit_rows
from tests.cli.kit import invoke, walk
from tests.cli.pseudo_terminal import MARK, NAME, assert_harmless, on_a_terminal, screen_of

pytest.importorskip("pty", reason="needs a pseudo-terminal")

N, D, N_KINDS = 48, 16, 4
KIND = f"kind {MARK}[/bold]"
"""A field of the payload."""
OWN = f"own {NAME}"
"""A named vector."""
PLACE = f"place {NAME}"
"""A collection."""
FILE = f"file {MARK}"


def write_files() -> None:
    """Write files that need no vectors of the fixture."""
    Path(f"{FILE}.txt").write_text("".join(f"thing {n}\n" for n in range(20)))
    Path(f"{FILE}.png").write_bytes(b"no picture")
    vote = {"query": MARK, "choice": "b", "left": "a"}
    about = {"format": VOTES_FORMAT, "collection": PLACE, "vectors": [OWN, MARK], "run_id": MARK}
    Path(f"{FILE} votes.json").write_text(json.dumps({**about, "votes": [vote]}))
    client = QdrantClient(path=f"{FILE} local")
    one = models.VectorParams(size=2, distance=models.Distance.COSINE)
    client.create_collection(f"local {NAME}", vectors_config={OWN: one})
    client.upsert(
        f"local {NAME}", [models.PointStruct(id=1, vector={OWN: [1, 0]}, payload={MARK: MARK})]
    )
    client.close()


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Make a folder of which every name is a stranger's, with one recorded comparison."""
    folder = tmp_path_factory.mktemp("strangers")
    former = Path.cwd()
    os.chdir(folder)
    rng = np.random.default_rng(1)
    X = unit_rows(rng.normal(size=(N, D)))
    projection = Projection(np.linalg.qr(rng.normal(size=(D, 8)))[0], "pca", MARK, "3f9a")
    projection.save(Path(f"{FILE}.safetensors"))
    for name, n in (("T", N_KINDS), ("A", 20)):
        np.save(f"{FILE} {name}.npy", unit_rows(rng.normal(size=(n, D))))
    write_files()
    made = VectorOrigin(MARK, "3f9a", projection=projection.fingerprint, source=OWN)
    with open_store(DEFAULT_STORE) as store:
        place = ImageCollection.create(
            store, PLACE, {OWN: (D, VectorOrigin(MARK, "3f9a")), "pca": (8, made)}
        )
        payloads = [
            {KIND: f"{n % N_KINDS} {MARK}", "path": f"{n}{MARK}.jpg", "split": f"s{n % 2}"}
            for n in range(N)
        ]
        place.write(list(range(N)), {OWN: X, "pca": projection.apply(X)}, payloads)
    np.save("V.npy", X)
    with Path("V.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["id", KIND, f"{KIND} too"])
        rows.writerows([f"{n}{MARK}", f"{n % N_KINDS}{MARK}", MARK] for n in range(N))
    with Path(f"{FILE} labels.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["id", f"{KIND} told"])
        rows.writerows([n, f"{n % N_KINDS}{MARK}"] for n in range(N))
    code, screen = on_a_terminal("-v", *COMPARE, "-o", f"{FILE}.html")
    assert code == 0, screen
    assert_harmless(screen)
    yield folder
    os.chdir(former)


BOTH = ("--vectors", f"{OWN},pca")
LABELS = ("--labels", KIND)
TEXTS = ("--text-vectors", f"{FILE} T.npy")
MAP = ("--projection", f"{FILE}.safetensors")
NONE = ("--cluster", "none")
COMPARE = ("compare", PLACE, *BOTH, *LABELS, "--no-controls")
LATEST = "2"
"""Every run's id begins with its year."""

TABLE = ("--rows", "field,vector", "--cols", "collection")

Row = tuple[int, tuple[str, ...]]
"""The exit code, and the words after the command's name."""

CASES: dict[str, list[Row]] = {
    "demo": [(2, ("--out", f"{FILE}.txt"))],
    "ingest": [
        (0, ("V.npy", "--metadata", "V.csv", "--collection", f"new {NAME}", "--made-by", MARK)),
        (1, (FILE, "--collection", PLACE, "--model", "demo")),
        (1, ("V.npy", "--metadata", "V.csv", "--id-column", MARK, "--collection", "c",
             "--made-by", "m")),
    ],
    "import-local": [
        (0, (f"{FILE} local",)),
        (1, (MARK,)),
        (1, (f"{FILE} local", "--collection", MARK)),
    ],
    "fit": [
        (0, ("--text-vectors", f"{FILE} A.npy", "--anchors", f"{FILE}.txt", "--made-by", MARK,
             "-o", f"{FILE} new.safetensors")),
        (1, ("--text-vectors", f"{MARK}.npy", "--made-by", "m", "-o", f"{FILE} 2.safetensors")),
    ],
    "backfill": [
        (0, (PLACE, *MAP, "--from", OWN, "--to", f"pca {NAME}", "--no-wait")),
        (0, (PLACE, *MAP, "--from", OWN, "--to", f"3 {NAME}", "--dry-run")),
        (1, (PLACE, *MAP, "--from", MARK)),
    ],
    "adopt": [
        (0, (PLACE, "--vector", OWN, "--made-by", MARK)),
        (1, (PLACE, "--vector", MARK, "--made-by", MARK)),
        (1, ("--shard", f"{FILE} shard", f"shard {NAME}", "--made-by", MARK)),
        (1, ("--shard", f"{FILE} local", f"shard {NAME}", "--made-by", MARK)),
    ],
    "advise": [
        (0, (f"{PLACE}:{OWN}", *LABELS, "--fit-share", "1")),
        (1, (f"{PLACE}:{OWN}", "--labels", MARK)),
    ],
    "evaluate fewshot": [
        (0, (PLACE, *BOTH, *LABELS, "--shots", "1", "--episodes", "2")),
        (1, (PLACE, *BOTH, "--labels", MARK)),
    ],
    "evaluate fewshot-text": [
        (0, (f"{PLACE}:{OWN}", *LABELS, *TEXTS, "--shots", "1", "--episodes", "2",
             "--methods", "tip-adapter", "--validation", "1")),
        (1, (f"{PLACE}:{MARK}", *LABELS, *TEXTS)),
    ],
    "evaluate index": [(0, (PLACE, "--searches", "pca", *LABELS, *NONE))],
    "evaluate misalignment": [
        (0, (f"{PLACE}:{OWN}", *LABELS, *TEXTS, *MAP, "-o", f"{FILE} 2.html")),
        (1, (f"{PLACE}:{MARK}", *LABELS)),
    ],
    "evaluate oti": [(1, (f"{PLACE}:{OWN}", *LABELS, "--model", MARK))],
    "evaluate recovery": [
        (1, (f"{PLACE}:{OWN}", "--text-vectors", f"{MARK}.npy")),
    ],
    "evaluate retrieval": [
        (0, (PLACE, *BOTH, *LABELS, *NONE)),
        (0, (PLACE, *BOTH, *LABELS, *NONE, "--where", f"{KIND}=0 {MARK},1 {MARK}")),
        (1, (PLACE, *BOTH, *LABELS, "--queries", f"{KIND}={MARK}")),
        (0, (PLACE, *BOTH, "--labels", f"{KIND} told", "--labels-from", f"{FILE} labels.csv",
             *NONE)),
        (1, (PLACE, *BOTH, "--labels", MARK, "--labels-from", f"{FILE} labels.csv")),
        (1, (PLACE, *BOTH, *LABELS, "--labels-from", f"{FILE} labels.csv", "--id-column", MARK)),
        (1, (PLACE, *BOTH, *LABELS, "--labels-from", f"{FILE} none.csv")),
    ],
    "evaluate text": [(0, (f"{PLACE}:{OWN}", *LABELS, *TEXTS))],
    "compare": [
        (0, (*COMPARE[1:], "--junit", f"{FILE}.xml")),
        (0, (PLACE, *BOTH)),
        (1, (PLACE, "--vectors", f"{OWN},{MARK}", *LABELS)),
        (1, (*COMPARE[1:], "--baseline", MARK)),
    ],
    "judge": [(0, (f"{FILE} votes.json",)), (1, (f"{MARK}.json",))],
    "search": [
        (0, (PLACE, "--id", "7", *BOTH, "--html", f"{FILE} 3.html")),
        (1, (PLACE, "--image", f"{FILE}.png", "--vectors", OWN)),
        (1, (PLACE, "--id", MARK, *BOTH)),
    ],
    "export": [
        (0, (PLACE, "--vector", OWN, "-o", f"{FILE} 4.npy")),
        (1, (MARK, "--vector", OWN, "-o", f"{FILE} 5.npy")),
    ],
    "report": [
        (0, ("-o", f"{FILE} 6.md")),
        (1, (MARK, "-o", f"{FILE} 7.html")),
    ],
    "reproduce": [
        (1, (MARK, "--data", FILE)),
        (2, (MARK, "--data", f"{FILE}.txt")),
        (0, ("table2", "--on", PLACE, "--label", KIND, "--vector", OWN, "--dry-run")),
    ],
    "runs list": [(0, ()), (1, ("--kind", MARK))],
    "runs show": [(0, ("<first>",)), (1, (MARK,))],
    "runs compare": [(0, ("<first>", "<last>")), (1, (MARK, MARK))],
    "runs export": [(0, ("-o", f"{FILE}.csv")), (1, (MARK, "-o", f"{FILE}.json"))],
    "runs table": [
        *((0, (*TABLE, "--format", form)) for form in ("md", "tex", "json", "html")),
        (1, ("--metric", MARK)),
    ],
    "runs prune": [(1, ("--kind", MARK))],
    "models list": [],
    "anchors": [
        (0, (f"{FILE}.txt", "--template", "mark {} [bold]\x9b31mQ")),
        (1, (f"{FILE}.txt", "--template", f"{{}} {MARK}")),
        (1, (MARK,)),
    ],
    "models convert-slip": [(2, (MARK, f"{FILE} 8"))],
    "doctor": [(1, ("--store", f"{FILE}.txt", "--runs", f"{FILE}.png"))],
    "init": [(1, (MARK,))],
    "trust": [
        (1, (MARK,)),
        (1, (MARK, "--remove")),
    ],
}  # fmt: skip

NAMES = {path.strip() for path, _ in walk(cli)}


def test_every_command_has_a_case() -> None:
    assert set(CASES) == NAMES


def runs_of(words: tuple[str, ...]) -> list[str]:
    """Return the arguments with the ids of the first and the last run in their places."""
    if not any(word.startswith("<") for word in words):
        return list(words)
    rows = json.loads(invoke("runs", "list", "--json").stdout)["runs"]
    ids = {"<first>": rows[-1]["id"], "<last>": rows[0]["id"]}
    return [ids.get(word, word) for word in words]


@pytest.mark.usefixtures("strangers")
@pytest.mark.parametrize("name", CASES)
def test_nothing_that_a_command_repeats_acts_on_a_terminal(name: str) -> None:
    for code, words in CASES[name]:
        ended, screen = on_a_terminal("-v", *name.split(), *runs_of(words))
        assert (ended, "Traceback" in screen) == (code, False), screen
        assert_harmless(screen)


@pytest.mark.usefixtures("strangers")
@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_wrong_word_is_repeated_and_does_not_act(name: str) -> None:
    for words in ((f"--{MARK}",), (f"--json={MARK}",), (MARK,) * 9):
        code, screen = on_a_terminal(*name.split(), *words)
        assert code in (1, 2), screen
        if words != (f"--json={MARK}",) and "Missing" not in screen:
            assert_harmless(screen)
        assert_harmless(screen, shows="Error: ")


@pytest.mark.usefixtures("strangers")
@pytest.mark.parametrize(
    "words",
    [("search", PLACE, "--id", "7", "-k", "9", *BOTH), ("runs", "list"), ("runs", "show", MARK)],
)
def test_json_has_the_same_values_on_a_terminal_and_in_a_pipe(words: tuple[str, ...]) -> None:
    _, screen = on_a_terminal(*words, "--json")
    first = screen.splitlines()[0]
    assert_harmless(first)
    piped = invoke(*words, "--json").stdout.splitlines()[0]
    assert_harmless(piped)
    shown, read = json.loads(first), json.loads(piped)
    for found in (shown, read):
        found.pop("run_id", None), found.pop("runs", None)
    assert {k: v for k, v in shown.items() if k != "seconds"} == {
        k: v for k, v in read.items() if k != "seconds"
    }


@pytest.mark.usefixtures("strangers")
def test_data_for_programs_is_intact_in_a_pipe_and_visible_on_a_terminal() -> None:
    words = ("runs", "table", *TABLE, "--format", "csv")
    piped = invoke(*words).stdout
    assert KIND in {row["field"] for row in csv.DictReader(piped.splitlines(keepends=True))}
    _, screen = on_a_terminal(*words)
    assert_harmless(screen.replace("\nQ", ""))  # a line break is the format's own


@pytest.mark.usefixtures("strangers")
@pytest.mark.parametrize("words", [("runs", "list"), ("runs", MARK), (MARK,)])
def test_a_process_of_its_own_keeps_the_gate(words: tuple[str, ...]) -> None:
    with screen_of() as (terminal, received):
        code = "from intramodal.cli import cli; cli(prog_name='intramodal')"
        subprocess.run(
            [sys.executable, "-c", code, *words], stdout=terminal, stderr=terminal, check=False
        )
        assert_harmless(received())


@pytest.mark.usefixtures("strangers")
def test_a_configuration_file_of_strangers_is_named_and_does_not_act(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name = json.dumps(MARK)
    for content in (f"[{name}]\na = 1\n", f"[search]\n{name} = 1\n", f"store = [{name}]\n", MARK):
        Path("intramodal.toml").write_text(content, encoding="utf-8")
        code, screen = on_a_terminal("runs", "list")
        assert code == 1
        assert_harmless(screen, shows="intramodal.toml")
