"""`intramodal evaluate oti`: pictures said by the text tower ask, whatever stops them."""

from __future__ import annotations

import csv
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from intramodal import ImageCollection, RunLedger, open_store
from intramodal.commands.options import DEFAULT_RUNS, DEFAULT_STORE
from intramodal.demo import pictures_list
from intramodal.types import VectorTable
from tests.cli import kit

pytest.importorskip("torch")

PICTURES = pictures_list().parent
N, BATCH = 32, 8
QUICK = ("--labels", "identity", "--steps", "3", "--batch-size", str(BATCH), "--device", "cpu")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a store: eight emoji by four vendors, as the demo model sees them."""
    folder = tmp_path_factory.mktemp("oti")
    with (PICTURES / "pictures.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))[:N]
    with (folder / "list.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["path", "identity", "vendor"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    for row in rows:
        (folder / row["path"]).parent.mkdir(exist_ok=True)
        shutil.copy(PICTURES / row["path"], folder / row["path"])
    places = ("--store", str(folder / DEFAULT_STORE), "--runs", str(folder / DEFAULT_RUNS))
    projection = str(folder / "pca.safetensors")
    kit.run("fit", "--model", "demo", "-o", projection, "--device", "cpu", *places)
    done = kit.run(
        *("ingest", str(folder / "list.csv"), "--collection", "emoji", "--model", "demo"),
        *("--device", "cpu", "--projection", projection, *places),
    )
    assert done["written"] == N
    return folder


@pytest.fixture(autouse=True)
def folder(shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    copy = tmp_path / "copy"
    shutil.copytree(shop, copy)
    monkeypatch.chdir(copy)
    return copy


def oti(*arguments: str, code: int = 0) -> Any:
    return kit.run("evaluate", "oti", *arguments, code=code)


def stored(*vectors: str) -> VectorTable:
    with open_store(DEFAULT_STORE) as store:
        return ImageCollection.open(store, "emoji").table(vectors, payload=["identity"])


def test_labels_of_a_file_are_those_of_the_payload(folder: Path) -> None:
    # Issue 20; an image's path is the id that an ingest has made of it.
    text = (folder / "list.csv").read_text(encoding="utf-8").replace("identity", "shape", 1)
    (folder / "labels.csv").write_text(text, encoding="utf-8")
    file = ("--labels-from", "labels.csv", "--id-column", "path")
    expected = oti("emoji", *QUICK)
    shaped = [name.replace("identity", "shape") for name in QUICK]
    found = oti("emoji", *shaped, *file, "--to", "oti")
    assert found["labels_from"]["n_without_row"] == found["labels_from"]["n_unknown"] == 0
    assert found["fields"]["shape"] == expected["fields"]["identity"]
    with open_store(DEFAULT_STORE) as store:
        pages = ImageCollection.open(store, "emoji").scroll(payload=True)
        assert not any("shape" in payload for page in pages for payload in page.payloads)


def test_its_table_fits_every_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    # Issue 21.
    tables = kit.rendered_tables(monkeypatch)
    result = kit.invoke("evaluate", "oti", "emoji", *QUICK)
    assert result.exit_code == 0, result.output
    kit.assert_tables_fit(tables)


def plain_map(Q: np.ndarray, G: np.ndarray, labels: list[Any]) -> float:
    """Return the mAP of rows that ask all other rows, by loops."""
    found = []
    for i, q in enumerate(Q):
        order = [j for j in np.argsort(-(G @ q)) if j != i]
        ranks = [rank for rank, j in enumerate(order, 1) if labels[j] == labels[i]]
        found.append(np.mean([place / rank for place, rank in enumerate(ranks, 1)]))
    return float(np.mean(found))


def test_as_published_texts_of_32_demo_pictures_get_near_and_ask_beside_the_pictures() -> None:
    found = oti("emoji", "--labels", "identity", "--to", "oti", "--device", "cpu")
    texts, entry = found["texts"], found["fields"]["identity"]
    assert (texts["vector"], texts["n"], texts["n_new"], texts["n_nearer"]) == ("oti", N, N, N)
    assert texts["cosine_before"] < 0.1 < 0.8 < texts["cosine_after"]
    table = stored("raw", "pca", "oti")
    raw, pca, said = (table.vectors[name].astype(np.float64) for name in ("raw", "pca", "oti"))
    cosines = np.einsum("ij,ij->i", raw, said)  # a store keeps unit vectors
    assert texts["cosine_after"] == pytest.approx(cosines.mean(), abs=1e-6)
    labels = table.payload["identity"]
    expected = {
        "oti": plain_map(said, raw, labels),
        "raw": plain_map(raw, raw, labels),
        "pca": plain_map(pca, pca, labels),
    }
    for name, value in expected.items():
        figures = entry["vectors"][name]
        assert figures["map"] == pytest.approx(value, abs=1e-6)
        assert figures["interval"][0] < value < figures["interval"][1]
    assert (entry["n_queries"], entry["n_gallery"]) == (N, N)
    assert entry["vectors"]["oti"]["population"] == "images"
    for name in ("raw", "pca"):
        row = entry["differences"][name]
        assert row["delta"] == pytest.approx(expected["oti"] - expected[name], abs=1e-6)
        assert row["interval"][0] < row["delta"] < row["interval"][1]
    with RunLedger.open(DEFAULT_RUNS) as ledger:
        kept = {(m.name, m.vector): m.value for m in ledger.metrics(found["run_id"])}
    assert kept["mAP", "oti"] == entry["vectors"]["oti"]["map"]
    assert kept["cosine after", "oti"] == texts["cosine_after"]
    again = oti("emoji", "--labels", "identity", "--to", "oti", "--device", "cpu")
    assert again["texts"] == {**texts, "n_new": 0}
    assert again["fields"] == found["fields"]


def test_texts_are_the_same_in_a_file_and_as_a_vector_that_the_manifest_knows() -> None:
    vector, file = oti("emoji", *QUICK, "--to", "said"), oti("emoji", *QUICK)
    path = Path(".intramodal/oti-emoji-raw.safetensors")
    assert path.is_file()
    assert file["texts"] == {
        **{k: v for k, v in vector["texts"].items() if k != "vector"},
        "file": str(path),
        # Other sums in another batch, then stored as unit vectors.
        "cosine_after": pytest.approx(vector["texts"]["cosine_after"], abs=1e-5),
    }
    for name, figures in file["fields"]["identity"]["vectors"].items():
        expected = vector["fields"]["identity"]["vectors"][name]
        assert figures["map"] == pytest.approx(expected["map"], abs=1e-3)
    with open_store(DEFAULT_STORE) as store:
        emoji = ImageCollection.open(store, "emoji")
        origin, raw = emoji.origin("said"), emoji.origin("raw")
    assert (origin.method, origin.source, origin.encoder) == ("oti", "raw", "demo")
    assert origin.encoder_fingerprint == raw.encoder_fingerprint
    told = oti("emoji", *QUICK, "--to", "said", "--seed", "7", code=1)["error"]["message"]
    assert "vector 'said' was made by demo" in told
    told = oti("emoji", *QUICK, "--seed", "7", code=1)["error"]["message"]
    assert "made with another seed; name another file" in told


def test_only_those_that_ask_are_inverted() -> None:
    found = oti("emoji", *QUICK, "--to", "oti", "--max-queries", "5")
    entry = found["fields"]["identity"]
    assert (found["texts"]["n_new"], entry["n_queries"], entry["n_gallery"]) == (5, 5, N)
    assert len(stored("oti")) == 5
    split = ("--queries", "vendor=noto", "--gallery", "vendor=fluent,twemoji")
    found = oti("emoji", *QUICK, "--to", "oti", *split)
    entry = found["fields"]["identity"]
    assert (entry["n_queries"], entry["n_gallery"]) == (8, 16)
    assert found["protocol"] == "query-gallery"
    assert found["texts"]["n_new"] <= 8
    assert len(stored("oti")) == 5 + found["texts"]["n_new"]


def test_only_matching_points_are_inverted_and_answer() -> None:
    options = ("--where", "vendor=noto,fluent", "--queries", "vendor=noto")
    found = oti("emoji", *QUICK, "--to", "oti", *options)
    entry = found["fields"]["identity"]
    assert (found["where"], found["n_points"]) == ("vendor=noto,fluent", 16)
    assert (entry["n_queries"], entry["n_gallery"]) == (8, 16)
    assert found["texts"]["n_new"] == len(stored("oti")) == 8


CHILD = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores it
from intramodal.evaluation.rivals.oti import InversionMap
apply = InversionMap.apply
def telling(self, X):
    print(len(X), flush=True)
    return apply(self, X)
InversionMap.apply = telling
from intramodal.cli import cli
cli()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_killed_in_the_middle_the_same_command_goes_on() -> None:
    command = ("emoji", *QUICK, "--to", "oti")
    arguments = [sys.executable, "-c", CHILD, "evaluate", "oti", *command]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        begun = [child.stdout.readline() for _ in range(3)]
        child.send_signal(signal.SIGKILL)
    assert begun == [f"{BATCH}\n"] * 3
    assert child.returncode == -signal.SIGKILL
    # The third batch had begun, so two were written; it may have been, too.
    found = oti(*command)
    assert N - 3 * BATCH <= found["texts"]["n_new"] <= N - 2 * BATCH
    whole = oti("emoji", *QUICK, "--to", "whole")
    assert whole["texts"]["n_new"] == N
    table = stored("oti", "whole")
    assert len(table) == N
    # Steps of 0.02 where a slope is near zero, in batches of other points.
    np.testing.assert_allclose(table.vectors["oti"], table.vectors["whole"], atol=2e-3)


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGINT to another process")
def test_ctrl_c_at_a_process_keeps_what_was_written_in_one_sentence() -> None:
    """Issue 20, item 10."""
    command = ("emoji", *QUICK, "--to", "oti")
    arguments = [sys.executable, "-c", CHILD, "evaluate", "oti", *command]
    pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(arguments, **pipes) as child:
        assert child.stdout is not None
        begun = [child.stdout.readline() for _ in range(3)]
        child.send_signal(signal.SIGINT)
        _, stderr = child.communicate(timeout=120)
    assert begun == [f"{BATCH}\n"] * 3
    assert child.returncode == 130
    kept = (
        "what was inverted into a file or a vector is kept; run the same command again to resume"
    )
    assert stderr.splitlines()[-1] == f"Error: stopped; {kept}"
    assert "Traceback" not in stderr
    assert N - 3 * BATCH <= oti(*command)["texts"]["n_new"] <= N - 2 * BATCH


@pytest.mark.parametrize("place", [("--to", "oti"), ("--out", "texts.safetensors")])
def test_ctrl_c_says_that_the_same_command_goes_on(
    monkeypatch: pytest.MonkeyPatch, place: tuple[str, str]
) -> None:
    from intramodal.evaluation.rivals import oti as module

    inverted, sizes = module._inverted, []

    def stopping(encoder: Any, X: np.ndarray, settings: Any) -> Any:
        sizes.append(len(X))
        if len(sizes) == 3:
            raise KeyboardInterrupt
        return inverted(encoder, X, settings)

    with monkeypatch.context() as patched:
        patched.setattr(module, "_inverted", stopping)
        told = oti("emoji", *QUICK, *place, code=130)["error"]["message"]
    assert "run the same command again" in told
    assert sizes == [BATCH] * 3
    assert oti("emoji", *QUICK, *place)["texts"]["n_new"] == N - 2 * BATCH


def test_a_table_names_vectors_and_says_how_near_texts_came() -> None:
    told = kit.invoke("evaluate", "oti", "emoji", *QUICK, "--vectors", "pca", "--wide")
    assert told.exit_code == 0, told.output
    for word in ("oti", "pca", "95% interval", "32 images have a text, 32 of them new"):
        assert word in told.stdout
    assert "raw" not in told.stdout
    assert ".safetensors" in told.stderr


def test_without_a_unit_to_resample_there_are_figures_without_intervals() -> None:
    entry = oti("emoji", *QUICK, "--cluster", "none")["fields"]["identity"]
    assert entry["differences"] == {}
    assert [row["interval"] for row in entry["vectors"].values()] == [None] * 3
    entry = oti("emoji", *QUICK, "--cluster", "vendor", "--vectors", "raw", code=1)
    assert "has 4 values; at least 5 are needed" in entry["error"]["message"]


@pytest.mark.parametrize(
    "command",
    [
        ("evaluate", "oti", "emoji", *QUICK, "--vectors", "raw,oti"),
        ("evaluate", "retrieval", "emoji", "--labels", "identity", "--vectors", "raw,oti"),
        ("evaluate", "fewshot", "emoji", "--labels", "identity", "--vectors", "oti"),
        ("evaluate", "misalignment", "emoji:oti", "--labels", "identity"),
        ("compare", "emoji", "--labels", "identity", "--vectors", "raw,oti"),
        ("compare", "emoji", "--vectors", "oti,raw"),
    ],
)
def test_texts_are_never_judged_as_if_they_were_pictures(command: tuple[str, ...]) -> None:
    oti("emoji", *QUICK, "--to", "oti", "--max-queries", "4")
    told = kit.run(*command, code=1)["error"]["message"]
    assert "'oti' of 'emoji' holds inverted queries for 'raw'" in told


def test_the_texts_are_removed_as_a_projected_vector_is() -> None:
    oti("emoji", *QUICK, "--to", "oti")
    assert kit.run("backfill", "emoji", "--rollback", "--to", "oti")["removed"] == N
    with open_store(DEFAULT_STORE) as store:
        assert set(ImageCollection.open(store, "emoji").info().vectors) == {"raw", "pca"}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("emoji:pca",), "'pca' is made from another vector"),
        (
            ("emoji", "--to", "raw"),
            "'raw' is compared with the texts; keep them under another name",
        ),
        (("emoji", "--to", "pca", "--vectors", "raw"), "vector 'pca' was made by demo"),
        (("emoji", "--template", "a photo"), "template needs {} once"),
        (("emoji", "--out", "list.csv"), "does not end in .safetensors"),
        (("emoji", "--out", "pca.safetensors"), "no inversion of intramodal"),
    ],
)
def test_what_cannot_be_meant_is_refused(arguments: tuple[str, ...], told: str) -> None:
    assert told in oti(*arguments, *QUICK, code=1)["error"]["message"]
    with open_store(DEFAULT_STORE) as store:
        assert set(ImageCollection.open(store, "emoji").info().vectors) == {"raw", "pca"}


def test_a_vector_and_a_file_exclude_each_other() -> None:
    told = kit.invoke("evaluate", "oti", "emoji", *QUICK, "--to", "a", "--out", "b.safetensors")
    assert (told.exit_code, "exclude each other" in told.output) == (2, True)
