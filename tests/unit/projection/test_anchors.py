from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest

from intramodal.errors import InputError
from intramodal.projection.anchors import AnchorSet


def test_imagenet_has_a_thousand_names_of_both_kinds() -> None:
    cleaned, wordnet = AnchorSet.imagenet(), AnchorSet.imagenet("wordnet")
    assert len(cleaned) == len(wordnet) == 1000
    assert cleaned.fingerprint != wordnet.fingerprint
    assert cleaned.prompts()[0] == "a photo of a tench"


def test_the_cleaned_names_are_those_of_open_clip() -> None:
    open_clip = pytest.importorskip("open_clip")
    assert list(AnchorSet.imagenet().names) == list(open_clip.IMAGENET_CLASSNAMES)


def test_the_wordnet_names_are_the_first_lemmas_of_timm() -> None:
    info = pytest.importorskip("timm.data").ImageNetInfo()
    lemmas = [info.index_to_description(i).split(",")[0].strip() for i in range(1000)]
    assert list(AnchorSet.imagenet("wordnet").names) == lemmas


def test_equal_content_has_an_equal_fingerprint_and_order_counts() -> None:
    assert AnchorSet(("a", "b")).fingerprint == AnchorSet(("a", "b")).fingerprint
    assert AnchorSet(("a", "b")).fingerprint != AnchorSet(("b", "a")).fingerprint
    assert AnchorSet(("a", "b")).fingerprint != AnchorSet(("a", "b"), "{}").fingerprint


def test_what_a_set_is_called_is_no_part_of_its_content(tmp_path: Path) -> None:
    assert AnchorSet(("a", "b"), name="x") == AnchorSet(("a", "b"))
    assert AnchorSet(("a", "b"), name="x").fingerprint == AnchorSet(("a", "b")).fingerprint
    path = tmp_path / "Our products (2).txt"
    path.write_text("a\nb\n")
    assert AnchorSet.from_file(path).name == "Our_products_2_"


def test_a_file_gives_one_name_a_line(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_bytes("\ufeffKatze\r\n\r\n  red panda \nKatze\n".encode())
    anchors = AnchorSet.from_file(path)
    assert anchors.names == ("Katze", "red panda", "Katze")
    assert (len(anchors), anchors.n_distinct) == (3, 2)


@pytest.mark.parametrize(
    ("names", "template", "said"),
    [
        (("cat",), "a {}", "at least 2 names"),
        (("cat", " "), "a {}", "anchor 1 is blank"),
        (("cat", "dog"), "a photo", "must hold {} once"),
        (("cat", "dog"), "{} {}", "must hold {} once"),
    ],
)
def test_what_makes_no_prompts_is_refused(
    names: tuple[str, ...], template: str, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        AnchorSet(names, template)


def test_a_file_in_a_known_format_is_called_that(tmp_path: Path) -> None:
    for data, said in [
        (gzip.compress(b"cat\ndog\n"), r"it is gzip; unpack it first"),
        ("cat\ndog\n".encode("utf-16"), r"it is UTF-16; save it as UTF-8"),
        (b"cat\ncaf\xe9\n", r"it is not UTF-8, see byte 8"),
    ]:
        (tmp_path / "x").write_bytes(data)
        with pytest.raises(InputError, match=re.escape(f"cannot be read ({said})")):
            AnchorSet.from_file(tmp_path / "x")


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "x", tmp_path / "absent"):
        with pytest.raises(InputError, match="UTF-8 text file with one class name per line"):
            AnchorSet.from_file(path)
