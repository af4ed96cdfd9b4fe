"""``intramodal judge``."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from intramodal.commands.next_steps import Name, note_again, note_next, say_made, unused
from intramodal.commands.options import DEFAULT_STORE, json_option, runs_option
from intramodal.commands.outputs import Output
from intramodal.commands.printing import note, print_table, say
from intramodal.commands.session import Session, SessionCommand
from intramodal.errors import IntramodalError

if TYPE_CHECKING:
    from intramodal.evaluation.preference import Votes


@click.command("judge", cls=SessionCommand, common=("judgments",))
@click.argument(
    "files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path)
)
@click.option(
    "--judgments",
    type=Output("json"),
    help="Also write which results were marked right and wrong, e.g. judged.json, for `evaluate "
    "retrieval --protocol revisited --name-field id --ground-truth judged.json`.",
)
@runs_option
@json_option
def command(session: Session, files: tuple[Path, ...], judgments: Path | None) -> None:
    """Say which vector people prefer, from the votes that a judging page saved.

    `compare` without --labels writes the judging page. One FILE per person; for a query that
    several people judged, the majority counts.

    \b
    intramodal compare photos -o judge.html --pictures ~/photos
    intramodal judge votes.json --judgments judged.json
    """
    from intramodal.evaluation.preference import Votes, judgments_of, measure_preference
    from intramodal.files import write_text

    votes = [Votes.load(path) for path in files]
    judged = None if judgments is None else judgments_of(votes)
    with session.recorded_if_possible("judge") as run:
        found = measure_preference(votes, run=run)
    result = found.to_dict()
    if judgments is not None and judged is not None:
        write_text(judgments, judged.to_json())
        result |= {"judgments": str(judgments), "n_judged": len(judged.queries)}
    session.answer(result, partial(_show, votes=votes[0], session=session))


def _show(result: dict[str, Any], votes: Votes, session: Session) -> None:
    a, b = result["vectors"]
    row = (result["n_a"], result["n_b"], result["n_ties"], result["n_people"])
    print_table((f"prefer {a}>", f"prefer {b}>", "no difference>", "people>"), [row])
    say(result["sentence"])
    if result["bias"]:
        note(result["bias"])
    if "judgments" in result:
        n = result["n_judged"]
        queries = "1 query" if n == 1 else f"{n:,} queries"
        say_made("judgments", f"{result['judgments']} ({queries})")
        truth = ("--name-field", "id", "--ground-truth", result["judgments"])
        words = ("evaluate", "retrieval", Name(result["collection"]), "--protocol", "revisited")
        note_next(*words, *truth, *_store_of(session, votes), at=("runs_url",))
    elif any(votes.right.values()):
        note_again("--judgments", unused("judged.json"))


def _store_of(session: Session, votes: Votes) -> list[str]:
    """Return the option of the store that the judging page was made of, as its run says."""
    if votes.run_id is None:
        return []
    with suppress(IntramodalError), session.open_runs() as ledger:
        store = ledger.get(votes.run_id).parameters.get("store", DEFAULT_STORE)
        return [] if store == DEFAULT_STORE else ["--store", store]
    return []  # a stranger's page, or a run that is gone
