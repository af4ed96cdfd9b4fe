"""The JUnit file, read back by a reader that is not ours."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from intramodal.errors import InputError
from intramodal.evaluation.gate import Baseline, gated
from intramodal.reports.junit import write_junit
from tests.unit.reports.sample import EMOJI, HOSTILE, RIGHT_TO_LEFT

junitparser = pytest.importorskip(
    "junitparser", reason="the JUnit file is read with junitparser, in intramodal[dev]"
)

STARTED = datetime(2026, 11, 26, 20, 9, 16, tzinfo=UTC)
CONTROLS = "nul\0 bell\x07 escape\x1b[2J csi\x9b half\ud83d none\uffff end"


def comparison(**outcomes: str) -> dict[str, Any]:
    return {
        "collection": "shop",
        "vectors": ["raw", "pca"],
        "fields": {
            name: {"verdict": outcome, "sentence": f"{name}: what to do"}
            for name, outcome in outcomes.items()
        },
        "run_id": "now",
    }


def read_back(result: dict[str, Any], folder: Path) -> Any:
    write_junit(result, folder / "compare.xml", started=STARTED, seconds=9.0)
    (suite,) = junitparser.JUnitXml.fromfile(str(folder / "compare.xml"))
    return suite


def test_a_field_is_a_test_case_that_fails_by_the_gate_and_says_why(tmp_path: Path) -> None:
    given = comparison(category="better", usage="worse", season="inconclusive")
    suite = read_back(gated(given, fail_on="not-better"), tmp_path)
    assert (suite.tests, suite.failures, suite.errors, suite.skipped) == (3, 2, 0, 0)
    assert (suite.name, suite.timestamp) == ("pca in place of raw in shop", STARTED.isoformat())
    category, usage, season = suite
    assert [case.name for case in suite] == ["category", "usage", "season"]
    assert {case.classname for case in suite} == {"shop.pca"}
    assert (category.is_passed, category.system_out) == (True, "category: what to do")
    for case, outcome in ((usage, "worse"), (season, "inconclusive")):
        (failure,) = case.result
        assert isinstance(failure, junitparser.Failure)
        assert (failure.type, failure.message) == (outcome, f"{case.name}: what to do")
        assert failure.text == f"{outcome}: {case.name}: what to do"
    # Seconds with three decimals: a third of 9 s is exact.
    assert suite.time == sum(case.time for case in suite) == 9.0


def test_without_a_gate_every_field_passes_and_its_outcome_is_a_property(tmp_path: Path) -> None:
    suite = read_back(comparison(usage="worse"), tmp_path)
    (case,) = suite
    assert case.is_passed
    assert (suite.failures, case.system_out) == (0, "usage: what to do")
    assert [(p.name, p.value) for p in case.child(junitparser.Properties)] == [
        ("outcome", "worse")
    ]
    assert {p.name: p.value for p in suite.properties()} == {"run": "now"}


def test_the_suite_names_the_run_the_rule_and_the_baseline(tmp_path: Path) -> None:
    baseline = Baseline.of(comparison(usage="better") | {"run_id": "then"})
    suite = read_back(
        gated(comparison(usage="worse"), fail_on="worse", baseline=baseline), tmp_path
    )
    assert {p.name: p.value for p in suite.properties()} == {
        "run": "now",
        "fail-on": "worse",
        "baseline": "then",
        "changes": "Since run then: usage changed from better to worse.",
    }


@pytest.mark.parametrize("text", [HOSTILE, RIGHT_TO_LEFT, EMOJI, "two\nlines", "]]> & ' \" <a>"])
@pytest.mark.parametrize("outcome", ["better", "worse"])
def test_hostile_texts_come_back_as_they_are(tmp_path: Path, text: str, outcome: str) -> None:
    given = comparison(**{text: outcome})
    given["fields"][text]["sentence"] = text
    given |= {"collection": text}
    suite = read_back(gated(given, fail_on="worse"), tmp_path)
    (case,) = suite
    assert (case.name, case.classname) == (text, f"{text}.pca")
    shown = case.result[0].message if case.result else case.system_out
    assert shown == text


@pytest.mark.parametrize("outcome", ["better", "worse"])
def test_what_xml_cannot_hold_is_dropped(tmp_path: Path, outcome: str) -> None:
    given = comparison(**{CONTROLS: outcome})
    given["fields"][CONTROLS]["sentence"] = CONTROLS
    (case,) = read_back(gated(given, fail_on="worse"), tmp_path)
    kept = "nul bell escape[2J csi half none end"
    assert case.name == kept
    assert (case.result[0].message if case.result else case.system_out) == kept


def test_a_file_that_cannot_be_written_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "compare.xml").mkdir()
    with pytest.raises(InputError, match=r"compare\.xml is a folder and is not replaced"):
        read_back(comparison(usage="worse"), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["compare.xml"]
