"""The reader of ground-truth pickles: what it finds, and that nothing else in a pickle happens."""

from __future__ import annotations

import contextlib
import os
import pickle
import pickletools
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from intramodal import read_ground_truth
from intramodal.errors import SourceError
from intramodal.ground_truth import MAX_BYTES, GroundTruth


def small() -> dict[str, Any]:
    """Return a ground truth of two queries and five images, as the published files hold it."""
    return {
        "imlist": ["hall_1", "hall_2", "hall_3", "tower_1", "tower_2"],
        "qimlist": ["hall_0", "tower_0"],
        "gnd": [
            {"easy": [0], "hard": [1], "junk": [2], "bbx": [136.5, 34.1, 648.5, 955.7]},
            {"easy": [], "hard": [3, 4], "junk": [], "bbx": [0, 1, 20, 30]},
        ],
    }


def written(path: Path, value: Any, protocol: int = 2) -> Path:
    path.write_bytes(value if isinstance(value, bytes) else pickle.dumps(value, protocol))
    return path


def lists(found: GroundTruth) -> list[list[list[int]]]:
    return [[x.tolist() for x in of] for of in (found.easy, found.hard, found.junk)]


def refused(path: Path, value: Any, protocol: int = 2) -> str:
    """Return the one sentence by which a file is refused."""
    with pytest.raises(SourceError) as caught:
        read_ground_truth(written(path / "gnd.pkl", value, protocol))
    text = str(caught.value)
    assert "\n" not in text
    assert "as gnd_roxford5k.pkl" in text
    assert len(text) < 600
    return text


def with_arrays(value: dict[str, Any]) -> dict[str, Any]:
    """Return it with arrays and scalars of NumPy, in several types and shapes."""
    gnd = [
        {
            "easy": np.array(row["easy"], dtype=np.int64),
            "hard": np.array([row["hard"]], dtype=">i4"),  # (1, n), as MATLAB's are
            "junk": [np.uint16(place) for place in row["junk"]],
            "bbx": np.array(row["bbx"], dtype=np.float64),
        }
        for row in value["gnd"]
    ]
    return {**value, "gnd": gnd}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("made", [dict, with_arrays])
def test_pickles_of_every_protocol_are_read(
    tmp_path: Path, made: Callable[[Any], Any], protocol: int
) -> None:
    found = read_ground_truth(written(tmp_path / "gnd.pkl", made(small()), protocol))
    assert found.gallery == ("hall_1", "hall_2", "hall_3", "tower_1", "tower_2")
    assert found.queries == ("hall_0", "tower_0")
    assert lists(found) == [[[0], []], [[1], [3, 4]], [[2], []]]
    assert found.boxes is not None
    np.testing.assert_array_equal(found.boxes, [[136.5, 34.1, 648.5, 955.7], [0, 1, 20, 30]])


@pytest.mark.parametrize("core", [b"numpy.core", b"numpy._core"])
def test_arrays_by_the_module_names_of_old_and_new_numpy_are_read(
    tmp_path: Path, core: bytes
) -> None:
    data = pickle.dumps(with_arrays(small()), 0)
    for name in (b"numpy._core", b"numpy.core"):
        data = data.replace(b"c" + name + b".multiarray", b"c" + core + b".multiarray")
    assert b"c" + core + b".multiarray" in data
    found = read_ground_truth(written(tmp_path / "gnd.pkl", data))
    assert lists(found) == [[[0], []], [[1], [3, 4]], [[2], []]]


