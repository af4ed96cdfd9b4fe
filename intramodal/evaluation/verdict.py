"""From intervals and adjusted p-values to one of four outcomes, and to a plain sentence."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from intramodal.evaluation.intervals import Effect

Outcome = Literal["better", "not_worse", "worse", "inconclusive"]

ALPHA = 0.05

SHORT: dict[Outcome, str] = {
    "better": "adopt: better",
    "not_worse": "adopt: not worse",
    "worse": "do not adopt: worse",
    "inconclusive": "not enough evidence",
}
"""The four outcomes in few words."""

_HEADS = {
    "better": "Adopt {b}: better",
    "not_worse": "Adopt {b}: not worse than the margin of {margin:g}{saving}",
    "worse": "Do not adopt {b}: worse",
    "inconclusive": "Not enough evidence on {b}",
}


def judge(effect: Effect, p_adjusted: float, margin: float) -> Outcome:
    """Return the outcome of one difference.

    A loss that is certain but, with all of its interval, within the margin is harmless by the
    user's own word: not worse.
    """
    is_within = effect.interval[0] > -margin
    if p_adjusted < ALPHA and effect.delta > 0:
        return "better"
    if is_within:
        return "not_worse"
    return "worse" if p_adjusted < ALPHA else "inconclusive"


def combine(outcomes: Iterable[Outcome]) -> Outcome:
    """Return one outcome for several pieces of evidence: a loss anywhere weighs most."""
    found = list(outcomes)
    if "worse" in found:
        return "worse"
    if "better" in found:
        return "better"
    return "not_worse" if found and set(found) == {"not_worse"} else "inconclusive"


def head(outcome: Outcome, b: str, margin: float, bytes_share: float) -> str:
    """Return the first words of a sentence."""
    saving = f", at {bytes_share:.0%} of the bytes" if bytes_share < 1 else ""
    return _HEADS[outcome].format(b=b, margin=margin, saving=saving)


def p_value(p: float | None) -> str:
    """Return a p-value for a table; never a zero, which none is.

    Examples
    --------
    >>> p_value(0.0123), p_value(1e-9), p_value(None)
    ('0.0123', '< 0.0001', '–')
    """
    if p is None:
        return "–"
    return "< 0.0001" if p < 0.0001 else f"{p:.4f}"


def evidence(
    what: str,
    a: float,
    b: float,
    effect: Effect,
    p_adjusted: float,
    *,
    p_words: str = "Holm-adjusted p",
) -> str:
    """Return one difference with its interval and adjusted p-value."""
    low, high = effect.interval
    p = p_value(p_adjusted)
    p = p if p.startswith("<") else f"= {p}"
    verb = "rises" if effect.delta > 0 else "falls" if effect.delta < 0 else "stays"
    return (
        f"{what} {verb} from {a:.4f} to {b:.4f} ({effect.delta:+.4f}, 95% interval "
        f"[{low:+.4f}, {high:+.4f}], {p_words} {p})"
    )
