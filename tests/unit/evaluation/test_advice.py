"""`advise` chooses a map by labelled rows for fitting alone, and by none that it was fitted on."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from intramodal.errors import InputError, ManifestMismatchError
from intramodal.evaluation.advice import Advice, Candidate, FieldAdvice, advise
from intramodal.evaluation.candidates import folds_of, judged
from intramodal.evaluation.intervals import Effect
from intramodal.evaluation.label_evidence import expected_ap
from intramodal.fit_rows import FitRows, LabelFit
from intramodal.ingest.backfill.in_place import backfill
from intramodal.projection.fit import LabelledRows, fit_label_map
from intramodal.projection.projection import Projection
from intramodal.runs.ledger import RunLedger
from intramodal.store.collection import ImageCollection
from intramodal.store.manifest import VectorOrigin
from intramodal.store.open import open_store
from intramodal.types import VectorTable
from tests.plain_encoder import PlainEncoder

N, D, K = 320, 40, 4
HALF = FitRows(share=0.5)


def images(seed: int = 0) -> VectorTable:
    """Return images whose kind is in few directions of small spread, and a field of noise."""
    rng = np.random.default_rng(seed)
    kinds = rng.integers(K, size=N)
    X = rng.normal(size=(N, D)) * np.linspace(3, 1, D)
    X[:, -K:] += 2.5 * np.eye(K)[kinds]
    noise = rng.permutation(kinds)
    payload: dict[str, list[Any]] = {
        "kind": [f"k{kind}" for kind in kinds],
        "noise": [f"n{kind}" for kind in noise],
    }
    return VectorTable(list(range(N)), {"raw": X.astype(np.float32)}, payload)


@pytest.fixture(scope="module")
def table() -> VectorTable:
    return images()


@pytest.fixture(scope="module")
def advice(table: VectorTable) -> Advice:
    return advise(table, fields=["kind", "noise"], budget=150)


def test_a_map_that_gains_is_chosen_with_what_it_gains(advice: Advice) -> None:
    found = advice["kind"]
    assert found.choice.name in ("label", "posterior")
    assert found.choice.gain is not None
    assert found.choice.gain.interval[0] > 0.1
    assert found.choice.first_gain is not None
    assert found.sentence.startswith(f"Use {found.choice.name} for kind: mAP +")
    assert found.n_rows == 150


def test_the_gain_is_the_one_that_as_many_images_without_part_in_it_show(
    table: VectorTable, advice: Advice
) -> None:
    every = LabelledRows(table.vectors["raw"], table.payload["kind"], "kind", HALF, ("", ""))
    is_fit = np.array([HALF.holds(point) for point in table.ids])
    gains = []
    for fresh in np.array_split(np.flatnonzero(~is_fit), 5):
        places = np.concatenate([np.flatnonzero(is_fit), fresh])
        rows, held = every.take(places), np.arange(len(places)) >= is_fit.sum()
        raw, _ = judged(rows, held, lambda some, X: _unit(X))
        label, _ = judged(rows, held, lambda some, X: _unit(fit_label_map(some).apply(X)))
        gains.append(label - raw)
    found = next(one for one in advice["kind"].candidates if one.name == "label")
    assert found.gain is not None
    low, high = found.gain.interval
    assert low < np.mean(gains) < high


def _unit(Z: np.ndarray) -> np.ndarray:
    return np.asarray(Z / np.linalg.norm(Z, axis=1, keepdims=True))


def test_labels_that_say_nothing_gain_nothing(table: VectorTable, advice: Advice) -> None:
    rows = [row for row, point in enumerate(table.ids) if HALF.holds(point)]
    counts = np.unique([table.payload["noise"][r] for r in rows], return_counts=True)[1]
    n_held = 30
    relevant = np.maximum(1, np.round((n_held - 1) * counts / counts.sum()))
    chance = np.average(expected_ap(relevant.astype(int), np.full(K, n_held - 1)), weights=counts)
    for one in advice["noise"].candidates:
        assert one.map == pytest.approx(chance, abs=0.04)
        if one.gain is not None and one.first_gain is not None:
            assert one.gain.interval[0] < 0 < one.gain.interval[1]
            assert one.first_gain.interval[0] < 0 < one.first_gain.interval[1]


def test_control_and_accuracy_stand_beside_candidates_that_see_labels(advice: Advice) -> None:
    for one in advice:
        assert set(one.label_evidence) == {"label", "posterior"}
        for beside in one.label_evidence.values():
            assert beside.control is not None
            # Mean of 5 folds of 30 images: their standard error is .02.
            assert beside.control == pytest.approx(beside.chance, abs=0.06)
    seen, blind = (advice[field].label_evidence["label"].accuracy for field in ("kind", "noise"))
    assert seen is not None
    assert blind is not None
    assert seen > 0.6
    assert blind == pytest.approx(1 / K, abs=0.13)  # three standard errors of 150 images
    assert repr(advice["kind"]).count("fitted to shuffled") == 1
    assert advice._repr_html_().count("fitted to shuffled") == 4


def test_no_label_of_a_row_that_is_not_for_fitting_has_a_say(
    table: VectorTable, advice: Advice
) -> None:
    rng = np.random.default_rng(1)
    other = list(table.payload["kind"])
    for row, point in enumerate(table.ids):
        if not HALF.holds(point):
            other[row] = f"k{rng.integers(K)}"
    again = advise(replace(table, payload={"kind": other}), fields=["kind"], budget=150)
    assert again["kind"].to_dict() == advice["kind"].to_dict()


def test_near_copies_judge_together() -> None:
    table = images()
    X = np.repeat(table.vectors["raw"][:100], 2, axis=0)
    X[1::2] *= 1.5  # lengths do not matter
    rows = LabelledRows(X, [*np.repeat(table.payload["kind"][:100], 2)], "kind", HALF, ("", ""))
    for held in folds_of(rows, np.random.default_rng(0)):
        assert (held[::2] == held[1::2]).all()


def test_codes_are_not_offered_where_many_rows_are_of_rare_classes() -> None:
    table = images()
    fine = [f"{kind} {i % 9}" for i, kind in enumerate(table.payload["kind"])]
    found = advise(replace(table, payload={"fine": fine}), fields=["fine"])["fine"]
    assert "classes with fewer than 10" in found.not_offered["posterior"]
    assert "posterior" not in [one.name for one in found.candidates]
    assert found.few


def test_texts_offer_centred_pca_and_are_the_axes_of_the_others(table: VectorTable) -> None:
    T = np.random.default_rng(3).normal(size=(90, D)).astype(np.float32)
    without, given = (advise(table, fields=["kind"], text=text)["kind"] for text in (None, T))
    assert "pca_centered" in without.not_offered
    assert [one.name for one in given.candidates][:3] == ["raw", "centered", "pca_centered"]
    dims = {one.name: one.dims for one in given.candidates}
    assert (dims["pca_centered"], dims["label"]) == (D // 2, D // 2 + K - 1)


class Namer(PlainEncoder):
    """Knows where each kind lies, by its name."""

    name = "clip"
    dim = D
    has_text = True

    def __init__(self) -> None:
        super().__init__()
        self.fingerprint = "ab"

    def encode_texts(self, texts: Any) -> Any:
        places = [D - K + int(text[-1]) for text in texts]
        return np.eye(D, dtype=np.float32)[places]


def test_axes_between_the_names_of_the_values_are_offered_with_their_model(
    photos: ImageCollection,
) -> None:
    text = Projection(np.eye(D, 8, dtype=np.float32), "pca", "clip", "ab")
    found = advise(photos, fields=["kind"], text=text, encoder=Namer())["kind"]
    by_name = {one.name: one for one in found.candidates}
    assert by_name["words"].dims == 8 + K - 1
    assert by_name["words"].gain is not None
    assert by_name["words"].gain.interval[0] > 0
    without = advise(photos, fields=["kind"], text=text)["kind"]
    assert "embeds the values' names" in without.not_offered["words"]


def test_what_cannot_be_chosen_is_not_chosen() -> None:
    candidates = [Candidate("raw", 8, 0.5, 0.5), Candidate("words", 8, 0.9, 0.9)]
    how: Any = {"n_rows": 40, "counts": {"a": 40}, "n_judging": 8}
    found = FieldAdvice("kind", candidates, {"words": "needs the model"}, **how)
    assert found.choice.name == "raw"
    assert found.sentence.startswith("Keep raw for kind: no other map gains among 8 labelled")


def test_a_loss_on_the_first_page_is_said_beside_the_gain() -> None:
    def effect(delta: float) -> Effect:
        return Effect(delta, (delta - 0.02, delta + 0.02), 0.0, 20)

    label = Candidate("label", 8, 0.6, 0.4, effect(0.1), effect(-0.05))
    how: Any = {"n_rows": 40, "counts": {"a": 40}, "n_judging": 8}
    found = FieldAdvice("kind", [Candidate("raw", 8, 0.5, 0.45), label], {}, **how)
    assert found.sentence == (
        "Use label for kind: mAP +10.0 points (+8.0 to +12.0) among 8 labelled images that it was "
        "not fitted on; the first page loses: precision@1 -5.0 points (-7.0 to -3.0)."
    )


def test_the_same_seed_gives_the_same_advice(table: VectorTable, advice: Advice) -> None:
    again, other = (
        advise(table, fields=["noise"], budget=150, seed=seed)["noise"] for seed in (0, 1)
    )
    assert again.to_dict() == advice["noise"].to_dict()
    assert other.to_dict() != advice["noise"].to_dict()


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"budget": 10}, "labelled rows from 25 to 5,000, got 10"),
        ({"rows": FitRows(ids=tuple(range(12)))}, "12 rows for fitting .* and 25 are needed"),
        ({"rows": FitRows(ids=(999,))}, "no point of the table is for fitting"),
        ({"fields": ["many"]}, "several labels per image"),
        ({"text": np.ones((3, 7), np.float32)}, "the texts have shape"),
    ],
)
def test_what_is_no_basis_for_advice_is_refused(
    table: VectorTable, how: dict[str, Any], message: str
) -> None:
    many = [["a", "b"] if i % 2 else ["a"] for i in range(N)]
    table = replace(table, payload={**table.payload, "many": many})
    with pytest.raises(InputError, match=message):
        advise(table, **{"fields": ["kind"], **how})


@pytest.fixture
def photos(table: VectorTable) -> Any:
    with open_store(":memory:") as store:
        made = ImageCollection.create(store, "photos", {"raw": (D, VectorOrigin("clip", "ab"))})
        payloads = [{"kind": kind} for kind in table.payload["kind"]]
        made.write(list(table.ids), {"raw": table.vectors["raw"]}, payloads)
        yield made


def test_a_collection_gives_the_advice_of_its_table(photos: ImageCollection) -> None:
    found = advise(photos, fields=["kind"], budget=150)
    assert found.points.collection == "photos"
    table = photos.table(["raw"], payload=["kind"])
    wanted = {
        one.name: one.map for one in advise(table, fields=["kind"], budget=150)["kind"].candidates
    }
    assert {one.name: one.map for one in found["kind"].candidates} == pytest.approx(wanted)


def test_a_projection_that_has_seen_labels_gives_no_text_axes(photos: ImageCollection) -> None:
    Q = np.eye(D, 8, dtype=np.float32)
    seen = {"labels": LabelFit("kind", HALF, {"k0": 20, "k1": 20}).to_dict()}
    leaking = Projection(Q, "label", "clip", "ab", recipe=seen)
    with pytest.raises(InputError, match="has seen labels itself"):
        advise(photos, fields=["kind"], text=leaking)
    with pytest.raises(ManifestMismatchError, match="fitted for blip"):
        advise(photos, fields=["kind"], text=Projection(Q, "pca", "blip", "cd"))


def test_maps_are_advised_for_the_encoders_own_vector(photos: ImageCollection) -> None:
    backfill(photos, Projection(np.eye(D, 8, dtype=np.float32), "pca", "clip", "ab"))
    with pytest.raises(InputError, match="projected already"):
        advise(photos, fields=["kind"], vector="pca")
    assert advise(photos, fields=["kind"]).vector == "raw"


def test_advice_shows_and_records_itself(
    table: VectorTable, advice: Advice, tmp_path: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    frame = advice.to_frame()
    assert set(frame["map_of"]) >= {"raw", "centered", "label"}
    assert frame.groupby("field")["is_choice"].sum().tolist() == [1, 1]
    assert repr(advice).splitlines()[0].startswith("FieldAdvice('kind': ")
    with RunLedger.open(f"sqlite:///{tmp_path}/runs.db") as ledger:
        with ledger.run("advise") as run:
            advise(table, fields=["kind"], run=run)
        metrics = ledger.metrics(run.id)
    assert {"mAP", "precision@1", "gain in mAP"} <= {row.name for row in metrics}