def test_bytes_that_python_2_wrote_as_text_are_read(tmp_path: Path) -> None:
    # An array of [200] as int64: eight bytes that are no UTF-8, as Python 2 pickles them.
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR"
        b"(K\x01(K\x01tcnumpy\ndtype\n(U\x02i8K\x00K\x01tR"
        b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        b"U\x08\xc8\x00\x00\x00\x00\x00\x00\x00tb"
    ).replace(b"\x89", b"I00\n")
    names = pickle.dumps([f"{n}" for n in range(201)], 2)[2:-1]
    empty = b"]"
    row = b"}(U\x04easy" + array + b"U\x04hard" + empty + b"U\x04junk" + empty + b"u"
    data = (
        b"\x80\x02}(U\x06imlist" + names + b"U\x07qimlist](U\x01qe" + b"U\x03gnd](" + row + b"eu."
    )
    found = read_ground_truth(written(tmp_path / "gnd.pkl", data))
    assert lists(found)[0] == [[200]]
    assert found.boxes is None


def test_its_fingerprint_is_that_of_its_content(tmp_path: Path) -> None:
    def of(value: Any, protocol: int = 2) -> str:
        return read_ground_truth(written(tmp_path / "gnd.pkl", value, protocol)).fingerprint

    same = of(small())
    assert of(with_arrays(small()), 5) == same
    others = [first(junk=[]), first(bbx=[1, 2, 3, 4]), changed(qimlist=["hall_0", "tower_9"])]
    assert len({same, *map(of, others)}) == 4


def test_the_three_difficulties_are_those_of_the_benchmark(tmp_path: Path) -> None:
    found = read_ground_truth(written(tmp_path / "gnd.pkl", small()))
    by_name = {
        "easy": ([[0], []], [[2, 1], [3, 4]]),
        "medium": ([[0, 1], [3, 4]], [[2], []]),
        "hard": ([[1], [3, 4]], [[2, 0], []]),
    }
    for name, expected in by_name.items():
        relevant, ignored = found.judged(name)  # type: ignore[arg-type]
        assert ([x.tolist() for x in relevant], [x.tolist() for x in ignored]) == expected


def test_a_limited_one_has_the_first_queries_and_the_first_images_of_each(tmp_path: Path) -> None:
    found = read_ground_truth(written(tmp_path / "gnd.pkl", small()))
    one = found.limited(1)
    assert one.queries == ("hall_0",)
    assert one.gallery == ("hall_1", "hall_2", "hall_3")
    assert lists(one) == [[[0]], [[1]], [[2]]]
    value = small()
    value["gnd"] = value["gnd"][::-1]
    other = read_ground_truth(written(tmp_path / "gnd.pkl", value)).limited(1)
    assert other.gallery == ("tower_1",)  # the first of its hard images, by another place now
    assert lists(other) == [[[]], [[0]], [[]]]
    assert lists(found.limited(5)) == lists(found)


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("file", "n_gallery", "n_empty"),
    [
        ("oxford5k_gnd_roxford5k.pkl", 4993, (2, 0, 0)),
        ("paris6k_gnd_rparis6k.pkl", 6322, (0, 0, 5)),
    ],
)
def test_the_published_files_are_read_as_pickle_reads_them(
    real_data: Path, file: str, n_gallery: int, n_empty: tuple[int, ...]
) -> None:
    path = real_data / "roxford" / file
    found = read_ground_truth(path)
    expected = pickle.loads(path.read_bytes(), encoding="latin1")
    assert (len(found.queries), len(found.gallery)) == (70, n_gallery)
    assert list(found.gallery) == expected["imlist"]
    assert list(found.queries) == expected["qimlist"]
    for name, of in zip(("easy", "hard", "junk"), lists(found), strict=True):
        assert of == [row[name] for row in expected["gnd"]]
    assert found.boxes is not None
    assert found.boxes.tolist() == [row["bbx"] for row in expected["gnd"]]
    assert tuple(sum(not of for of in some) for some in lists(found)) == n_empty


