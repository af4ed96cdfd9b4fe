"""Quotes in CSV and TSV lists: an open one may take in the rows that follow (issue 15, F01)."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from intramodal.errors import SourceError
from intramodal.ingest.sources.formats import open_source
from intramodal.ingest.sources.lists import read_rows
from tests.unit.ingest.sources_kit import keys, payloads, put, reasons

HEADER = "path|label|size"
DELIMITERS = {".csv": ",", ".tsv": "\t"}
both = pytest.mark.parametrize("suffix", DELIMITERS)


def write(folder: Path, suffix: str, text: str) -> str:
    """Write a list in which | stands for the delimiter."""
    place = folder / f"list{suffix}"
    place.write_bytes(text.replace("|", DELIMITERS[suffix]).encode())
    return str(place)


def listed(*rows: str, end: str = "\n") -> str:
    return "\n".join([HEADER, *rows]) + end


REFUSED = {
    "never closed": (
        listed("red.png|x|1 in", 'green.png|x|"2 in', "blue.png|x|1 in", "white.png|x|1 in"),
        "line 3 of .* opens a quote that is never closed; close it on line 3",
    ),
    "on the last line": (
        listed("red.png|x|1 in", 'green.png|x|"2 in'),
        "line 3 of .* opens a quote that is never closed",
    ),
    "at the very end": (
        listed("red.png|x|1 in", 'green.png|x|"', end=""),
        "line 3 of .* opens a quote that is never closed",
    ),
    "closed where a later row opens one": (
        listed("red.png|x|1 in", 'green.png|x|"2 in', "blue.png|x|1 in", 'white.png|x|"3 in'),
        "line 3 of .* opens a quote that is closed within a cell of line 5; close it on line 3",
    ),
    "closed by the inches of a later row": (
        listed("red.png|x|1 in", 'green.png|x|"2 in', "blue.png|x|1 in", 'white.png|x|3"'),
        "line 3 of .* closed on line 5 and swallows what look like rows; close it on line 3",
    ),
    "closed by the inches of the next row": (
        listed("red.png|x|1 in", 'green.png|x|"2 in', 'white.png|x|3"'),
        "line 3 of .* closed on line 4 and swallows what look like rows",
    ),
    "closed in the middle of a later row": (
        listed('green.png|x|"2 in', "blue.png|x|1 in", 'white.png|3"|x'),
        "line 2 of .* closed on line 4 and swallows what look like rows",
    ),
    "before other suffixes": (
        listed('green.png|x|"2 in', 'white.jpg|x|3"'),
        "line 2 of .* closed on line 3 and swallows what look like rows",
    ),
    "before names without a suffix": (
        listed("scan|x|1 in", 'other|x|"2 in', 'third|x|3"'),
        "line 3 of .* closed on line 4 and swallows what look like rows",
    ),
    "in the path": (
        listed('"green.png|x|1 in', 'blue.png|x|1 in"', "red.png|x|1 in"),
        "line 2 of .* closed on line 3 and swallows what look like rows",
    ),
    "in a list of paths alone": (
        'path\nred.png\n"green.png\nblue.png"\n',
        "line 3 of .* closed on line 4 and swallows what look like rows",
    ),
    "in the header": (
        'path|label|"size\nred.png|x|1 in"\nblue.png|x|1 in\n',
        "line 1 of .* closed on line 2 and swallows what look like rows",
    ),
    "reopened in a cell of several lines": (
        listed('green.png|"two', 'lines"|"2 in', "blue.png|x|1 in"),
        "line 3 of .* opens a quote that is never closed",
    ),
    "in front of more than a cell may hold": (
        listed('green.png|x|"2 in', *("blue.png|x|1 in" for _ in range(20_000))),
        r"line 2 of .* opens a quote that is not closed up to line \d+ .*; close it on line 2",
    ),
    "with text after it": (
        listed("red.png|x|1 in", 'green.png|x|"2 in" wide'),
        "line 3 of .* is not [CT]SV .*; correct the line",
    ),
    "with text after it, behind several lines": (
        listed('green.png|"two', 'lines"|"2 in" wide'),
        "line 3 of .* is not [CT]SV .*; correct the line",
    ),
}


@both
@pytest.mark.parametrize("case", REFUSED)
def test_an_open_quote_is_refused_with_the_line_that_opens_it(
    tmp_path: Path, suffix: str, case: str
) -> None:
    text, said = REFUSED[case]
    with pytest.raises(SourceError, match=said):
        keys(open_source(write(tmp_path, suffix, text)))


ACCEPTED = {
    "curly quotes": ("“2 in", "“2 in"),
    "inches": ('2" or 3"', '2" or 3"'),
    "doubled quotes": ('"2"" or 3"""', '2" or 3"'),
    "a quoted cell": ('"2 in"', "2 in"),
    "an empty quoted cell": ('""', None),
    "one quote alone": ('""""', '"'),
    "lines": ('"wide\nand\n\nhigh"', "wide\nand\n\nhigh"),
    "lines of other systems": ('"wide\r\nand\rhigh"', "wide\r\nand\rhigh"),
    "lines with commas": ('"wide\nred, round, new\nor, not"', "wide\nred, round, new\nor, not"),
    "lines with inches": ('"2"" wide\n3"" high"', '2" wide\n3" high'),
    "lines with quotes and delimiters": ('"""a""|b\n""c""|d"', '"a"|b\n"c"|d'),
}


