from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path
from typing import Any

import pytest

from intramodal.errors import SourceError
from intramodal.ingest.sources.formats import open_source
from intramodal.ingest.sources.shards import expanded
from tests.unit.ingest.sources_kit import (
    keys,
    payloads,
    png,
    reasons,
    special,
    tar,
)


def test_a_sample_gives_its_picture_and_its_payload(tmp_path: Path) -> None:
    members = {
        "./a/0.jpg": png(1), "./a/0.json": b'{"shop": 7, "label": "x"}', "./a/0.cls": b"3\n",
        "./a/0.txt": "ein Käfer\n".encode(), "1.png": png(2), "1.seg.png": png(3),
        "1.npy": b"array", "1.json": b'{"shop": 8}', "2.webp": png(4),
    }  # fmt: skip
    source = open_source(str(tar(tmp_path / "s.tar", members)))
    assert payloads(source) == {
        "a/0.jpg": {"shop": 7, "label": "3", "text": "ein Käfer"},
        "1.png": {"shop": 8},
        "1.seg.png": {"shop": 8},
        "2.webp": {},
    }
    read = {record.key: record.read() for record in source}
    assert read == {"a/0.jpg": png(1), "1.png": png(2), "1.seg.png": png(3), "2.webp": png(4)}
    assert source.is_complete


def test_braces_name_many_shards_in_order(tmp_path: Path) -> None:
    for n in range(8, 12):
        tar(tmp_path / f"s-{n:03}.tar", {f"{n}.png": png(n)})
    assert keys(open_source(str(tmp_path / "s-{008..011}.tar"))) == [
        "8.png", "9.png", "10.png", "11.png",
    ]  # fmt: skip
    with pytest.raises(SourceError, match=r"there is no shard .*s-012\.tar"):
        open_source(str(tmp_path / "s-{008..012}.tar"))


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("a.tar", ["a.tar"]),
        ("{0..2}.tar", ["0.tar", "1.tar", "2.tar"]),
        ("{9..11}", ["9", "10", "11"]),
        ("{09..11}", ["09", "10", "11"]),
        ("{a,b}{1..2}", ["a1", "a2", "b1", "b2"]),
        ("{2..1}", []),
    ],
)
def test_braces_mean_what_they_mean_in_a_shell(pattern: str, expected: list[str]) -> None:
    assert expanded(pattern) == expected


@pytest.mark.parametrize("pattern", ["{0..999999999}", "{0..9999}{0..9999}"])
def test_a_pattern_for_millions_of_shards_is_refused(pattern: str) -> None:
    with pytest.raises(SourceError, match="shards"):
        expanded(pattern)


def test_members_that_would_leave_the_source_are_listed(tmp_path: Path) -> None:
    members = {
        "0.png": png(), "../up.png": png(), "/etc/abs.png": png(), "a/../../up.png": png(),
        "l.png": special("l.png", tarfile.SYMTYPE, "/etc/passwd"),
        "h.png": special("h.png", tarfile.LNKTYPE, "0.png"),
        "p.png": special("p.png", tarfile.FIFOTYPE),
        "d.png": special("d.png", tarfile.DIRTYPE), "d": special("d", tarfile.DIRTYPE),
        ".hidden/1.png": png(), "._0.png": png(),
    }  # fmt: skip
    source = open_source(str(tar(tmp_path / "s.tar", members)))
    found = reasons(source)
    assert set(found) == {
        "../up.png", "/etc/abs.png", "a/../../up.png", "l.png", "h.png", "p.png", "d.png",
    }  # fmt: skip
    assert set(keys(source)) - set(found) == {"0.png"}


def test_bad_sidecars_are_listed_and_cost_no_picture(tmp_path: Path) -> None:
    """Issue 20, F23."""
    members = {
        "0.png": png(), "0.json": b"{", "1.png": png(), "1.json": b"[1]",
        "2.png": png(), "2.txt": b"\xff", "3.png": png(), "3.json": b" " * (2**20 + 1),
        "3.cls": b"7", "4.json": b"{}", "5.png": png(), "6.txt": b"lone", "README.txt": b"hello",
    }  # fmt: skip
    source = open_source(str(tar(tmp_path / "s.tar", members)))
    found = reasons(source)
    assert set(found) == {"0.json", "1.json", "2.txt", "3.json", "4.json", "6.txt"}
    assert found["4.json"] == found["6.txt"]
    assert found["4.json"].startswith("no image belongs to it")
    assert "not a JSON object" in found["1.json"]
    kept = {key: payload for key, payload in payloads(source).items() if key not in found}
    assert kept == {"0.png": {}, "1.png": {}, "2.png": {}, "3.png": {"label": "7"}, "5.png": {}}


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("json", b'{"a": 1}', {"a": 1}),
        ("txt", b"one", {"text": "one"}),
        ("cls", b"3", {"label": "3"}),
    ],
)
def test_a_byte_order_mark_is_no_part_of_a_sidecar(
    tmp_path: Path, name: str, data: bytes, expected: dict[str, Any]
) -> None:
    """Issue 20, F23."""
    members = {"a.png": png(), f"a.{name}": b"\xef\xbb\xbf" + data}
    source = open_source(str(tar(tmp_path / "s.tar", members)))
    assert payloads(source) == {"a.png": expected}


