"""The rule: from differences with their p-values to one outcome a field.

A field has up to three pieces: `map` (the whole ranking), `first` (the first page of answers,
nDCG@10) and `fewshot`. A certain loss of any piece vetoes every adoption; a gain is claimed where
one piece gains for certain and every other is certain not to lose more than a guard. Holm's
adjustment runs over the pieces of a field and, apart, over the fields for each claim, so that
naming more fields can only weaken a claim. docs/method.md says how often it errs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from intramodal.evaluation.intervals import Difference, Effect, Paired, holm

Outcome = Literal["too_easy", "better", "mixed", "worse", "not_worse", "inconclusive"]

ALPHA = 0.05
MARGIN = 0.005
"""A certain loss up to this, a fraction, is harmless."""
GUARD = 0.02
"""An open loss must be excluded beyond this, a fraction; of the mAP beyond half of it."""
_CEILING = 0.995

PIECES = ("map", "first", "fewshot")
NAMES = {"map": "mAP", "first": "nDCG@10", "fewshot": "few-shot accuracy"}
"""The pieces in words."""

SHORT: dict[Outcome, str] = {
    "better": "adopt: better",
    "not_worse": "adopt: not worse",
    "mixed": "do not adopt: mixed",
    "worse": "do not adopt: worse",
    "too_easy": "do not adopt: too easy",
    "inconclusive": "not settled",
}
"""The outcomes in few words."""


def guard_of(name: str, guard: float) -> float:
    """Return the loss of a piece that must be excluded: of the mAP half of the guard."""
    return guard / 2 if name == "map" else guard


@dataclass(frozen=True)
class Piece:
    """One piece of evidence on a field.

    Parameters
    ----------
    name : {"map", "first", "fewshot"}
    paired : Paired
        The difference that is judged and, where classes are resampled, the mean over queries.
    guard : float
        Loss that must be excluded, a fraction.
    """

    name: str
    paired: Paired
    guard: float

    @property
    def difference(self) -> Difference:
        """What is judged."""
        return self.paired.difference

    @property
    def effect(self) -> Effect:
        """The difference B minus A, with its interval."""
        return self.paired.difference.effect

    @property
    def p_gain(self) -> float:
        """p-value of "there is no gain"; 1 unless the difference is positive."""
        return self.effect.p_at(0.0) if self.effect.delta > 0 else 1.0

    @property
    def p_loss(self) -> float:
        """p-value of "there is no loss"; 1 unless the difference is negative."""
        return self.effect.p_at(0.0) if self.effect.delta < 0 else 1.0

    @property
    def p_guarded(self) -> float:
        """p-value of "the loss is the guard"; 1 unless the difference is above that."""
        return self.effect.p_at(-self.guard) if self.effect.delta > -self.guard else 1.0

    @property
    def may_lose(self) -> float:
        """How much the interval leaves open, a fraction; zero where it holds no loss."""
        return max(0.0, -self.effect.interval[0])

    def is_certain_loss(self, margin: float) -> bool:
        """Return whether a loss is certain, and more than the margin is not excluded."""
        return self.p_loss < ALPHA and self.effect.interval[0] <= -margin

    def is_too_easy(self, margin: float) -> bool:
        """Return whether both vectors are at the ceiling, and alike."""
        found = [d for d in (self.paired.difference, self.paired.by_query) if d is not None]
        return all(min(d.a, d.b) > _CEILING and abs(d.effect.delta) <= margin for d in found)

    @property
    def is_contrary(self) -> bool:
        """Whether the means over classes and over queries are both certain and of unlike sign."""
        beside = self.paired.by_query
        if beside is None:
            return False
        one, other = self.effect, beside.effect
        return one.delta * other.delta < 0 and max(one.p_at(0.0), other.p_at(0.0)) < ALPHA

    def units_needed(self, *, n_tests: int = 1) -> int | None:
        """Return how many units would settle the piece, if the difference stays as it is.

        By excluding the guard, or making the gain or the loss certain; whichever is sooner.
        """
        guarded = self.effect.units_needed(self.effect.delta + self.guard)
        certain = self.effect.units_needed(abs(self.effect.delta), n_tests=n_tests)
        return min((n for n in (guarded, certain) if n is not None), default=None)


@dataclass(frozen=True)
class Judgement:
    """What the pieces of one field come to.

    Parameters
    ----------
    outcome : str
    pieces : tuple of Piece
        All that were measured.
    missing : tuple of str
        Pieces that were asked for and cannot be had.
    margin : float
    p_gain, p_loss : dict of str to float
        Of each judged piece, adjusted for their number.
    p_better, p_not_worse, p_worse : float
        Of the field's three claims, adjusted for the number of fields.
    contrary : Piece or None
        One whose means over classes and over queries contradict each other; None where the field
        by itself is better, so that other fields can only make that uncertain.
    alone : Judgement or None
        What the field comes to when no other is named, where that is another outcome.
    """

    outcome: Outcome
    pieces: tuple[Piece, ...]
    missing: tuple[str, ...]
    margin: float
    p_gain: Mapping[str, float]
    p_loss: Mapping[str, float]
    p_better: float
    p_not_worse: float
    p_worse: float
    contrary: Piece | None = None
    alone: Judgement | None = field(default=None, repr=False)

    @property
    def judged(self) -> list[Piece]:
        """The pieces that decide: those at the ceiling are left out."""
        return [piece for piece in self.pieces if piece.name in self.p_gain]

    @property
    def lost(self) -> list[Piece]:
        """The pieces whose certain loss vetoes an adoption, the surest first."""
        lost = [piece for piece in self.judged if piece.is_certain_loss(self.margin)]
        return sorted(lost, key=lambda piece: self.p_loss[piece.name])

    @property
    def gained(self) -> list[Piece]:
        """The pieces that gain for certain, the surest first."""
        found = [piece for piece in self.judged if self.p_gain[piece.name] < ALPHA]
        return sorted(found, key=lambda piece: self.p_gain[piece.name])

    @property
    def open(self) -> list[Piece]:
        """The pieces of no certain sign that may lose more than the guard, the worst first."""
        found = [piece for piece in self.judged if not self.is_settled(piece)]
        return sorted(found, key=lambda piece: -piece.may_lose)

    def is_settled(self, piece: Piece) -> bool:
        """Return whether a gain or a loss is certain, or that the guard is not lost."""
        return piece.p_guarded < ALPHA or piece in self.gained or piece in self.lost

    def p_adjusted(self, piece: Piece) -> float:
        """Return the p-value of a piece's difference, adjusted for the number of pieces."""
        adjusted = self.p_gain if piece.effect.delta > 0 else self.p_loss
        return adjusted.get(piece.name, 1.0)


