"""``intramodal judge``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from intramodal.commands.options import json_option, runs_option
from intramodal.commands.printing import note, print_table, say
from intramodal.commands.session import Session, SessionCommand


@click.command("judge", cls=SessionCommand)
@click.argument(
    "files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path)
)
@runs_option
@json_option
def command(session: Session, files: tuple[Path, ...]) -> None:
    """Say which vector people prefer, from the votes that a judging page saved.

    `compare` without --labels writes the judging page. One FILE per person; for a query that
    several people judged, the majority counts.

    \b
    intramodal compare photos -o judge.html --pictures ~/photos
    intramodal judge votes.json
    """
    from intramodal.evaluation.preference import Votes, measure_preference

    votes = [Votes.load(path) for path in files]
    with session.recorded_if_possible("judge") as run:
        found = measure_preference(votes, run=run)
    session.answer(found.to_dict(), _show)


def _show(result: dict[str, Any]) -> None:
    a, b = result["vectors"]
    row = (result["n_a"], result["n_b"], result["n_ties"], result["n_people"])
    print_table((f"prefer {a}>", f"prefer {b}>", "no difference>", "people>"), [row])
    say(result["sentence"])
    if result["bias"]:
        note(result["bias"])
