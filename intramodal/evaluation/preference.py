"""Votes of a judging page: which of two vectors people prefer, and which results are right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np

from intramodal.errors import InputError
from intramodal.evaluation.intervals import sign_test
from intramodal.evaluation.verdict import ALPHA, p_value
from intramodal.ground_truth import GroundTruth
from intramodal.runs.run import Run
from intramodal.types import PointId, parsed_json, short_repr

VOTES_FORMAT = "intramodal votes 1"
"""What a file of votes says that it is."""

MAX_VOTES_BYTES = 16 * 2**20
"""A page has some tens of queries, a vote on one takes a few hundred bytes."""

Choice = Literal["a", "b", "tie"]
_CHOICES: tuple[Choice, ...] = ("a", "b", "tie")


@short_repr
@dataclass(frozen=True)
class Votes:
    """One person's votes on a judging page.

    Parameters
    ----------
    place : str
        The file.
    collection : str
    vectors : (str, str)
        A, in use, and B.
    run_id : str or None
        The comparison that the page is of.
    choices : dict of str or int to {"a", "b", "tie"}
        By query.
    left : dict of str or int to {"a", "b"}
        Which vector was on the left.
    right, wrong : dict of str or int to set of str or int
        By query, results that were marked.
    """

    place: str
    collection: str
    vectors: tuple[str, str]
    run_id: str | None
    choices: Mapping[PointId, Choice]
    left: Mapping[PointId, Choice]
    right: Mapping[PointId, frozenset[PointId]] = field(default_factory=dict)
    wrong: Mapping[PointId, frozenset[PointId]] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path) -> Votes:
        """Read the file that a judging page saves; raises `InputError` for any other."""
        try:
            stored = parsed_json(_bytes_of(path))
        except OSError as error:
            raise InputError(f"{path} cannot be read ({error.strerror})") from error
        except ValueError as error:
            raise InputError(f"{path} is not a JSON file of votes ({error!s:.200})") from error
        if not isinstance(stored, dict) or stored.get("format") != VOTES_FORMAT:
            raise InputError(
                f"{path} is not a file of votes; save one with the judging page that a comparison "
                f"without labels writes"
            )
        return cls._of(stored, path)

    @classmethod
    def _of(cls, stored: Mapping[str, Any], path: Path) -> Votes:
        try:
            a, b = _list(stored["vectors"])
            rows = {_point(row["query"]): row for row in _list(stored["votes"])}
            if len(rows) < len(stored["votes"]):
                raise ValueError("a query is in it twice")
            run_id = stored["run_id"]
            found = cls(
                place=str(path),
                collection=_text(stored["collection"]),
                vectors=(_text(a), _text(b)),
                run_id=None if run_id is None else _text(run_id),
                choices={
                    q: _one_of(row["choice"], _CHOICES) for q, row in rows.items() if row["choice"]
                },
                left={q: _one_of(row["left"], _CHOICES[:2]) for q, row in rows.items()},
                right={q: _points(row, "right") for q, row in rows.items()},
                wrong={q: _points(row, "wrong") for q, row in rows.items()},
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{path} is a damaged file of votes ({error!r:.200}); save it again"
            ) from error
        if not found.choices and not any(found.right.values()) and not any(found.wrong.values()):
            raise InputError(f"{path} holds no votes; judge a query and save it again")
        return found


def _bytes_of(path: Path) -> bytes:
    """Return what a file holds that is neither a pipe or a device nor too long."""
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is not a file; give one that a judging page has saved")
    with path.open("rb") as file:
        data = file.read(MAX_VOTES_BYTES + 1)
    if len(data) > MAX_VOTES_BYTES:
        raise InputError(f"{path} has more than {MAX_VOTES_BYTES:,} bytes, too many for votes")
    return data


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError(f"{value!r:.80} is no list")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.80} is no text")
    return value


def _points(row: Mapping[str, Any], kind: str) -> frozenset[PointId]:
    return frozenset(map(_point, _list(row.get(kind, []))))


def _one_of(value: Any, choices: tuple[Choice, ...]) -> Choice:
    if value not in choices:
        raise ValueError(f"{value!r:.80} is none of {', '.join(choices)}")
    return cast(Choice, value)


def _point(value: Any) -> PointId:
    if type(value) not in (str, int):
        raise ValueError(f"{value!r:.80} is no id of a point")
    return cast(PointId, value)


@dataclass(frozen=True)
class Preference:
    """How many queries are better served by B, as people see it.

    Parameters
    ----------
    collection : str
    vectors : (str, str)
    n_a, n_b, n_ties : int
        Queries for which most people preferred A, B, or neither.
    interval : (float, float)
        95% interval of the share of B among the decided queries (exact binomial).
    p_value : float
        Of "both are preferred equally often".
    n_people : int
    n_left, n_sided : int
        Decided votes for the left side, and all decided votes.
    """

    collection: str
    vectors: tuple[str, str]
    n_a: int
    n_b: int
    n_ties: int
    interval: tuple[float, float]
    p_value: float
    n_people: int
    n_left: int
    n_sided: int
    run_id: str | None = None

    @property
    def share(self) -> float | None:
        """Share of B among the decided queries; None where none is."""
        decided = self.n_a + self.n_b
        return self.n_b / decided if decided else None

    @property
    def sentence(self) -> str:
        """What people prefer, how sure that is, and which queries it is about."""
        if self.share is None:
            return f"No query was decided: {self.n_ties:,} show no difference."
        a, b = self.vectors
        ahead, n = (b, self.n_b) if self.n_b >= self.n_a else (a, self.n_a)
        decided, (low, high) = self.n_a + self.n_b, self.interval
        verb = f"People prefer {ahead}" if self.p_value < ALPHA else "Neither is clearly preferred"
        p = p_value(self.p_value)
        return (
            f"{verb}: {ahead} is better for {n:,} of {decided:,} decided queries; share of {b} "
            f"{self.share:.0%}, 95% interval {low:.0%} to {high:.0%}, "
            f"p {p if p.startswith('<') else f'= {p}'}; {self.n_ties:,} show no difference. These "
            f"are the queries on which the vectors agree least, not a random sample."
        )

    @property
    def bias(self) -> str | None:
        """Say that people prefer one side whatever is there; None where that is not certain."""
        if sign_test(self.n_left, self.n_sided)[1] >= ALPHA:
            return None
        side = "left" if 2 * self.n_left > self.n_sided else "right"
        return (
            f"{side} was chosen in {max(self.n_left, self.n_sided - self.n_left):,} of "
            f"{self.n_sided:,} decided votes, although the sides are drawn at random: these votes "
            f"may follow the side more than the images."
        )

    def to_dict(self) -> dict[str, Any]:
        """Return what ``intramodal judge --json`` prints."""
        return {
            "collection": self.collection,
            "vectors": list(self.vectors),
            "n_a": self.n_a,
            "n_b": self.n_b,
            "n_ties": self.n_ties,
            "share": self.share,
            "interval": list(self.interval),
            "p_value": self.p_value,
            "n_people": self.n_people,
            "sentence": self.sentence,
            "bias": self.bias,
            "run_id": self.run_id,
        }

    def record(self, run: Run) -> None:
        """Write the share of B to a run."""
        n = self.n_a + self.n_b
        run.log_metric("preference", self.share, interval=self.interval, n=n)


def measure_preference(votes: Sequence[Votes], *, run: Run | None = None) -> Preference:
    """Return which vector people prefer; a query is what most of them chose for it.

    Parameters
    ----------
    votes : sequence of Votes
        One per person, all of the same vectors of one collection.
    run : Run, optional
        Records the share.

    Raises
    ------
    InputError
        If there are none, or they are of different vectors or collections.
    """
    run = run or Run()
    if not votes:
        raise InputError("no votes are given; give the files that a judging page has saved")
    _require_different(votes)
    first = votes[0]
    for other in votes[1:]:
        if (other.collection, other.vectors) != (first.collection, first.vectors):
            raise InputError(
                f"{first.place} is about {' and '.join(first.vectors)} of {first.collection!r}, "
                f"{other.place} about {' and '.join(other.vectors)} of {other.collection!r}; give "
                f"votes on one pair of vectors"
            )
    lead = [_lead(votes, query) for query in dict.fromkeys(q for v in votes for q in v.choices)]
    n_a, n_b = sum(n < 0 for n in lead), sum(n > 0 for n in lead)
    sided = [
        choice == v.left[q] for v in votes for q, choice in v.choices.items() if choice != "tie"
    ]
    interval, p = sign_test(n_b, n_a + n_b)
    found = Preference(
        collection=first.collection,
        vectors=first.vectors,
        n_a=n_a,
        n_b=n_b,
        n_ties=len(lead) - n_a - n_b,
        interval=interval,
        p_value=p,
        n_people=len(votes),
        n_left=sum(sided),
        n_sided=len(sided),
        run_id=run.id,
    )
    run.keep(found)
    return found


def _require_different(votes: Sequence[Votes]) -> None:
    """Raise `InputError` if one file is given as the votes of two people."""
    places = Counter(Path(one.place).resolve() for one in votes)
    twice = next((place for place, n in places.items() if n > 1), None)
    if twice is not None:
        raise InputError(f"{twice} is given twice; give the votes of each person once")


def _lead(votes: Sequence[Votes], query: PointId) -> int:
    """Return how many more people chose B than A for a query."""
    chosen = [v.choices.get(query) for v in votes]
    return chosen.count("b") - chosen.count("a")


def judgments_of(votes: Sequence[Votes]) -> GroundTruth:
    """Return which results people marked as right and wrong, to evaluate any vector with.

    Parameters
    ----------
    votes : sequence of Votes
        One per person. A result that as many people find right as wrong is not judged.

    Returns
    -------
    GroundTruth
        Names are ids of points. For each query the results marked right are relevant, those
        marked wrong are not, and all others are junk: they do not count.

    Raises
    ------
    InputError
        If no result is marked right for any query.
    """
    leads = {
        query: _marked(votes, query) for query in dict.fromkeys(q for v in votes for q in v.left)
    }
    leads = {query: lead for query, lead in leads.items() if any(n > 0 for n in lead.values())}
    if not leads:
        raise InputError(
            "no result is marked right for any query; mark results on the judging page and save "
            "the votes again"
        )
    gallery = sorted({str(point) for lead in leads.values() for point in lead})
    lead_of = [{str(point): n for point, n in lead.items()} for lead in leads.values()]
    signs = [np.sign([lead.get(name, 0) for name in gallery]) for lead in lead_of]
    right, junk = (tuple(np.flatnonzero(s == sign) for s in signs) for sign in (1, 0))
    none = tuple(np.empty(0, dtype=np.int64) for _ in signs)
    return GroundTruth(tuple(gallery), tuple(map(str, leads)), right, none, junk)


def _marked(votes: Sequence[Votes], query: PointId) -> dict[PointId, int]:
    """Return how many more people find each marked result of a query right than wrong."""
    found: Counter[PointId] = Counter()
    for v in votes:
        found.update(v.right.get(query, ()))
        found.subtract(v.wrong.get(query, ()))
    return dict(found)