def judge(
    fields: Mapping[str, Sequence[Piece]],
    *,
    margin: float = MARGIN,
    missing: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, Judgement]:
    """Return the outcome of every field, all named together.

    `missing` are the pieces of a field that were asked for and cannot be had: they count as one
    more test, never exclude a loss, and so stand in the way of "not worse".
    """
    alone = {
        name: _alone(pieces, margin, tuple((missing or {}).get(name, ())))
        for name, pieces in fields.items()
    }
    claims = [
        holm([getattr(found, claim) for found in alone.values()])
        for claim in ("p_better", "p_not_worse", "p_worse")
    ]
    judged = {}
    for name, better, not_worse, worse in zip(alone, *claims, strict=True):
        found = alone[name]
        both = replace(found, p_better=better, p_not_worse=not_worse, p_worse=worse)
        both = replace(both, outcome=_outcome(both))
        judged[name] = both if both.outcome == found.outcome else replace(both, alone=found)
    return judged


def _alone(pieces: Sequence[Piece], margin: float, missing: tuple[str, ...]) -> Judgement:
    """Return what the pieces of one field come to, if no other is named."""
    judged = [piece for piece in pieces if not piece.is_too_easy(margin)]
    beside = [1.0] * len(missing)
    gains = holm([piece.p_gain for piece in judged] + beside)[: len(judged)]
    losses = holm([piece.p_loss for piece in judged] + beside)[: len(judged)]
    guarded = [piece.p_guarded for piece in judged]
    lost = [p for piece, p in zip(judged, losses, strict=True) if piece.is_certain_loss(margin)]
    p_better = min(
        (max(p, *guarded[:i], *guarded[i + 1 :], 0.0) for i, p in enumerate(gains)), default=1.0
    )
    names = [piece.name for piece in judged]
    found = Judgement(
        outcome="inconclusive",
        pieces=tuple(pieces),
        missing=missing,
        margin=margin,
        p_gain=dict(zip(names, gains, strict=True)),
        p_loss=dict(zip(names, losses, strict=True)),
        p_better=1.0 if lost else p_better,
        p_not_worse=1.0 if lost or missing else max(guarded, default=1.0),
        p_worse=min(lost, default=1.0),
        contrary=next((piece for piece in judged if piece.is_contrary), None),
    )
    if found.p_better < ALPHA:
        found = replace(found, contrary=None)
    return replace(found, outcome=_outcome(found))