@both
@pytest.mark.parametrize("case", ACCEPTED)
def test_a_quote_that_is_meant_is_accepted(tmp_path: Path, suffix: str, case: str) -> None:
    cell, expected = ACCEPTED[case]
    text = listed("red.png|x|1 in", f"green.png|x|{cell}", "blue.png|x|1 in")
    found = payloads(open_source(write(tmp_path, suffix, text)))
    assert list(found) == ["red.png", "green.png", "blue.png"]
    size = expected and expected.replace("|", DELIMITERS[suffix])
    assert found["green.png"] == {"label": "x", "size": size}


@both
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_list_with_the_line_ends_of_any_system_is_read(
    tmp_path: Path, suffix: str, end: str
) -> None:
    text = listed("red.png|x|1 in", "", 'green.png|"x"|2"').replace("\n", end)
    source = open_source(write(tmp_path, suffix, text))
    assert payloads(source) == {
        "red.png": {"label": "x", "size": "1 in"}, "green.png": {"label": "x", "size": '2"'},
    }  # fmt: skip
    assert source.is_complete


@both
def test_what_pythons_writer_writes_is_read_back(
    tmp_path: Path, suffix: str, rng: np.random.Generator
) -> None:
    texts = ["".join(rng.choice(list('ab ,\t"“\n'), size=n % 30)) for n in range(300)]
    with (tmp_path / f"list{suffix}").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=DELIMITERS[suffix])
        writer.writerow(["path", "text"])
        writer.writerows([f"{n}.png", text] for n, text in enumerate(texts))
    source = open_source(str(tmp_path / f"list{suffix}"))
    assert payloads(source) == {f"{n}.png": {"text": t or None} for n, t in enumerate(texts)}
    assert source.is_complete


ROWS = [
    HEADER,
    "a.png|x|1 in",
    'b.png|"y, or so"|2"',
    'c.png|x|"two\nlines"',
    'd.png|"z"|3"',
    "e.png|x|4",
]
WHOLE = "".join(f"{row}\n" for row in ROWS)


def outcome(folder: Path, suffix: str, text: str) -> set[str] | None:
    """Return the keys of a list; None if it is refused, or says that some may be missing."""
    try:
        source = open_source(write(folder, suffix, text))
        found = set(keys(source))
    except SourceError:
        return None
    return found if source.is_complete else None


@both
def test_one_quote_more_or_less_never_makes_a_row_vanish(tmp_path: Path, suffix: str) -> None:
    assert outcome(tmp_path, suffix, WHOLE) == {f"{name}.png" for name in "abcde"}
    n_rows = len(ROWS) - 1
    changed = [WHOLE[:i] + '"' + WHOLE[i:] for i in range(len(WHOLE) + 1)]
    changed += [WHOLE[:i] + WHOLE[i + 1 :] for i, c in enumerate(WHOLE) if c == '"']
    for text in changed:
        found = outcome(tmp_path, suffix, text)
        # A quote within a name makes another name of it, which is listed as absent.
        assert found is None or len(found) == n_rows, text


@both
def test_a_list_that_is_cut_off_within_a_row_is_not_complete(tmp_path: Path, suffix: str) -> None:
    ends = {len("".join(f"{row}\n" for row in ROWS[:n])) for n in range(2, len(ROWS) + 1)}
    for n in range(len(WHOLE) + 1):
        assert (outcome(tmp_path, suffix, WHOLE[:n]) is None) == (n not in ends), WHOLE[:n]


def test_rows_that_may_have_lost_something_make_a_list_incomplete(tmp_path: Path) -> None:
    put(tmp_path, "1.png", "2.png")
    place = tmp_path / "list.csv"
    for text, gap in (
        ("path,label\n1.png\n2.png,a\n", "the row on line 2 has 1 cells, the header 2"),
        (
            "path,label\n1.png,a\n2.png,b",
            "the last line (list.csv:3) does not end in a line break",
        ),
        ("path,label\n1.png,a\0\0\n2.png,b\n", "list.csv:2: the row holds a NUL byte"),
        ("path,label\n1.png,a\n2.png,b,c\n", "list.csv:3: the row has 3 cells, the header 2"),
    ):
        place.write_text(text)
        source = open_source(str(place))
        assert len(keys(source)) == 2
        assert not source.is_complete
        assert source.gap is not None
        assert gap in source.gap


def test_a_row_may_be_shorter_than_the_header(tmp_path: Path) -> None:
    put(tmp_path, "1.png", "list.csv", data=b"path,label\n1.png\n")
    source = open_source(str(tmp_path / "list.csv"))
    assert payloads(source) == {"1.png": {}}
    assert not reasons(source)


def test_a_swallowed_row_with_other_cells_leaves_a_doubt(tmp_path: Path) -> None:
    text = 'path,cap\na.png,"chair, red\nb.png,lamp, 60 cm (24"\nc.png,x\n'
    (tmp_path / "list.csv").write_text(text)
    source = open_source(str(tmp_path / "list.csv"))
    assert [record.key for record in source] == ["a.png", "c.png"]
    assert source.gap == (
        "the quote that opens on line 2 and closes on line 3 may hide rows; check the lines"
    )


@pytest.mark.parametrize(
    "text",
    [
        'id,address\nHomer,"742 Evergreen Terrace\nSpringfield, IL"\n',
        'id,text\n1,"sizes:\n3, 4 and 5 are out"\n',
        'sku,features\nA-1,"fits\nX-2, and others"\n',
    ],
)
def test_metadata_whose_rows_are_counted_is_never_refused_for_a_guess(
    tmp_path: Path, text: str
) -> None:
    (tmp_path / "meta.csv").write_text(text)
    ((_, row),) = list(read_rows(tmp_path / "meta.csv"))
    assert isinstance(row, dict)
    assert len(row) == 2
