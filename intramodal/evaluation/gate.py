"""The gate of a pipeline: which outcomes fail it, and which changed since an earlier run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, get_args

from intramodal.errors import InputError, MismatchError
from intramodal.types import short_repr

FailOn = Literal["worse", "not-better", "not-settled"]
FAIL_ON: tuple[FailOn, ...] = get_args(FailOn)

ADOPTED = ("better", "not_worse")
"""Outcomes by which vector B is adopted."""
_POINTS = ("where", "sample", "max_queries")
_NO_LOSS = (*ADOPTED, "too_easy")
"""Where every answer is right under both vectors, an adopted one does no harm."""


def fails(outcome: str, fail_on: FailOn) -> bool:
    """Return whether an outcome, the "verdict" of one field, fails the gate.

    "worse": worse and mixed. "not-better": everything but better. "not-settled": inconclusive;
    "too_easy" is settled, as no further query would tell the vectors apart. Raises `InputError`
    for another rule.

    Examples
    --------
    >>> [fails("inconclusive", rule) for rule in FAIL_ON]
    [False, True, True]
    """
    if fail_on not in FAIL_ON:
        raise InputError(f"there is no gate {fail_on!r}; give one of {', '.join(FAIL_ON)}")
    if fail_on == "not-better":
        return outcome != "better"
    return outcome in (("worse", "mixed") if fail_on == "worse" else ("inconclusive",))


@short_repr
@dataclass(frozen=True)
class Baseline:
    """The outcomes of an earlier comparison.

    Parameters
    ----------
    run_id : str
    collection : str or None
    vectors : tuple of str
        A and B.
    outcomes : dict of str to str
        By label field.
    asked : dict of str to Any
        What else the outcomes hang on, by name; see `asked_of`.
    """

    run_id: str
    collection: str | None
    vectors: tuple[str, ...]
    outcomes: Mapping[str, str]
    asked: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, comparison: Mapping[str, Any]) -> Baseline:
        """Take the outcomes from what `Comparison.to_dict` gave."""
        outcomes = outcomes_of(comparison)
        vectors = tuple(comparison["vectors"])
        place = comparison["run_id"], comparison["collection"]
        return cls(*place, vectors, outcomes, asked_of(comparison))

    def check_is_of(self, collection: str | None, vectors: tuple[str, ...]) -> None:
        """Raise `MismatchError` unless it is of the same collection and vectors."""
        if (self.collection, self.vectors) == (collection, vectors):
            return
        here, there = (
            f"{' and '.join(map(repr, pair))} in {name!r}"
            for name, pair in ((collection, vectors), (self.collection, self.vectors))
        )
        raise MismatchError(
            f"run {self.run_id} compared {there}, not {here}; give a run of the same collection "
            f"and vectors as the baseline"
        )

    def changes(
        self, outcomes: Mapping[str, str], asked: Mapping[str, Any] = MappingProxyType({})
    ) -> Changes:
        """Return what differs from these outcomes, by field, and from what was asked."""
        before = self.outcomes
        return Changes(
            run_id=self.run_id,
            changed={
                field: (before[field], now)
                for field, now in outcomes.items()
                if before.get(field, now) != now
            },
            new=tuple(field for field in outcomes if field not in before),
            gone=tuple(field for field in before if field not in outcomes),
            asked={
                name: (self.asked[name], now)
                for name, now in asked.items()
                if self.asked.get(name, now) != now
            },
        )


@dataclass(frozen=True)
class Changes:
    """What differs from an earlier comparison.

    Parameters
    ----------
    run_id : str
        The earlier run.
    changed : dict of str to (str, str)
        Former and present outcome, by field.
    new, gone : tuple of str
        Fields that only this comparison has, and that only the earlier one has.
    asked : dict of str to (Any, Any)
        What was asked otherwise, then and now: an outcome may have changed for that alone.
    """

    run_id: str
    changed: Mapping[str, tuple[str, str]]
    new: tuple[str, ...]
    gone: tuple[str, ...]
    asked: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)

    @property
    def lost(self) -> dict[str, str]:
        """Former outcome of the fields that were better or not worse and are no longer.

        A field that has become too easy is not among them: both vectors find everything there.
        """
        return {
            field: before
            for field, (before, now) in self.changed.items()
            if before in ADOPTED and now not in _NO_LOSS
        }

    @property
    def sentence(self) -> str:
        """Every change in words."""
        parts = [
            f"{field} changed from {_words(before)} to {_words(now)}"
            for field, (before, now) in self.changed.items()
        ] or ["no field changed its outcome"]
        if self.new:
            parts.append(f"not in that run: {', '.join(self.new)}")
        if self.gone:
            parts.append(f"only in that run: {', '.join(self.gone)}")
        words = f"Since run {self.run_id}: {'; '.join(parts)}."
        if self.asked:
            pairs = self.asked.items()
            told = "; ".join(f"{name} {_told(a)}, now {_told(b)}" for name, (a, b) in pairs)
            words += f" That run had other settings, which alone may change outcomes: {told}."
        return words

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "run_id": self.run_id,
            "changed": {field: list(pair) for field, pair in self.changed.items()},
            "new": list(self.new),
            "gone": list(self.gone),
            "asked": {name: list(pair) for name, pair in self.asked.items()},
            "sentence": self.sentence,
        }


@dataclass(frozen=True)
class Gate:
    """Which fields fail.

    Parameters
    ----------
    fail_on : {"worse", "not-better", "not-settled"}
    fields : tuple of str
        All that were judged.
    failed : dict of str to str
        Reason by field; empty if the gate is passed.
    """

    fail_on: FailOn
    fields: tuple[str, ...]
    failed: Mapping[str, str]

    @classmethod
    def of(
        cls, outcomes: Mapping[str, str], fail_on: FailOn, changes: Changes | None = None
    ) -> Gate:
        """Apply a rule to outcomes by field.

        With a baseline, a field that was better or not worse and is no longer fails under any
        rule; one that was as bad before is not excused. See `fails` for the rules.
        """
        failed = {field: _words(now) for field, now in outcomes.items() if fails(now, fail_on)}
        if changes is not None:
            for field, before in changes.lost.items():
                was = f"(was {_words(before)} in run {changes.run_id})"
                failed[field] = f"{_words(outcomes[field])} {was}"
        in_order = {field: failed[field] for field in outcomes if field in failed}
        return cls(fail_on, tuple(outcomes), in_order)

    @property
    def sentence(self) -> str:
        """Which fields fail and why, or which pass."""
        if not self.failed:
            return f"Gate passed ({self.fail_on}): {', '.join(self.fields)}."
        why = "; ".join(f"{field} is {reason}" for field, reason in self.failed.items())
        return f"Gate failed ({self.fail_on}): {why}."

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        failed = dict(self.failed)
        return {"fail_on": self.fail_on, "failed": failed, "sentence": self.sentence}


def gated(
    comparison: Mapping[str, Any],
    *,
    fail_on: FailOn | None = None,
    baseline: Baseline | None = None,
) -> dict[str, Any]:
    """Return a comparison with what changed since a baseline, and with which fields fail.

    Parameters
    ----------
    comparison : dict
        What `Comparison.to_dict` gives.
    fail_on : {"worse", "not-better", "not-settled"}, optional
        Adds "gate": "fail_on", "failed" (reason by field), "sentence".
    baseline : Baseline, optional
        Adds "baseline": "run_id", "changed" (former and present outcome by field), "new", "gone",
        "asked" (what was asked otherwise, then and now), "sentence".

    Raises
    ------
    MismatchError
        If the baseline is of another collection or other vectors.
    """
    result, outcomes, changes = dict(comparison), outcomes_of(comparison), None
    if baseline is not None:
        baseline.check_is_of(comparison["collection"], tuple(comparison["vectors"]))
        changes = baseline.changes(outcomes, asked_of(comparison))
        result["baseline"] = changes.to_dict()
    if fail_on is not None:
        result["gate"] = Gate.of(outcomes, fail_on, changes).to_dict()
    return result


def outcomes_of(comparison: Mapping[str, Any]) -> dict[str, str]:
    """Return the verdict of every field of what `Comparison.to_dict` gave."""
    return {field: row["verdict"] for field, row in comparison["fields"].items()}


def asked_of(comparison: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the outcomes of `Comparison.to_dict` hang on beside vectors and fields.

    Tasks, sides, margin, guard, and which points and queries take part; what a comparison of an
    earlier version did not say is left out.
    """
    drawn = {name: comparison[name] for name in _POINTS if name in comparison}
    return {**comparison.get("asked", {}), **drawn}


def _told(value: Any) -> str:
    """Return a value of `asked_of` in words."""
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "not given" if value is None else str(value)


def _words(outcome: str) -> str:
    return outcome.replace("_", " ")
