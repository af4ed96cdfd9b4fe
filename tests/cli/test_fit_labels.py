"""``intramodal fit --labels``: maps that see labels, from the command line to the comparison."""

from __future__ import annotations

import csv
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from intramodal import ImageCollection, open_store
from intramodal.commands.options import DEFAULT_STORE
from intramodal.fit_rows import FitRows
from intramodal.ingest.vectors.matrices import read_matrix
from intramodal.projection.posterior import load_map
from intramodal.projection.projection import Projection
from tests.cli.kit import invoke, make_declared, run

N, D, K = 240, 32, 4
MODEL = "hf:our/clip"


@pytest.fixture(autouse=True)
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    monkeypatch.chdir(tmp_path)
    kinds = rng.integers(K, size=N)
    X = (rng.normal(size=(N, D)) + rng.normal(size=(K, D))[kinds]).astype(np.float32)
    payloads = [
        {"kind": f"k{kind}", "shade of it": f"s{i % 3}", "split": "train" if i % 3 else "test"}
        for i, kind in enumerate(kinds)
    ]
    make_declared(X, payloads, MODEL, "pca.safetensors")


FIT = ("fit", "photos", "--labels", "kind")


def refused(*arguments: str) -> str:
    """Return the sentence by which a command refuses, without a traceback."""
    result = invoke(*arguments)
    assert result.exit_code in (1, 2)
    assert "Traceback" not in result.output
    return " ".join(result.stderr.split())


@pytest.mark.parametrize("method", ["label", "posterior"])
def test_a_map_is_fitted_stored_and_compared_by_rows_it_has_not_seen(method: str) -> None:
    found = run(*FIT, "--method", method, "-o", "m.safetensors")["maps"][0]
    assert found["labels"]["rows"] == {"share": 0.5}
    assert sum(found["labels"]["counts"].values()) == sum(map(FitRows(share=0.5).holds, range(N)))
    assert found["vector"] == f"{method}_kind"
    assert run("backfill", "photos", "--projection", "m.safetensors")["projected"] == N
    assert run("backfill", "photos", "--projection", "m.safetensors", "--verify", "50")[
        "stale"
    ] == 0  # fmt: skip
    vectors = ("--vectors", f"raw,{method}_kind")
    compared = run("compare", "photos", *vectors, "--labels", "kind")
    assert compared["held_out"]["n_fit_rows"] > N / 3
    beside = compared["fields"]["kind"]["label_evidence"][f"{method}_kind"]
    assert beside["control"] == pytest.approx(beside["chance"], abs=0.05)
    said = invoke("evaluate", "retrieval", "photos", *vectors, "--labels", "kind")
    assert "fitted to shuffled ones it has mAP" in said.stdout
    assert "rows for fitting" in said.stderr
    image = run("search", "photos", "--id", "1", "--vectors", f"{method}_kind")
    assert len(image["vectors"][f"{method}_kind"]) == 10
    run("backfill", "photos", "--rollback", "--to", f"{method}_kind")


def test_the_commands_fit_as_the_function_does() -> None:
    from intramodal.evaluation.labelled_rows import labelled_rows
    from intramodal.projection.fit import fit_label_map

    how = ("--label-weight", "0.3", "--components", "2", "--text-vectors", "T.npy")
    run(*FIT, *how, "--fit-share", "0.25", "-o", "m.safetensors")
    with open_store(DEFAULT_STORE) as store:
        photos = ImageCollection.open(store, "photos")
        rows = labelled_rows(photos, "kind", rows=FitRows(share=0.25))
    text = read_matrix(Path("T.npy"))
    made = fit_label_map(rows, text=text, label_weight=0.3, components=2)
    assert load_map("m.safetensors").fingerprint == made.fingerprint


def test_rows_for_fitting_are_chosen_by_a_payload_field() -> None:
    found = run(*FIT, "--fit-rows", "split=train", "-o", "m.safetensors")["maps"][0]
    assert found["labels"]["rows"] == {"where": ["split", ["train"]]}
    assert sum(found["labels"]["counts"].values()) == N * 2 // 3