def _outcome(found: Judgement) -> Outcome:
    """Return the first outcome that holds."""
    if found.pieces and not found.judged:
        return "too_easy"
    if found.p_better < ALPHA:
        return "better"
    is_worse = found.p_worse < ALPHA
    if (is_worse and found.gained) or found.contrary:
        return "mixed"
    if is_worse:
        return "worse"
    return "not_worse" if found.p_not_worse < ALPHA else "inconclusive"


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
    p_words: str = "adjusted p",
) -> str:
    """Return one difference with its interval and adjusted p-value."""
    low, high = effect.interval
    p = p_value(p_adjusted)
    p = p if p.startswith("<") else f"= {p}"
    verb = "rises" if effect.delta > 0 else "falls"
    change = f"{verb} from {a:.4f} to {b:.4f}" if effect.delta else f"stays at {a:.4f}"
    return (
        f"{what} {change} ({effect.delta:+.4f}, 95% interval [{low:+.4f}, {high:+.4f}], "
        f"{p_words} {p})"
    )


def told(piece: Piece, judgement: Judgement) -> str:
    """Return one piece's difference with its interval and adjusted p-value."""
    found = piece.difference
    p, name = judgement.p_adjusted(piece), NAMES[piece.name]
    return evidence(name, found.a, found.b, found.effect, p)


@dataclass(frozen=True)
class Wording:
    """What a sentence says beside the figures.

    `needed` returns how many of what a piece needs, in words; `bytes_share` is the size of B's
    vectors as a share of A's.
    """

    b: str
    bytes_share: float
    needed: Callable[[Piece], str]


def headline(judgement: Judgement, wording: Wording) -> str:
    """Return what to do, and the piece that decides."""
    return _SAID[judgement.outcome](judgement, wording)


def capital(words: str) -> str:
    """Return the words as the beginning of a sentence; a name like mAP stays."""
    return words if words[1:2].isupper() else words[0].upper() + words[1:]


def _better(judgement: Judgement, wording: Wording) -> str:
    deciding = judgement.gained[0]
    gain, others = capital(told(deciding, judgement)), _others(judgement, deciding)
    return f"Adopt {wording.b}: better. {gain}{others}."


def _others(judgement: Judgement, deciding: Piece) -> str:
    """Return how much the other pieces are certain not to lose."""
    others = [piece for piece in judgement.judged if piece is not deciding]
    losses = [f"{NAMES[p.name]} more than {p.guard:g}" for p in others]
    return f"; certain not to lose: {', '.join(losses)}" if losses else ""


def _not_worse(judgement: Judgement, wording: Wording) -> str:
    share = wording.bytes_share
    saving = f", at {share:.0%} of the bytes" if share < 1 else ""
    least = max(judgement.judged, key=lambda piece: piece.p_guarded)
    return (
        f"Adopt {wording.b}: not worse{saving}. The least sure: {told(least, judgement)}, a loss "
        f"of {least.guard:g} is excluded"
        f"{_others(judgement, least)}."
    )


def _worse(judgement: Judgement, wording: Wording) -> str:
    return f"Do not adopt {wording.b}: worse. {capital(told(judgement.lost[0], judgement))}."


