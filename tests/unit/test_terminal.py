"""The gate: what acts on a terminal is shown instead, in every way that text is printed."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
import unicodedata
from typing import Any

import click
import pytest
from tqdm import tqdm

from intramodal.commands import printing
from intramodal.commands.printing import json_line, log_to_stderr, print_table, printable
from intramodal.progress import progress
from intramodal.terminal import Gate, bars_shown, gated, ungated, visible

ACTING = ("Cc", "Cf", "Cs", "Zl", "Zp", "Co", "Cn")


def test_every_character_that_acts_is_escaped_and_every_other_stays() -> None:
    acting: list[str] = []
    shown: list[str] = []
    for character in map(chr, range(sys.maxunicode + 1)):
        (acting if unicodedata.category(character) in ACTING else shown).append(character)
    assert visible("".join(shown)) == "".join(shown)
    escaped = visible("".join(acting))
    assert escaped.isascii()
    assert escaped.isprintable()
    assert escaped.encode().decode("unicode_escape") == "".join(acting)


@pytest.mark.parametrize(
    "text", ["", "plain", "Größe 5 µm", "قطة صغيرة", "日本\u3000語", "🐈", "e\u0301", "a\u00a0b"]
)
def test_text_of_all_languages_stays_itself(text: str) -> None:
    assert visible(text) is text or visible(text) == text


def test_a_stream_keeps_line_breaks_and_tabs_and_a_name_does_not() -> None:
    stream = io.StringIO()
    assert Gate(stream).write("a\tb\r\n\x1b[31m") == 10
    assert stream.getvalue() == "a\tb\\r\n\\x1b[31m"
    assert visible("a\tb\n") == "a\\tb\\n"


def test_nothing_leads_past_the_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    behind = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="backslashreplace")
    monkeypatch.setattr(sys, "stdout", behind)
    with gated():
        click.echo("text \x9b \u202e")  # to a stream of ASCII, click would write bytes of its own
        click.echo("bytes \x9b".encode())
        print("print \x1b[2J")  # noqa: T201  as a library may
        sys.stdout.writelines(["lines \x07\n"])
        assert not hasattr(sys.stdout, "buffer")
        with gated():
            assert ungated(sys.stdout) is behind
    assert sys.stdout is behind
    behind.flush()
    shown = behind.buffer.getvalue().decode("ascii")  # type: ignore[attr-defined]
    assert shown == "text \\x9b \\u202e\nbytes \\x9b\nprint \\x1b[2J\nlines \\x07\n"


def test_a_closed_stream_stays_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    with gated():
        assert sys.stdout is None
        print_table(("a",), [("b",)], title="c")
        printing.print_data("d")
        printing.print_state("ok", "e")


def test_a_cell_is_shortened_whether_it_is_long_or_its_escapes_are() -> None:
    assert printable("x" * 300) == f"{'x' * 100} … {'x' * 100}"
    assert len(printable("\x1b" * 199)) == 203
    assert printable("\x1b]0;t\x07") == "\\x1b]0;t\\x07"


def test_a_table_takes_no_markup_and_no_controls(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("[bold]head[/bold]\x1b[2J",), [("[/red]\x9b[link=x]",)], title="[i]t\u202e")
    shown = capsys.readouterr().out
    for text in ("[bold]head[/bold]\\x1b[2J", "[/red]\\x9b[link=x]", "[i]t\\u202e"):
        assert text in shown
    assert all(c.isprintable() or c == "\n" for c in shown)


@pytest.mark.parametrize(
    "text", ["\x7f\x80\x9b31m", "\u202e\u2028\u200f", "\U000e0041", "\ud800", "é日🐈"]
)
def test_json_is_the_same_value_and_printable(text: str) -> None:
    line = json_line({text: [text]})
    assert json.loads(line) == {text: [text]}
    assert line.isprintable()
    assert json_line({"é日🐈": 1}) == '{"é日🐈": 1}'


def test_a_log_record_is_one_line_on_the_stderr_of_the_moment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logging.root, "handlers", [])
    monkeypatch.setattr(logging.root, "level", logging.WARNING)
    log_to_stderr(logging.INFO)
    log = logging.getLogger("intramodal.test")
    for _ in range(2):
        stream = io.StringIO()
        monkeypatch.setattr(sys, "stderr", stream)
        log.info("read %s", "a\nERROR forged \x1b[2J")
        assert stream.getvalue() == "INFO intramodal.test: read a\\nERROR forged \\x1b[2J\n"
    monkeypatch.setattr(sys, "stderr", None)
    log.info("nowhere")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_shows_its_texts_and_moves_the_cursor_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with gated(), progress(3, "reading a\x1b[2J\r", unit="\u202e") as bar:
        bar.delay = 0
        bar.set_postfix_str("left\x9b31m")
        bar.update(1)
        bar.refresh()
    shown = terminal.getvalue()
    for text in ("reading a\\x1b[2J\\r", "left\\x9b31m", "\\u202e"):
        assert text in shown
    assert {c for c in shown if not c.isprintable()} <= {"\r", "\n"}


def draw_bars() -> None:
    """Draw two bars, one below the other, as a library does."""
    for _ in tqdm(range(2), desc="files a\x1b[2J", mininterval=0):
        for _ in tqdm(range(2), desc="bytes", mininterval=0, leave=False):
            pass
    sys.stderr.write("done\r\x1b[2J\n")


def test_bars_of_libraries_are_drawn_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with gated(), bars_shown():
        draw_bars()
    shown = terminal.getvalue()
    assert "\rfiles a\\x1b[2J: 100%" in shown
    assert "\x1b[A" in shown
    assert shown.endswith("done\\r\\x1b[2J\n")
    assert {c for c in shown.replace("\x1b[A", "") if not c.isprintable()} <= {"\r", "\n"}


def test_bars_of_libraries_are_drawn_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = io.StringIO()
    monkeypatch.setattr(sys, "stderr", pipe)
    with gated():
        with bars_shown():
            draw_bars()
        assert type(sys.stderr) is Gate
    assert pipe.getvalue() == "done\\r\\x1b[2J\n"


def test_a_usage_error_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    code = "from intramodal.cli import cli; cli(['runs', 'a\\nError: forged'], prog_name='im')"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    lines: list[Any] = [line for line in done.stderr.splitlines() if line.startswith("Error")]
    assert len(lines) == 1
    assert done.returncode == 2
