"""`intramodal evaluate`: what is printed, written, refused and asked of the store."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from intramodal import Projection, open_store
from intramodal.commands.options import DEFAULT_STORE
from tests.browser import chromium
from tests.cli.evaluated import COMMANDS, fill, half, invoke, run
from tests.faults.wire import WireServer


@pytest.fixture(autouse=True)
def folder(in_shop: Path) -> Path:
    return in_shop


@pytest.mark.parametrize("name", COMMANDS)
def test_the_same_command_twice_gives_the_same_figures(name: str) -> None:
    first, second = (run(name, *COMMANDS[name]) for _ in range(2))
    assert first.pop("run_id") != second.pop("run_id")
    assert first == second


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("retrieval", ("leave-one-out", "R-prec", "without positives", "pca")),
        ("fewshot", ("prototype", "95% interval", "3 episodes")),
        ("misalignment", ("mAP", "overlap", "d'", "all pairs")),
        ("recovery", ("not determined", "determined", "120 images for 136 unknowns")),
    ],
)
def test_without_json_a_table_is_printed(name: str, words: tuple[str, ...]) -> None:
    all_columns = [] if name == "recovery" else ["--wide"]
    result = invoke(name, *COMMANDS[name], *all_columns)
    assert result.exit_code == 0, result.output
    for word in words:
        assert word in result.stdout
    assert "run " in result.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("retrieval", "photo", "--labels", "kind"), "the store has 'photos'"),
        (("retrieval", "photos", "--labels", "knid"), "in field 'knid'; 'photos' has 'kind'"),
        (("retrieval", "photos", "--labels", "kind", "--vectors", "pcb"), "it has 'pca', 'raw'"),
        (("fewshot", "photos", "--labels", "yeer"), "'photos' has 'year'"),
        (
            ("fewshot", "photos", "--labels", "kind", "--classifiers", "ldb"),
            "choose from lda, pro",
        ),
        (("retrieval", "photos", "--labels", "kind", "--queries", "split"), "field=value"),
        (
            ("retrieval", "photos", "--labels", "kind", "--queries", "split=tets"),
            "no point has split=tets; some of its values are 'test'",
        ),
        (
            ("retrieval", "photos", "--labels", "kind", "--split", "split", "--queries", "a=b"),
            "leave out the rest",
        ),
        (
            ("misalignment", "photos:pcb", "--labels", "kind"),
            "no vector 'pcb'; it has 'pca', 'raw'",
        ),
        (("misalignment", "fotos", "--labels", "kind"), "the store has 'photos'"),
        (
            ("misalignment", "photos:pca", "--labels", "kind", "--text-vectors", "T.npy"),
            "give that one as --projection, got none",
        ),
        (
            ("misalignment", *["photos"] * 3, "--labels", "kind", *["--model", "demo"] * 2),
            "--model is given 2 times for 3 collections",
        ),
        (("misalignment", "photos", "--labels", "kind", "--text-vectors", "U.npy"), "U.npy"),
        (
            ("recovery", "photos", "--text-vectors", "T.npy", "--sizes", "41"),
            "the 40 texts, got 41",
        ),
        (("recovery", "photos:pca", "--text-vectors", "T.npy"), "give that one as --projection"),
    ],
)
def test_wrong_words_are_answered_in_one_sentence(
    arguments: tuple[str, ...], sentence: str
) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 1, result.output
    assert sentence in result.stderr
    assert result.stderr.count("\n") == 1


def test_errors_of_a_sample_are_in_the_table_and_so_are_texts_where_there_are_some() -> None:
    options = ("misalignment", "photos", "--labels", "kind", "--no-map")
    whole, sampled = invoke(*options).output, invoke(*options, "--max-pairs", "500").output
    assert "±" not in whole
    assert "gap" not in whole
    assert "±" in sampled
    assert "gap" in invoke(*options, "--text-vectors", "T.npy").output


def test_a_projection_of_another_model_is_refused_not_ignored() -> None:
    other = Projection(half().matrix, "pca", "siglip", "77aa")
    other.save("other.safetensors")
    options = ("--labels", "kind", "--projection", "other.safetensors")
    found = run("misalignment", "photos", *options, code=1)
    assert "projects vectors of siglip" in found["error"]["message"]


def test_numbers_that_are_none_are_a_wrong_option() -> None:
    result = invoke("fewshot", "photos", "--labels", "kind", "--shots", "1,x")
    assert result.exit_code == 2
    assert "whole numbers from 1" in result.stderr


def test_the_control_and_the_curve_are_written_as_pages(folder: Path) -> None:
    files = ("--text-vectors", "T.npy")
    options = ("--labels", "kind", *files, "--projection", "pca.safetensors", "-o", "m.html")
    control = run("misalignment", "photos", *options)
    curve = run("recovery", "photos", *files, "--sizes", "4,16,40", "--report", "r.html")
    for name, found, n_plots in (("m.html", control, 6), ("r.html", curve, 1)):
        page = (folder / name).read_text(encoding="utf-8")
        assert page.count("<svg ") == n_plots
        assert found["run_id"] in page
        assert "mathdefault" not in page  # powers of ten are written out, not in TeX


@pytest.mark.browser
@pytest.mark.skipif(chromium.find() is None, reason="chromium is not installed")
def test_the_pages_open_without_a_request_or_an_error(folder: Path, tmp_path: Path) -> None:
    options = ("--text-vectors", "T.npy", "-o", "open.html")
    run("misalignment", "photos", "--labels", "kind,year", *options)
    misalignment = chromium.visit(folder / "open.html", tmp_path)
    run("recovery", "photos", "--sizes", "4,40", *options)
    recovery = chromium.visit(folder / "open.html", tmp_path)
    for seen in (misalignment, recovery):
        assert (seen.requested, seen.console) == ([], [])


def test_without_map_only_pairs_are_looked_at() -> None:
    row = run("misalignment", "photos", "--labels", "kind", "--no-map")["rows"][0]
    assert (row["map"], row["n_queries"]) == (None, None)
    assert row["auc"] > 0.5


def test_labels_on_a_page_are_text(folder: Path) -> None:
    with open_store(str(folder / DEFAULT_STORE)) as store:
        fill(store, "odd", encoder="<script>alert(1)</script>")
    run("misalignment", "odd", "--labels", "kind", "-o", "odd.html")
    page = (folder / "odd.html").read_text(encoding="utf-8")
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


@pytest.mark.parametrize("option", ["--vectors", "--labels"])
def test_no_name_at_all_is_a_wrong_option(option: str) -> None:
    result = invoke("retrieval", "photos", "--labels", "kind", option, " , ")
    assert result.exit_code == 2
    assert "at least one name" in result.stderr


def test_the_configuration_gives_labels_and_shots(folder: Path) -> None:
    path = folder / "intramodal.toml"
    path.write_text('[evaluate]\nlabels = ["kind", "year"]\nshots = [1, 2]\nepisodes = 2\n')
    try:
        found = run("fewshot", "photos", "--classifiers", "prototype")
    finally:
        path.unlink()
    assert list(found["fields"]) == ["kind", "year"]
    assert list(found["fields"]["kind"]["vectors"]["raw"]["prototype"]) == ["1", "2"]


class ReadOnly(WireServer):
    """A server whose key may read: whatever would write is refused, and kept in `refused`."""

    refused: list[tuple[str, str]] | None = None
    _reads = ("/points/scroll", "/points/count", "/points/query", "/points/query/batch", "/points")

    def answer(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, Any, dict[str, str]]:
        path = target.partition("?")[0]
        is_read = method == "GET" or (method == "POST" and path.endswith(self._reads))
        if self.refused is not None and not is_read:
            self.refused.append((method, path))
            return 403, {"status": {"error": "Forbidden: Write access required"}, "time": 0.0}, {}
        return super().answer(method, target, headers, body)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_key_that_may_only_read_is_enough(name: str) -> None:
    with ReadOnly() as server:
        with open_store(server.url) as store:
            fill(store)
        server.refused = []
        found = run(name, *COMMANDS[name], "--store", server.url)
        assert server.refused == []
    here = run(name, *COMMANDS[name])
    assert set(found) == set(here)