class Runs:
    """Makes a directory when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("place", ["whole", "key", "value"])
def test_nothing_in_a_pickle_is_run(tmp_path: Path, place: str, protocol: int) -> None:
    made = tmp_path / "made"
    evil: Any = Runs(made)
    value = {"whole": evil, "key": {evil: 1}, "value": {**small(), "extra": evil}}[place]
    said = refused(tmp_path, value, protocol)
    assert "names posix.mkdir" in said or "names nt.mkdir" in said
    assert not made.exists()


HOSTILE = {
    "eval": b"cbuiltins\neval\n(S'1'\ntR.",
    "os.system": b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.",
    "numpy.load": b"cnumpy\nload\n(S'x'\ntR.",
    "a dotted name": b"\x80\x04\x8c\x05numpy\x8c\x0dndarray.dumps\x93)R.",
    "attributes of a stand-in": b"\x80\x04\x8c\x05numpy\x8c\x10ndarray.__init__\x93)R.",
    "attributes of a function": b"c_codecs\nencode\n}X\x01\x00\x00\x00aK\x01sb.",
    "slots of a function": b"c_codecs\nencode\n(N}X\x0c\x00\x00\x00__defaults__)stb.",
    "bytes of a number": b"c__builtin__\nbytes\n(I999999999\ntR.",
    "an instance": b"(S'x'\niposix\nsystem\n.",
    "an object": b"(cbuiltins\neval\nS'1'\no.",
    "a persistent id": b"Pid\n.",
    "an extension": b"\x82\x01.",
    "a class by NEWOBJ": b"\x80\x02cnumpy\nndarray\n)\x81.",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_whatever_is_not_data_is_refused_by_name(tmp_path: Path, name: str) -> None:
    said = refused(tmp_path, HOSTILE[name])
    reasons = (
        "names ",
        "of pickle, which data does not need",
        "sets attributes",
        "makes bytes",
    )
    assert any(reason in said for reason in reasons)


def array_of(code: str, data: bytes, shape: tuple[int, ...]) -> bytes:
    """Return the pickle of an array that says what it likes, in the form of NumPy's."""

    def inside(value: object) -> bytes:
        return pickle.dumps(value, 3)[2:-1]

    kind = b"cnumpy\ndtype\n" + inside((code, False, True)) + b"R"
    kind += inside((3, "<", None, None, None, -1, -1, 0)) + b"b"
    made = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85C\x01btR"
    state = b"(K\x01" + inside(shape) + kind + inside(False) + inside(data) + b"t"
    return b"\x80\x03" + made + state + b"b."


@pytest.mark.parametrize(
    ("code", "data", "shape", "said"),
    [
        ("O", b"", (0,), "of type O, not of numbers"),
        ("V8", b"12345678", (1,), "of type V8, not of numbers"),
        ("i8", b"12345678", (2,), "without as many numbers"),
        ("i8", b"12345678", (-1,), "of shape"),
        ("i8", b"", (2**62, 0, 4), "of shape"),
        ("i8", b"", (2**40, 2**40), "without as many numbers"),
    ],
)
def test_arrays_whose_parts_do_not_fit_are_refused(
    tmp_path: Path, code: str, data: bytes, shape: tuple[int, ...], said: str
) -> None:
    assert said in refused(tmp_path, array_of(code, data, shape))


def test_a_pickle_that_asks_for_much_memory_is_refused(tmp_path: Path) -> None:
    memo = b"\x80\x02]r" + struct.pack("<I", 2**31 - 2) + b"."
    assert "more than it has bytes" in refused(tmp_path, memo)
    long_bytes = b"\x80\x05\x96" + struct.pack("<Q", 2**50) + b"abc."
    assert "no readable pickle" in refused(tmp_path, long_bytes)


def test_a_list_that_is_shared_many_times_is_refused(tmp_path: Path) -> None:
    value, many = small(), list(range(5))
    row = {"easy": many * 400, "hard": [], "junk": []}
    n = 2000
    value |= {"qimlist": [f"{q}" for q in range(n)], "gnd": [row] * n}
    assert "names more images than it has bytes" in refused(tmp_path, value)


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "large.pkl"
    with path.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(SourceError, match="more than 16,777,216 bytes"):
        read_ground_truth(path)