def _mixed(judgement: Judgement, wording: Wording) -> str:
    begins = f"Do not adopt {wording.b}: mixed. "
    if judgement.lost and judgement.gained:
        lost, gained = (told(found[0], judgement) for found in (judgement.lost, judgement.gained))
        return f"{begins}{capital(lost)}, but {gained}."
    piece = judgement.contrary
    beside = piece and piece.paired.by_query
    assert piece and beside  # noqa: S101, PT018  else it is not mixed
    query = evidence("over queries it", beside.a, beside.b, beside.effect, beside.effect.p_value)
    return f"{begins}Over classes {told(piece, judgement)}; {query}."


def _too_easy(judgement: Judgement, wording: Wording) -> str:
    return (
        f"Do not adopt {wording.b} for this: too easy to tell the vectors apart, both are above "
        f"{_CEILING:g} and within {judgement.margin:g} of each other."
    )


def _inconclusive(judgement: Judgement, wording: Wording) -> str:
    if judgement.lost:
        likely = judgement.lost[0]
        return f"A loss is likely: {told(likely, judgement)}{wording.needed(likely)}."
    if judgement.gained:
        gained = judgement.gained[0]
        words = "; ".join(_may_lose(piece, wording) for piece in judgement.open)
        open_words = f"; open: {words}" if words else ""
        name = NAMES[gained.name]
        gain = told(gained, judgement).replace(f"{name} ", f"{name}, which ", 1)
        return f"Better by {gain}{open_words}."
    if not judgement.judged:
        return "Nothing settled: no piece of evidence could be had."
    likeliest = min(judgement.judged, key=lambda piece: judgement.p_adjusted(piece))
    still = [piece for piece in judgement.open if piece is not likeliest]
    words = "".join(f"; {_may_lose(piece, wording)}" for piece in still)
    return f"Nothing settled: {told(likeliest, judgement)}{wording.needed(likeliest)}{words}."


def _may_lose(piece: Piece, wording: Wording) -> str:
    return f"{NAMES[piece.name]} may lose up to {piece.may_lose:.4f}{wording.needed(piece)}"


_SAID: dict[Outcome, Callable[[Judgement, Wording], str]] = {
    "better": _better,
    "not_worse": _not_worse,
    "mixed": _mixed,
    "worse": _worse,
    "too_easy": _too_easy,
    "inconclusive": _inconclusive,
}


def brief(judgement: Judgement, a: str, b: str) -> str:
    """Return what to do, and the figure that decides, in points and at most 25 words."""
    if judgement.outcome == "mixed":
        return _brief_mixed(judgement, a)
    if judgement.outcome == "worse":
        return f"Keep {a}: {_points(judgement.lost[0])}."
    if judgement.outcome == "better":
        return f"Use {b}: {_points(judgement.gained[0])}."
    if judgement.outcome == "too_easy":
        return f"Use either: both are above {_CEILING:g}."
    if judgement.outcome == "not_worse":
        least = max(judgement.judged, key=lambda piece: piece.p_guarded)
        return f"Use {b}: not worse; {_points(least)}."
    return _brief_open(judgement)


def _brief_mixed(judgement: Judgement, a: str) -> str:
    """Return the two figures that contradict each other."""
    if judgement.lost and judgement.gained:
        lost, gained = _points(judgement.lost[0]), _points(judgement.gained[0])
        return f"Keep {a}: {lost}, although {gained}."
    pieces = [judgement.contrary] if judgement.contrary else []
    return (
        f"Keep {a}: {''.join(map(_points, pieces))} over classes, and the opposite over queries."
    )


def _brief_open(judgement: Judgement) -> str:
    """Return what keeps a field from being settled."""
    if judgement.lost:
        return f"Not settled: {_points(judgement.lost[0])}, but not for certain among all fields."
    if not judgement.open:
        return "Not settled: too little evidence."
    worst = judgement.open[0]
    return f"Not settled: {NAMES[worst.name]} may lose {100 * worst.may_lose:.1f} points."


def _points(piece: Piece) -> str:
    """Return a difference in points with its interval."""
    low, high = piece.effect.interval
    return (
        f"{NAMES[piece.name]} {100 * piece.effect.delta:+.1f} points "
        f"({100 * low:+.1f} to {100 * high:+.1f})"
    )