def test_labels_are_read_from_a_file() -> None:
    with Path("labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["id", "hue"], *([i, f"h{i % 2}"] for i in range(100))])
    how = ("fit", "photos", "--labels", "hue", "--labels-from", "labels.csv")
    found = run(*how, "-o", "m.safetensors")["maps"][0]
    assert sum(found["labels"]["counts"].values()) == sum(
        map(FitRows(share=0.5).holds, range(100))
    )


def test_several_fields_give_a_file_and_a_vector_each() -> None:
    fields = ("--labels", "kind,shade of it")
    assert "{field}" in refused("fit", "photos", *fields, "-o", "m.safetensors")
    found = run("fit", "photos", *fields, "-o", "{field}.safetensors")["maps"]
    assert [one["projection"] for one in found] == ["kind.safetensors", "shade_of_it.safetensors"]
    assert [one["vector"] for one in found] == ["label_kind", "label_shade_of_it"]
    for one in found:
        run("backfill", "photos", "--projection", one["projection"])


def test_text_axes_are_those_of_a_projection() -> None:
    run(*FIT, "--projection", "pca.safetensors", "-o", "m.safetensors")
    made = load_map("m.safetensors")
    assert isinstance(made, Projection)
    assert made.recipe["text"]["from"] == "projection"
    first = made.matrix[:, :8] / np.linalg.norm(made.matrix[:, :8], axis=0)
    np.testing.assert_allclose(first, np.eye(D, 8), atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("fit", "--labels", "kind"), "needs a collection and --labels"),
        (("fit", "photos", "--method", "posterior"), "needs a collection and --labels"),
        ((*FIT, "--method", "pca"), "--labels belongs to --method label or posterior or"),
        ((*FIT, "--model", "demo"), "--model belongs to --method pca or isoclip or words, not"),
        ((*FIT, "--fit-share", "0.2", "--fit-rows", "split=train"), "give either --fit-share or"),
        ((*FIT, "--text-vectors", "T.npy", "--projection", "pca.safetensors"), "give either"),
        (("fit", "photos", "--model", "demo"), "a collection is for --labels"),
        (("fit", "--method", "centered"), "needs a collection, whose mean it subtracts"),
        (("fit", "photos", "--method", "centered", "--labels", "kind"), "--labels belongs to"),
        (("fit", "photos", "--labels", "nothing"), "no point has a value in field 'nothing'"),
        ((*FIT, "--force"), "--force belongs to --method posterior, not to label"),
        ((*FIT, "--fit-rows", "split=valid"), "no point of 'photos' is for fitting: split=valid"),
        (("fit", "photos:none", "--labels", "kind"), "has no vector|which model made"),
    ],
)
def test_what_contradicts_itself_is_refused(arguments: tuple[str, ...], message: str) -> None:
    said = refused(*arguments, "-o", "m.safetensors")
    assert any(part in said for part in message.split("|"))
    assert not Path("m.safetensors").exists()


def test_a_posterior_of_few_labels_needs_force() -> None:
    how = (*FIT, "--method", "posterior", "--fit-share", "0.1", "-o", "m.safetensors")
    said = refused(*how)
    assert "fewer than 10" in said
    assert said.endswith("label more, fit a label map, or give --force")
    assert run(*how, "--force")["maps"][0]["warnings"]


def test_a_posterior_is_no_projection_where_one_is_needed() -> None:
    run(*FIT, "--method", "posterior", "-o", "m.safetensors")
    said = refused(*FIT, "--projection", "m.safetensors", "-o", "n.safetensors")
    assert "holds posterior codes, which are no projection" in said


def test_a_map_of_another_field_is_refused_under_the_same_name() -> None:
    fields = ("--labels", "kind,shade of it", "-o", "{field}.safetensors")
    run("fit", "photos", *fields)
    run("backfill", "photos", "--projection", "kind.safetensors", "--to", "labels")
    other = ("backfill", "photos", "--projection", "shade_of_it.safetensors", "--to", "labels")
    assert "made by" in refused(*other)


def test_an_evaluation_by_rows_for_fitting_alone_is_refused() -> None:
    run(*FIT, "--fit-rows", "split=train", "-o", "m.safetensors")
    run("backfill", "photos", "--projection", "m.safetensors")
    for job in ("retrieval", "fewshot", "index"):
        searched = ("--searches", "label_kind") if job == "index" else ("--vectors", "label_kind")
        said = refused(
            "evaluate", job, "photos", "--labels", "kind", *searched, "--split", "split"
        )
        assert "all 160 points with split=train are rows that 'label_kind' was fitted on" in said


CENTERED = ("fit", "photos", "--method", "centered")


def test_a_map_that_subtracts_the_mean_alone_is_fitted_stored_and_compared() -> None:
    found = run(*CENTERED, "-o", "c.safetensors")
    assert (found["vector"], found["dim_out"], found["center"]["n"]) == ("centered", D, N)
    shown = invoke(*CENTERED, "-o", "c.safetensors")
    assert f"the mean of {N} points" in " ".join(shown.stdout.split())
    assert "next: " in shown.stderr
    run("backfill", "photos", "--projection", "c.safetensors")
    assert run("backfill", "photos", "--projection", "c.safetensors", "--verify", "50")[
        "stale"
    ] == 0  # fmt: skip
    assert run("compare", "photos", "--vectors", "raw,centered", "--labels", "kind")["fields"]
    search = ("search", "photos", "--text", "a dog", "--vectors", "centered")
    assert "'centered' is projected" in refused(*search, "--model", "demo")
    assert len(run("search", "photos", "--id", "1", "--query-side", "c.safetensors")["vectors"])
    run("backfill", "photos", "--rollback", "--to", "centered")


