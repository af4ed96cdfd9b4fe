"""The rule: pieces, vetoes, Holm over pieces and fields, and what the sentence says."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats

from intramodal.evaluation.intervals import Difference, Effect, Paired, normal_quantile
from intramodal.evaluation.verdict import (
    PIECES,
    SHORT,
    Judgement,
    Piece,
    Wording,
    brief,
    guard_of,
    headline,
    judge,
)

ERRORS = {"map": 0.0025, "first": 0.0055, "fewshot": 0.005}
"""Standard errors at 1,000 queries, as measured on real fields."""


def effect_of(delta: float, error: float) -> Effect:
    half = -normal_quantile(0.025) * error

    def p_at(difference: float) -> float:
        return float(2 * stats.norm.sf(abs(delta - difference) / error))

    return Effect(delta, (delta - half, delta + half), p_at(0.0), 1000, error, p_at)


def piece(
    name: str,
    delta: float,
    error: float | None = None,
    *,
    a: float = 0.6,
    by_query: float | None = None,
) -> Piece:
    error = ERRORS[name] if error is None else error
    beside = None
    if by_query is not None:
        beside = Difference(a, a + by_query, effect_of(by_query, error))
    found = Difference(a, a + delta, effect_of(delta, error))
    return Piece(name, Paired(found, beside), guard_of(name, 0.02))


def field(deltas: Sequence[float]) -> list[Piece]:
    return [piece(name, delta) for name, delta in zip(PIECES, deltas, strict=True)]


def judged(pieces: list[Piece], missing: Sequence[str] = ()) -> Judgement:
    return judge({"x": pieces}, missing={"x": missing})["x"]


@pytest.mark.parametrize(
    ("deltas", "outcome"),
    [
        ((0.02, 0, 0), "better"),
        ((0, 0, 0.03), "better"),
        ((0, 0, 0), "not_worse"),
        ((-0.003, 0, 0), "not_worse"),
        ((-0.02, 0, 0), "worse"),
        ((0, 0, -0.03), "worse"),
        ((0.03, -0.04, 0), "mixed"),
        ((0.03, 0, -0.04), "mixed"),
        ((0.03, -0.0105, 0), "inconclusive"),  # a certain gain, and the guard of another is open
        ((-0.009, 0, 0), "worse"),
        ((-0.0055, 0, 0), "inconclusive"),  # certain by itself, not among three
    ],
)
def test_the_first_outcome_that_holds(deltas: tuple[float, ...], outcome: str) -> None:
    assert judged(field(deltas)).outcome == outcome


def test_the_edge_of_the_margin_is_the_edge_of_the_veto() -> None:
    """An interval that ends below the margin is harmless even where the loss is certain."""
    for low, is_loss in ((-0.0051, True), (-0.0049, False)):
        effect = Effect(-0.003, (low, -0.001), 0.01, 100, 0.001, lambda d: 0.01)
        found = Piece("map", Paired(Difference(0.6, 0.597, effect)), 0.01)
        assert found.is_certain_loss(0.005) == is_loss


def test_a_certain_loss_vetoes_every_adoption_however_many_fields_are_named() -> None:
    lost = [piece("map", 0.03), piece("fewshot", -0.015, 0.006)]
    assert lost[1].p_loss < 0.05
    for n_others in (0, 7):
        others = {f"other {i}": field((0, 0, 0)) for i in range(n_others)}
        outcome = judge({"x": lost, **others})["x"].outcome
        assert outcome in ("mixed", "inconclusive")


def test_naming_fields_can_only_weaken_a_claim(rng: np.random.Generator) -> None:
    ranks = {"better": 2, "not_worse": 2, "mixed": 2, "worse": 2, "too_easy": 0, "inconclusive": 1}
    for _ in range(200):
        fields = {f"{i}": field(rng.normal(0, 0.01, 3)) for i in range(6)}
        together = judge(fields)
        for name, pieces in fields.items():
            alone = judge({name: pieces})[name]
            found = together[name]
            for claim in ("p_better", "p_not_worse", "p_worse"):
                assert getattr(found, claim) >= getattr(alone, claim)
            if found.outcome != alone.outcome:
                assert ranks[found.outcome] <= ranks[alone.outcome]
                assert found.alone is not None
                assert found.alone.outcome == alone.outcome


def test_where_only_the_number_of_fields_stands_in_the_way_that_is_known() -> None:
    fields = {"x": field((0.0065, 0.0, 0.0)), **{f"{i}": field((0, 0, 0)) for i in range(9)}}
    assert judge({"x": fields["x"]})["x"].outcome == "better"
    found = judge(fields)["x"]
    assert (found.outcome, found.alone and found.alone.outcome) == ("not_worse", "better")


def test_a_piece_at_the_ceiling_is_left_out_and_none_left_is_too_easy() -> None:
    ceiling = piece("first", 0.0, 0.001, a=0.999)
    found = judged([piece("map", 0.02), ceiling])
    assert (found.outcome, list(found.p_gain)) == ("better", ["map"])
    assert judged([ceiling]).outcome == "too_easy"
    assert judged([piece("first", -0.01, 0.001, a=0.9999)]).outcome != "too_easy"


def test_what_cannot_be_had_stands_in_the_way_of_not_worse_only() -> None:
    equal, better = [piece("map", 0.0)], [piece("map", 0.02)]
    assert judged(equal).outcome == "not_worse"
    assert judged(equal, ["fewshot"]).outcome == "inconclusive"
    assert judged(better, ["fewshot"]).outcome == "better"
    assert judged([], ["fewshot"]).outcome == "inconclusive"


def test_means_that_contradict_each_other_for_certain_are_mixed() -> None:
    contrary = piece("map", 0.008, by_query=-0.02)
    # Alone it would be better: adopting rests on no other piece.
    pieces = [contrary, piece("first", 0.0, 0.03)]
    found = judged(pieces)
    assert found.outcome == "mixed"
    assert "Over classes mAP rises" in headline(found, wording())
    assert "over queries it falls" in headline(found, wording())


def test_a_field_that_is_better_alone_is_never_mixed_beside_others() -> None:
    """Both means are certain and differ in sign; the mean over classes is what is judged."""
    better = [piece("map", 0.0065, by_query=-0.02), piece("first", 0.0), piece("fewshot", 0.0)]
    assert judged(better).outcome == "better"
    others = {f"{i}": field((0, 0, 0)) for i in range(9)}
    found = judge({"x": better, **others})["x"]
    assert found.outcome in ("not_worse", "inconclusive")
    assert found.alone is not None
    assert found.alone.outcome == "better"


def wording(share: float = 0.5) -> Wording:
    return Wording("pca", share, lambda piece: ", about 680 queries would tell")


def test_the_sentence_says_first_what_to_do_then_what_decides() -> None:
    said = {
        outcome: headline(judged(field(deltas)), wording())
        for outcome, deltas in {
            "better": (0.02, 0, 0),
            "not_worse": (0, 0, 0),
            "worse": (0, 0, -0.03),
            "mixed": (0.03, -0.04, 0),
        }.items()
    }
    assert said["better"].startswith("Adopt pca: better. mAP rises from 0.6000 to 0.6200")
    assert said["not_worse"].startswith("Adopt pca: not worse, at 50% of the bytes. ")
    assert said["worse"].startswith("Do not adopt pca: worse. Few-shot accuracy falls")
    assert "nDCG@10 falls" in said["mixed"]
    assert "but mAP rises" in said["mixed"]
    assert all("adjusted p" in words for words in said.values())


def test_a_certain_gain_that_is_not_settled_names_what_is_open() -> None:
    said = headline(judged(field((0.03, -0.0105, 0))), wording())
    assert said.startswith("Better by mAP, which rises from 0.6000 to 0.6300")
    assert "open: nDCG@10 may lose up to 0.0213, about 680 queries would tell" in said
    assert "not enough" not in said.lower()


def test_a_likely_loss_is_called_one() -> None:
    said = headline(judged(field((-0.0055, 0, 0))), wording())
    assert said.startswith("A loss is likely: mAP falls")


def test_every_outcome_has_words() -> None:
    assert set(SHORT) == {"better", "not_worse", "mixed", "worse", "too_easy", "inconclusive"}


def test_what_would_tell_gives_that_power() -> None:
    """With so many queries the loss of half the guard is told from the guard in 80%."""
    open_piece = piece("first", -0.01)
    needed = open_piece.units_needed()
    assert needed is not None
    error = 0.0055 * np.sqrt(1000 / needed)
    assert stats.norm.sf(stats.norm.isf(0.025) - 0.01 / error) == pytest.approx(0.8, abs=0.03)


def test_a_piece_is_settled_by_its_gain_its_loss_or_its_guard() -> None:
    found = judged([piece("map", 0.02), piece("first", 0.0), piece("fewshot", -0.012)])
    assert [found.is_settled(p) for p in found.pieces] == [True, True, True]  # a certain loss
    found = judged([piece("map", 0.02), piece("first", 0.0, 0.03), piece("fewshot", -0.005)])
    assert [found.is_settled(p) for p in found.pieces] == [True, False, True]
    assert [p.name for p in found.open] == ["first"]


def test_false_verdicts_are_as_rare_as_they_should_be(rng: np.random.Generator) -> None:
    """One row of docs/method.md's table: no difference at 1,000 queries, correlated pieces."""
    correlations = np.array([[1, 0.28, 0.5], [0.28, 1, 0.2], [0.5, 0.2, 1]])
    errors = np.array(list(ERRORS.values()))
    n_trials = 2000
    draws = rng.multivariate_normal(np.zeros(3), correlations, n_trials) * errors
    outcomes = [judged(field(row)).outcome for row in draws]
    n_better = outcomes.count("better")
    n_worse = sum(outcome in ("worse", "mixed") for outcome in outcomes)
    most = stats.binom.isf(0.001, n_trials, 0.035)
    assert n_better <= most
    assert n_worse <= most
    assert outcomes.count("not_worse") >= 0.85 * n_trials


