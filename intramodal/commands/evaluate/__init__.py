"""``intramodal evaluate``."""

from __future__ import annotations

import click

from intramodal.commands.evaluate.fewshot import fewshot
from intramodal.commands.evaluate.fewshot_text import fewshot_text
from intramodal.commands.evaluate.index import index
from intramodal.commands.evaluate.misalignment import misalignment
from intramodal.commands.evaluate.oti import oti
from intramodal.commands.evaluate.recovery import recovery
from intramodal.commands.evaluate.retrieval import retrieval
from intramodal.commands.evaluate.text import text
from intramodal.commands.options import KindGroup


@click.group("evaluate", cls=KindGroup, usual="retrieval")
def command() -> None:
    """Measure vectors: retrieval, few-shot accuracy, misalignment, recovery."""


for _one in (fewshot, fewshot_text, index, misalignment, oti, recovery, retrieval, text):
    command.add_command(_one)