def test_a_projection_is_centred_without_its_model() -> None:
    found = run(*CENTERED, "--projection", "pca.safetensors", "-o", "c.safetensors")
    assert (found["vector"], found["dim_out"]) == ("pca_centered", 8)
    found = run(*CENTERED, "--text-vectors", "T.npy", "-o", "c.safetensors")
    assert (found["vector"], found["dim_out"]) == ("pca_centered", D // 2)
    both = ("--text-vectors", "T.npy", "--projection", "pca.safetensors")
    assert "give either" in refused(*CENTERED, *both, "-o", "c.safetensors")


WORDS = ("fit", "photos", "--words", "kind", "--projection", "pca.safetensors")


def test_words_of_a_field_are_fitted_without_a_label() -> None:
    np.save("kinds.npy", np.random.default_rng(1).normal(size=(K, D)))
    texts = ("--text-vectors", "kinds.npy", "-o", "w.safetensors")
    found = run(*WORDS, *texts)["maps"][0]
    assert found["words"] == {"field": "kind", "values": ["k0", "k1", "k2", "k3"], "weight": 0.5}
    assert (found["labels"], found["vector"]) == (None, "words_kind")
    assert "4 names, weight 0.5" in " ".join(invoke(*WORDS, *texts).stdout.split())
    Path("hues.txt").write_text("red\nblue\ngreen\nblack\n")
    of_file = ("fit", "photos", "--words", "hues.txt", "--projection", "pca.safetensors")
    assert run(*of_file, *texts, "--word-weight", "1")["maps"][0]["vector"] == "words_hues"
    run("backfill", "photos", "--projection", "w.safetensors")


def test_labels_choose_the_weight_of_words_and_never_judge_it() -> None:
    np.save("kinds.npy", np.random.default_rng(1).normal(size=(K, D)))
    how = ("--labels", "kind", "--text-vectors", "kinds.npy", "-o", "w.safetensors")
    found = run(*WORDS, *how)["maps"][0]
    assert found["words"]["weight"] in (0.25, 0.5, 1.0, 2.0)
    run("backfill", "photos", "--projection", "w.safetensors")
    judged = run("evaluate", "retrieval", "photos", "--labels", "kind", "--vectors", "words_kind")
    assert judged["held_out"]["n_fit_rows"] > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("fit", "photos", "--words", "kind"), "needs a collection, --words and --projection"),
        (WORDS, "give either --model or --text-vectors"),
        ((*WORDS, "--text-vectors", "T.npy"), "4 values need as many texts"),
        ((*WORDS, "--text-vectors", "T.npy", "--labels", "a,b"), "names the one field"),
        ((*WORDS, "--text-vectors", "T.npy", "--force"), "--force belongs to --method posterior"),
    ],
)
def test_words_that_contradict_themselves_are_refused(
    arguments: tuple[str, ...], message: str
) -> None:
    assert message in refused(*arguments, "-o", "w.safetensors")


def test_a_comparison_that_settles_nothing_proposes_a_map_of_labels() -> None:
    run("backfill", "photos", "--projection", "pca.safetensors")
    compared = ("compare", "photos", "--labels", "kind,shade of it")
    verdicts = {name: one["verdict"] for name, one in run(*compared)["fields"].items()}
    left = [name for name, verdict in verdicts.items() if verdict in ("worse", "inconclusive")]
    assert left
    said = invoke(*compared).stderr
    proposed = re.findall(r"^next: (.* fit .*)$", said, re.MULTILINE)
    assert len(proposed) == 1
    assert re.search(r"^next: .* advise photos --labels ", said, re.MULTILINE)
    done = subprocess.run(["sh", "-c", proposed[0]], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(f"label_{name.replace(' ', '_')}" in done.stdout for name in left)
    # Where a map of the field's labels is judged already it is not proposed again.
    run("fit", "photos", "--labels", "shade of it", "-o", "shade.safetensors")
    run("backfill", "photos", "--projection", "shade.safetensors", "--to", "of_labels")
    again = invoke("compare", "photos", "--vectors", "raw,of_labels", "--labels", "shade of it")
    assert not re.search(" fit photos --labels", again.stderr)