@pytest.mark.parametrize(
    ("deltas", "said"),
    [
        ((0.02, 0, 0), "Use pca: mAP +2.0 points (+1.5 to +2.5)."),
        ((-0.02, 0, 0), "Keep raw: mAP -2.0 points (-2.5 to -1.5)."),
        ((0, 0, 0), "Use pca: not worse; nDCG@10 +0.0 points ("),
        ((0.03, 0, -0.04), "Keep raw: few-shot accuracy -4.0 points"),
        ((0.03, -0.0105, 0), "Not settled: nDCG@10 may lose 2.1 points."),
        ((-0.0055, 0, 0), "Not settled: "),
    ],
)
def test_the_short_form_says_what_to_do_and_the_figure_that_decides(
    deltas: tuple[float, ...], said: str
) -> None:
    short = brief(judged(field(deltas)), "raw", "pca")
    assert short.startswith(said)
    assert len(short.split()) <= 25


def test_the_short_form_of_a_contradiction_names_both_means() -> None:
    contrary = piece("map", 0.008, by_query=-0.02)
    found = judged([contrary, piece("first", 0.0, 0.03)])
    said = "Keep raw: mAP +0.8 points (+0.3 to +1.3) over classes, and the opposite over queries."
    assert brief(found, "raw", "pca") == said