@pytest.mark.parametrize("name", ["nothing.pkl", ".", "a\0b"])
def test_what_is_no_file_is_said_so(tmp_path: Path, name: str) -> None:
    with pytest.raises(SourceError, match=r"does not exist|is no file|cannot be read"):
        read_ground_truth(tmp_path / name)


def cut(value: Any) -> list[bytes]:
    data = pickle.dumps(value, 2)
    return [data[:n] for n in (0, 1, 2, 10, len(data) // 2, len(data) - 1)]


@pytest.mark.parametrize("place", range(6))
def test_a_pickle_that_is_cut_off_is_refused(tmp_path: Path, place: int) -> None:
    refused(tmp_path, cut(with_arrays(small()))[place])


def test_random_damage_is_an_error_of_ours_or_harmless(tmp_path: Path) -> None:
    rng = np.random.default_rng(19)
    whole = np.frombuffer(pickle.dumps(with_arrays(small()), 4), dtype=np.uint8)
    for _ in range(500):
        data = whole.copy()
        places = rng.integers(0, len(data), rng.integers(1, 4))
        data[places] = rng.integers(0, 256, len(places))
        with contextlib.suppress(SourceError):
            found = read_ground_truth(written(tmp_path / "gnd.pkl", data.tobytes()))
            assert len(found.queries) == 2


def changed(**parts: Any) -> dict[str, Any]:
    return {**small(), **parts}


def first(**parts: Any) -> dict[str, Any]:
    value = small()
    value["gnd"][0] |= parts
    return value


WRONG = [
    ([1, 2], "holds a list of 2, not a dictionary"),
    ({"imlist": ["a"], "qimlist": ["b"]}, "has no gnd; it has imlist, qimlist"),
    (changed(imlist=[]), "as imlist, not a list"),
    (changed(imlist=["a", 7]), "has 7 as imlist[1], not a name"),
    (changed(imlist=["a", "b", "a"]), "has a 2 times in imlist"),
    (changed(qimlist=["only"]), "has 1 queries in qimlist but 2 in gnd"),
    (changed(gnd=[{}, {}]), "has no easy in gnd[0]"),
    (changed(gnd=[[], {}]), "as gnd[0], not a dictionary"),
    (first(easy=[5]), "has place 5 in gnd[0][easy], and imlist has 5 images"),
    (first(easy=[-1]), "has place -1 in gnd[0][easy]"),
    (first(easy=[0.5]), "has 0.5 in gnd[0][easy], not a place in imlist"),
    (first(easy=[True]), "has True in gnd[0][easy]"),
    (first(easy=3), "has 3 as gnd[0][easy], not a list"),
    (first(easy=np.array([0.0])), "has 0.0 in gnd[0][easy]"),
    (first(easy=[1]), "has hall_2 twice in gnd[0]"),
    (first(bbx=[1, 2, 3]), "has no box of four numbers as gnd[0][bbx]"),
    (first(bbx=[1, 2, 3, float("nan")]), "has no box of four numbers as gnd[0][bbx]"),
    (first(bbx=[5, 2, 5, 9]), "has an empty box as gnd[0][bbx]"),
]


@pytest.mark.parametrize(("value", "said"), WRONG, ids=[said for _, said in WRONG])
def test_another_form_is_said_in_one_sentence(tmp_path: Path, value: Any, said: str) -> None:
    assert said in refused(tmp_path, value)


def test_the_opcodes_that_are_known_are_python_s() -> None:
    from intramodal.pickles import OBJECT_OPCODES

    assert {opcode.name for opcode in pickletools.opcodes} >= OBJECT_OPCODES


def test_odd_escapes_in_a_damaged_pickle_are_no_warning(tmp_path: Path) -> None:
    path = tmp_path / "gnd.pkl"
    path.write_bytes(b"(dS'imlist\\m'\n(lp0\ns.")  # issue 20: found by the fuzz
    with pytest.raises(SourceError):
        read_ground_truth(path)
