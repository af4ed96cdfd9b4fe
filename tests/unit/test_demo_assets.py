"""The shipped pictures and the shipped model."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from PIL import Image

from intramodal.demo import pictures_list

VENDORS = {"noto", "twemoji", "fluent", "openmoji"}
MODEL = pictures_list().parents[1] / "model"


@pytest.fixture(scope="module")
def rows():
    with pictures_list().open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def size_mb(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def test_the_list_names_every_picture_once_and_nothing_else(rows):
    folder = pictures_list().parent
    there = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.webp"))
    assert sorted(row["path"] for row in rows) == there
    assert len(there) >= 4 * 400


def test_every_code_point_is_drawn_by_all_four_vendors(rows):
    drawn = defaultdict(list)
    for row in rows:
        drawn[row["code_point"]].append(row["vendor"])
        assert row["path"] == f"{row['vendor']}/{row['code_point']}.webp"
    assert all(sorted(vendors) == sorted(VENDORS) for vendors in drawn.values())


def test_an_identity_is_one_code_point_with_one_subgroup_and_category(rows):
    facts = defaultdict(set)
    for row in rows:
        facts[row["identity"]].add((row["code_point"], row["subgroup"], row["category"]))
    assert all(len(found) == 1 for found in facts.values())
    assert set(Counter(row["identity"] for row in rows).values()) == {4}


def test_every_subgroup_and_category_has_several_members(rows):
    for field in ("subgroup", "category"):
        members = Counter(row[field] for row in rows)
        assert min(members.values()) >= 2 * 4, field


def test_no_flag_skin_tone_or_joined_sequence_is_shown(rows):
    for row in rows:
        assert re.fullmatch("[0-9a-f]{2,5}", row["code_point"])
        assert not 0x1F3FB <= int(row["code_point"], 16) <= 0x1F3FF
        assert row["category"] not in ("component", "flags")


def test_every_picture_decodes_to_96_px_in_colour(rows):
    for row in rows:
        with Image.open(pictures_list().parent / row["path"]) as picture:
            picture.load()
            assert (picture.size, picture.mode, picture.format) == ((96, 96), "RGB", "WEBP")


def test_every_vendor_folder_holds_its_own_licence():
    expected = {
        "noto": "Apache License",
        "twemoji": "Creative Commons Attribution 4.0 International",
        "fluent": "Microsoft Corporation",
        "openmoji": "Attribution-ShareAlike 4.0 International",
    }
    for vendor, words in expected.items():
        text = (pictures_list().parent / vendor / "LICENSE.txt").read_text("utf-8")
        assert words in text
        assert "Changes made" in text, "licences ask for modifications to be stated"


def test_the_sources_of_the_words_are_licensed_beside_the_list():
    folder = pictures_list().parent
    assert "UNICODE LICENSE V3" in (folder / "LICENSE-CLDR.txt").read_text("utf-8")
    assert "MIT License" in (folder / "LICENSE-emojibase.txt").read_text("utf-8")


def test_the_pictures_stay_under_eight_megabytes():
    assert size_mb(pictures_list().parent) < 8


def test_naming_the_pictures_loads_no_torch():
    code = "import sys, intramodal.demo; assert not {'torch', 'PIL', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
