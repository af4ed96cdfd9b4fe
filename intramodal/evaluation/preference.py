"""Which of two vectors people prefer, from their votes on a judging page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from intramodal.errors import InputError
from intramodal.evaluation.intervals import sign_test
from intramodal.evaluation.verdict import ALPHA, p_value
from intramodal.runs.run import Run
from intramodal.types import PointId

VOTES_FORMAT = "intramodal votes 1"
"""What a file of votes says that it is."""

Choice = Literal["a", "b", "tie"]
_CHOICES = ("a", "b", "tie")


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
    """

    place: str
    collection: str
    vectors: tuple[str, str]
    run_id: str | None
    choices: Mapping[PointId, Choice]
    left: Mapping[PointId, Choice]

    @classmethod
    def load(cls, path: Path) -> Votes:
        """Read the file that a judging page saves; raises `InputError` for any other."""
        try:
            stored = json.loads(path.read_text(encoding="utf-8-sig"))
        except OSError as error:
            raise InputError(f"{path} cannot be read ({error.strerror})") from error
        except ValueError as error:
            raise InputError(f"{path} is not a JSON file of votes ({error})") from error
        if not isinstance(stored, dict) or stored.get("format") != VOTES_FORMAT:
            raise InputError(
                f"{path} is not a file of votes; save one with the judging page that a comparison "
                f"without labels writes"
            )
        return cls._of(stored, path)

    @classmethod
    def _of(cls, stored: Mapping[str, Any], path: Path) -> Votes:
        try:
            a, b = (str(name) for name in stored["vectors"])
            votes = [(row["query"], row["choice"], row["left"]) for row in stored["votes"]]
            about = str(stored["collection"]), (a, b), stored["run_id"]
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{path} is a damaged file of votes ({error!r}); save it again"
            ) from error
        if not votes or any(
            choice not in _CHOICES or left not in _CHOICES[:2] or not isinstance(query, str | int)
            for query, choice, left in votes
        ):
            raise InputError(f"{path} holds no votes, or votes for neither vector; save it again")
        choices = {query: choice for query, choice, _ in votes}
        return cls(str(path), *about, choices, {query: left for query, _, left in votes})


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
        v.choices[q] == left for v in votes for q, left in v.left.items() if v.choices[q] != "tie"
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


def _lead(votes: Sequence[Votes], query: PointId) -> int:
    """Return how many more people chose B than A for a query."""
    chosen = [v.choices.get(query) for v in votes]
    return chosen.count("b") - chosen.count("a")
