"""The help of every command: options under headings, nothing wider than a terminal."""

from __future__ import annotations

import re
import shlex

import click
import pytest

from intramodal.cli import cli
from intramodal.commands.headings import COMMON, HEADINGS, OTHER, grouped, long_names
from intramodal.commands.options import CheckedCommand
from tests.cli.kit import invoke, walk

COMMANDS = [(name.strip(), command) for name, command in walk(cli)]
EVERY = pytest.mark.parametrize(("name", "command"), COMMANDS, ids=[name for name, _ in COMMANDS])


def help_of(name: str, monkeypatch: pytest.MonkeyPatch, columns: int = 80) -> str:
    monkeypatch.setenv("COLUMNS", str(columns))
    return invoke(*name.split(), "--help").output


@EVERY
def test_every_option_is_under_one_heading(
    name: str, command: click.Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(command, CheckedCommand)
    groups = grouped(command.get_params(click.Context(command)), command.common)
    assert not groups.get(OTHER)
    shown = re.findall(r"^(\w.*):$", help_of(name, monkeypatch), re.MULTILINE)
    assert shown == [*groups]
    assert [each for each in (COMMON, *HEADINGS) if each in groups] == shown  # common ones first


def test_an_option_is_known_under_one_heading_only() -> None:
    names = [name for of in HEADINGS.values() for name in of]
    assert len(names) == len(set(names))
    every = {
        long_names(option)[0]
        for _, command in COMMANDS
        for option in command.get_params(click.Context(command))
        if isinstance(option, click.Option)
    }
    assert set(names) <= every  # none that is gone


def test_what_most_people_need_is_first_in_the_order_of_its_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines = help_of("search", monkeypatch).partition(f"{COMMON}:\n")[2].splitlines()
    assert re.findall(r"--\w+|-k", "\n".join(lines))[:3] == ["--id", "--image", "--text"]
    # What a command cannot do without is among them wherever it is declared.
    assert re.search(rf"{COMMON}:\n(  .*\n)*  --labels ", help_of("evaluate text", monkeypatch))


@EVERY
def test_a_help_fits_a_terminal_of_80_columns(
    name: str, command: click.Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = help_of(name, monkeypatch).splitlines()
    assert [line for line in lines if len(line) > 80] == []


@EVERY
def test_an_example_that_is_folded_is_the_same_to_a_shell(
    name: str, command: click.Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def examples(columns: int) -> list[list[str]]:
        text = help_of(name, monkeypatch, columns).replace("\\\n", "")
        return [shlex.split(line) for line in re.findall(r"^  (intramodal .*)$", text, re.M)]

    monkeypatch.setattr(
        cli, "context_settings", {**cli.context_settings, "max_content_width": 400}
    )
    wide = examples(400)
    assert examples(60) == wide


@pytest.mark.parametrize("group", [(), ("evaluate",), ("runs",), ("models",)])
def test_the_list_of_commands_has_whole_sentences(
    group: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    # click cuts what is longer than a line, which then ends in three dots.
    monkeypatch.setenv("COLUMNS", "80")
    listed = invoke(*group, "--help").stdout.partition("Commands:")[2]
    assert max(map(len, listed.splitlines())) <= 80
    assert "..." not in listed
