"""Draw the pictures of the demo: some 400 emoji, each by four vendors, 96 px on white.

Every picture is drawn or shipped at 256 px and reduced by the same filter, so that sharpness does
not tell the vendor. Which code points are shown is drawn with a fixed seed, evenly over the
subgroups, before anything is measured. See README.md beside this file for what to install.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import shutil
import subprocess
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from intramodal.demo import pictures_list

FOLDER = pictures_list().parent

PACKAGES = {
    "@iconify-json/noto": "1.2.9",
    "@twemoji/svg": "15.0.0",
    "@lobehub/fluent-emoji-3d": "1.1.0",
    "openmoji": "17.0.0",
    "cldr-annotations-full": "48.2.0",
    "cldr-annotations-derived-full": "48.2.0",
    "emojibase-data": "17.0.0",
    "spdx-license-list": "6.12.0",
}
VENDORS = ("noto", "twemoji", "fluent", "openmoji")

SEED = 2026
DRAWN_PX, SHIPPED_PX = 256, 96
LEAST_IN_SUBGROUP = 6
SHARE_SHOWN, LEAST_SHOWN, MOST_SHOWN = 0.35, 3, 9

# Flags differ between vendors by their outline alone; components are no pictures of anything.
LEFT_OUT = frozenset({"component", "flags"})


@dataclass(frozen=True)
class Emoji:
    """One code point (or joined sequence), without the variation selector FE0F."""

    code_point: str
    identity: str
    subgroup: str
    category: str
    keywords: tuple[str, ...]

    @property
    def parts(self) -> frozenset[str]:
        return frozenset(self.code_point.split("-"))


def fetch(work: Path) -> Path:
    """Install the pinned packages into `work` and return their folder."""
    modules = work / "node_modules"
    work.mkdir(parents=True, exist_ok=True)
    manifest = json.dumps({"private": True, "dependencies": PACKAGES}, indent=2)
    known = work / "package.json"
    if not (modules.is_dir() and known.is_file() and known.read_text("utf-8") == manifest):
        known.write_text(manifest, "utf-8")
        command = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund"]
        subprocess.run(command, cwd=work, check=True)
    return modules


def emoji_list(modules: Path) -> list[Emoji]:
    """Every emoji that all four vendors draw, in Unicode's order, with CLDR's English words."""
    meta = _json(modules / "emojibase-data/meta/groups.json")
    words = annotations(modules)
    drawn = set.intersection(*(set(drawings(modules, vendor)) for vendor in VENDORS))
    found = []
    for entry in _json(modules / "emojibase-data/en/data.json"):
        category = meta["groups"].get(str(entry.get("group")), "component")
        code_point = plain(entry["hexcode"])
        if category in LEFT_OUT or code_point not in drawn or code_point not in words:
            continue
        name, keywords = words[code_point]
        subgroup = meta["subgroups"][str(entry["subgroup"])]
        found.append(Emoji(code_point, name, subgroup, category, keywords))
    return found


def annotations(modules: Path) -> dict[str, tuple[str, tuple[str, ...]]]:
    """CLDR's short name and keywords by code point."""
    found = {}
    for package, key in (
        ("cldr-annotations-full/annotations", "annotations"),
        ("cldr-annotations-derived-full/annotationsDerived", "annotationsDerived"),
    ):
        table = _json(modules / package / "en" / "annotations.json")[key]["annotations"]
        for characters, entry in table.items():
            code_point = plain("-".join(f"{ord(c):04x}" for c in characters))
            if "tts" in entry:
                found[code_point] = (entry["tts"][0], tuple(entry.get("default", ())))
    return found


def drawings(modules: Path, vendor: str) -> dict[str, str]:
    """Where each code point's drawing is: a file, or for Noto the name in the icon set."""
    if vendor == "noto":
        chars = _json(modules / "@iconify-json/noto/chars.json")
        return {plain(code_point): name for code_point, name in chars.items()}
    folder, pattern = {
        "twemoji": ("@twemoji/svg", "*.svg"),
        "fluent": ("@lobehub/fluent-emoji-3d/assets", "*.webp"),
        "openmoji": ("openmoji/color/svg", "*.svg"),
    }[vendor]
    return {plain(path.stem): str(path) for path in sorted((modules / folder).glob(pattern))}


def plain(code_point: str) -> str:
    """The code point in the form that all vendors share."""
    return code_point.lower().replace("-fe0f", "")


def choose_shown(emoji: list[Emoji]) -> list[Emoji]:
    """A fixed draw, a third of each subgroup within limits; single code points only."""
    rng = np.random.default_rng(SEED)
    by_subgroup = defaultdict(list)
    for one in emoji:
        if len(one.parts) == 1:
            by_subgroup[one.subgroup].append(one)
    shown: set[str] = set()
    for members in by_subgroup.values():
        if len(members) < LEAST_IN_SUBGROUP:
            continue
        n = int(np.clip(round(SHARE_SHOWN * len(members)), LEAST_SHOWN, MOST_SHOWN))
        shown |= {members[i].code_point for i in rng.choice(len(members), n, replace=False)}
    return [one for one in emoji if one.code_point in shown]


def draw_all(modules: Path, emoji: list[Emoji], folder: Path) -> None:
    """Write ``folder/vendor/code_point.webp`` for every vendor; what is there stays."""
    for vendor in VENDORS:
        (folder / vendor).mkdir(parents=True, exist_ok=True)
        artist = Artist(modules, vendor)
        for one in emoji:
            path = folder / vendor / f"{one.code_point}.webp"
            if not path.is_file():
                artist.draw(one.code_point).save(path, lossless=True)