def test_parts_of_a_sample_that_are_not_read_are_named_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Issue 20, F07: they vanished without a word."""
    members = {"0.png": png(), "0.npy": b"", "1.png": png(), "1.npy": b"", "README.md": b""}
    source = open_source(str(tar(tmp_path / "s.tar", members)))
    assert keys(source) == keys(source) == ["0.png", "1.png"]
    assert [record.getMessage() for record in caplog.records] == [
        "members '.npy' of samples, such as 0.npy in s.tar, are not read; .json, .cls and .txt are"
    ]


def test_a_packed_shard_is_called_that(tmp_path: Path) -> None:
    """Issue 20, F20."""
    packed = gzip.compress(tar(tmp_path / "s.tar", {"0.png": png()}).read_bytes())
    (tmp_path / "s.tar").write_bytes(packed)
    source = open_source(str(tmp_path / "s.tar"))
    assert reasons(source) == {"./s.tar": "no tar file: it is gzip; unpack it first"}
    fine = tar(tmp_path / "t.tar", {"BZhang/0.png": png(), "PAR1.png": png()})
    assert keys(open_source(str(fine))) == ["BZhang/0.png", "PAR1.png"]


@pytest.mark.parametrize("order", ["picture first", "sidecars first"])
def test_names_with_dots_keep_their_sidecars(tmp_path: Path, order: str) -> None:
    """Issue 20, F07: more than one part of a sample, so that pairs may lie on a border."""
    members: dict[str, Any] = {}
    for n in range(100):
        pair = {
            f"22.{n:03}.png": png(),
            f"22.{n:03}.json": b'{"n": %d}' % n,
            f"22.{n:03}.CLS": b"c",
        }
        members |= pair if order == "picture first" else dict(reversed(pair.items()))
    source = open_source(str(tar(tmp_path / "s.tar", members)))
    assert payloads(source) == {f"22.{n:03}.png": {"n": n, "label": "c"} for n in range(100)}
    assert source.is_complete


def test_parts_of_a_sample_come_under_their_own_names(tmp_path: Path) -> None:
    members = {
        "./a/7.jpg": png(), "./a/7.json": b'{"n": 7}', "./a/7.bbox.json": b"[1, 2]",
        "./a/7.caption.txt": b"a cat\n", "./a/7.coarse.cls": b"3", "./a/7.odd.json": b"{",
    }  # fmt: skip
    source = open_source(str(tar(tmp_path / "s.tar", members)))
    assert set(reasons(source)) == {"a/7.odd.json"}
    parts = {"n": 7, "bbox": [1, 2], "caption": "a cat", "coarse": "3"}
    assert payloads(source)["a/7.jpg"] == parts


def test_a_key_that_occurs_twice_in_a_sidecar_is_listed(tmp_path: Path) -> None:
    members = {"a.png": png(), "a.json": b'{"label": 1, "label": 2}'}
    found = reasons(open_source(str(tar(tmp_path / "s.tar", members))))
    assert "it has the key 'label' twice" in found["a.json"]


def test_every_sidecar_belongs_to_a_picture_or_is_listed(tmp_path: Path) -> None:
    members = {
        "a.1.png": png(), "a.1.png.json": b'{"n": 1}', "a.2.json": b'{"n": 2}', "a.cls": b"all",
        "b.png": png(), "c.png": png(), "b.json": b'{"n": 3}', "d.JSON": b'{"n": 4}',
        "._c.json": b"of a Mac",
    }  # fmt: skip
    source = open_source(str(tar(tmp_path / "s.tar", members)))
    found = reasons(source)
    assert set(found) == {"a.2.json", "b.json", "d.JSON"}
    kept = {key: payload for key, payload in payloads(source).items() if key not in found}
    assert kept == {"a.1.png": {"n": 1, "label": "all"}, "b.png": {}, "c.png": {}}
    assert not source.is_complete


@pytest.mark.parametrize("first", ["a.png", "a.json"])
def test_a_repeated_name_lends_its_payload_to_no_other_picture(tmp_path: Path, first: str) -> None:
    """Issue 20, F08."""
    with tarfile.open(tmp_path / "s.tar", "w") as file:
        for shade in (1, 2):
            pair = {"a.png": png(shade), "a.json": b'{"shade": %d}' % shade}
            for name in (first, *(set(pair) - {first})):
                member = tarfile.TarInfo(name)
                member.size = len(pair[name])
                file.addfile(member, io.BytesIO(pair[name]))
    found = [(r.key, r.read(), r.payload) for r in open_source(str(tmp_path / "s.tar"))]
    assert found == [("a.png", png(shade), {"shade": shade}) for shade in (1, 2)]


def test_a_repeated_sidecar_is_listed(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "s.tar", "w") as file:
        for name, data in (("a.png", png()), ("a.cls", b"1"), ("a.cls", b"2")):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            file.addfile(member, io.BytesIO(data))
    source = open_source(str(tmp_path / "s.tar"))
    assert [(r.key, r.payload) for r in source] == [("a.png", {"label": "1"}), ("a.cls", {})]
    assert set(reasons(source)) == {"a.cls"}


@pytest.mark.parametrize("n_bytes", [700, 1100, 1500, 1700])
def test_a_shard_that_is_cut_off_gives_what_it_has(tmp_path: Path, n_bytes: int) -> None:
    # Blocks of 512: header, data, header, data, end.
    data = b"x" * 512
    whole = tar(tmp_path / "s.tar", {"0.png": data, "1.png": data}).read_bytes()
    (tmp_path / "s.tar").write_bytes(whole[:n_bytes])
    source = open_source(str(tmp_path / "s.tar"))
    found = reasons(source)
    assert "damaged or cut off" in found["./s.tar"]
    assert not source.is_complete
    readable = [key for key in keys(source) if key not in found]
    assert readable == ["0.png"] * (n_bytes >= 1024)


def test_a_shard_with_a_damaged_header_does_not_end_in_silence(tmp_path: Path) -> None:
    content = bytearray(tar(tmp_path / "s.tar", {"0.png": png(), "1.png": png()}).read_bytes())
    content[1024:1034] = b"\xff" * 10  # the second header: its checksum is wrong now
    (tmp_path / "s.tar").write_bytes(content)
    source = open_source(str(tmp_path / "s.tar"))
    assert keys(source) == ["0.png", "./s.tar"]
    assert "no header at byte 1,024" in reasons(source)["./s.tar"]


def test_a_header_that_declares_a_negative_size_does_not_loop(tmp_path: Path) -> None:
    content = bytearray(tar(tmp_path / "s.tar", {"0.png": png()}).read_bytes())
    size = b"\xff" * 8 + (-512 & 0xFFFFFFFF).to_bytes(4, "big")  # base 256, two's complement
    content[512 + 512 :] = content[:512] + bytes(1024)
    header = content[1024:1536]
    header[124:136] = size
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    content[1024:1536] = header
    (tmp_path / "s.tar").write_bytes(content)
    source = open_source(str(tmp_path / "s.tar"))
    found = reasons(source)
    assert list(found) == ["./s.tar"]


def test_an_extended_header_of_gigabytes_is_not_read(tmp_path: Path) -> None:
    tar(tmp_path / "s.tar", {"0.png": png()})
    header = special("x", tarfile.XHDTYPE)
    header.size = 2**32
    with (tmp_path / "s.tar").open("r+b") as file:
        file.seek(1024)
        file.write(header.tobuf(tarfile.GNU_FORMAT))
        file.truncate(2**32 + 4096)  # sparse: takes no space
    found = reasons(open_source(str(tmp_path / "s.tar")))
    assert "a header of 4294967296 bytes" in found["./s.tar"]


def test_an_archive_that_is_no_webdataset_needs_no_memory_for_its_size(tmp_path: Path) -> None:
    # All share the name before the first dot, as frames of a film do.
    names = [f"film.{n:04}.png" for n in range(200)]
    assert keys(open_source(str(tar(tmp_path / "s.tar", dict.fromkeys(names, png()))))) == names