class Artist:
    """One vendor's drawings at 96 px."""

    def __init__(self, modules: Path, vendor: str) -> None:
        self.where = drawings(modules, vendor)
        self.icons = _json(modules / "@iconify-json/noto/icons.json") if vendor == "noto" else None

    def draw(self, code_point: str) -> Image.Image:
        """The drawing on white."""
        large = self._large(self.where[code_point]).convert("RGBA")
        # A few are some pixels taller than wide.
        side = max(large.size)
        white = Image.new("RGBA", (side, side), "white")
        white.alpha_composite(large, ((side - large.width) // 2, (side - large.height) // 2))
        flat = white.convert("RGB")
        return flat.resize((SHIPPED_PX, SHIPPED_PX), Image.Resampling.LANCZOS)

    def _large(self, where: str) -> Image.Image:
        if where.endswith(".webp"):
            return Image.open(where)
        svg = self._icon(where) if self.icons else Path(where).read_text("utf-8")
        import resvg_py

        png = resvg_py.svg_to_bytes(svg_string=svg, width=DRAWN_PX, height=DRAWN_PX)
        return Image.open(io.BytesIO(bytes(png)))

    def _icon(self, name: str) -> str:
        icon, default = self.icons["icons"][name], self.icons
        width = icon.get("width", default.get("width", 16))
        height = icon.get("height", default.get("height", 16))
        space = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
        return f'<svg {space} viewBox="0 0 {width} {height}">{icon["body"]}</svg>'


def write_list(emoji: list[Emoji]) -> None:
    """Write pictures.csv: one row a picture, paths from the list's own folder."""
    columns = ["path", "identity", "subgroup", "category", "vendor", "code_point", "keywords"]
    with (FOLDER / "pictures.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.DictWriter(file, columns, lineterminator="\n")
        rows.writeheader()
        for one in emoji:
            words = asdict(one) | {"keywords": "; ".join(one.keywords)}
            for vendor in VENDORS:
                path = f"{vendor}/{one.code_point}.webp"
                rows.writerow(words | {"path": path, "vendor": vendor})


def write_licences(modules: Path) -> None:
    """Put each vendor's licence, and those of the words, beside what they cover."""
    texts = modules / "spdx-license-list/licenses"
    full = {name: _json(texts / f"{name}.json")["licenseText"] for name in ("Apache-2.0", "MIT")}
    full["CC-BY-4.0"] = _json(texts / "CC-BY-4.0.json")["licenseText"]
    full["CC-BY-SA-4.0"] = (modules / "openmoji/LICENSE.txt").read_text("utf-8")
    full["MIT"] = full["MIT"].replace("<year> <copyright holders>", "Microsoft Corporation")
    for vendor, (licence, notice) in NOTICES.items():
        head = notice.format(version=PACKAGES[_package(vendor)])
        text = f"{head}\n{CHANGES}\n\n{'=' * 79}\n\n{full[licence].strip()}\n"
        (FOLDER / vendor / "LICENSE.txt").write_text(text, "utf-8")
    for name, package in (("CLDR", "cldr-annotations-full"), ("emojibase", "emojibase-data")):
        shutil.copyfile(modules / package / "LICENSE", FOLDER / f"LICENSE-{name}.txt")


def _package(vendor: str) -> str:
    return next(name for name in PACKAGES if vendor in name)


CHANGES = (
    "Changes made: drawn at 256 px on white, reduced to 96 px (Lanczos) and stored as lossless\n"
    "WebP; file names are the code points."
)
NOTICES = {
    "noto": (
        "Apache-2.0",
        "Noto Emoji, Copyright 2013 Google Inc., licensed under the Apache License 2.0.\n"
        "https://github.com/googlefonts/noto-emoji\n"
        "Taken from the npm package @iconify-json/noto {version}.",
    ),
    "twemoji": (
        "CC-BY-4.0",
        "Twemoji, Copyright Twitter, Inc and other contributors; graphics licensed under\n"
        "CC-BY 4.0 (https://creativecommons.org/licenses/by/4.0/).\n"
        "https://github.com/jdecked/twemoji\n"
        "Taken from the npm package @twemoji/svg {version}, whose packaging is MIT, Copyright\n"
        "(c) 2023 Samuel Kopp.",
    ),
    "fluent": (
        "MIT",
        "Fluent Emoji (3D), Copyright (c) Microsoft Corporation, licensed under MIT.\n"
        "https://github.com/microsoft/fluentui-emoji\n"
        "Taken from the npm package @lobehub/fluent-emoji-3d {version}, Copyright (c) 2023\n"
        "LobeHub, MIT.",
    ),
    "openmoji": (
        "CC-BY-SA-4.0",
        "All emojis in this folder designed by OpenMoji (https://openmoji.org/), the open-source\n"
        "emoji and icon project. License: CC BY-SA 4.0\n"
        "(https://creativecommons.org/licenses/by-sa/4.0/). The pictures in this folder are\n"
        "adaptations and stay under that licence.\n"
        "Taken from the npm package openmoji {version}.",
    ),
}


def _json(path: Path):
    return json.loads(path.read_text("utf-8"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder for downloads")
    modules = fetch(parser.parse_args().work)
    emoji = emoji_list(modules)
    shown = choose_shown(emoji)
    for vendor in VENDORS:
        shutil.rmtree(FOLDER / vendor, ignore_errors=True)
    draw_all(modules, shown, FOLDER)
    write_list(shown)
    write_licences(modules)
    size = sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file())
    print(
        f"{len(shown)} of {len(emoji)} code points by {len(VENDORS)} vendors, {size / 1e6:.1f} MB"
    )


if __name__ == "__main__":
    main()
