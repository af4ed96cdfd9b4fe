"""Draw the README's picture: the first screen of the demo's report, in headless Chromium."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

from tests.browser.chromium import screenshot

ROOT = Path(__file__).resolve().parents[1]
WIDTH, HEIGHT = 1280, 1000
MOST_BYTES = 150_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--report", type=Path, help="report of an earlier `intramodal demo`")
    given = parser.parse_args().report
    with tempfile.TemporaryDirectory() as scratch:
        report = given or demo(Path(scratch))
        shown = screenshot(report.resolve(), Path(scratch), width=WIDTH)
        draw(shown, ROOT / "docs" / "report.png")


def demo(folder: Path) -> Path:
    """Return the report of a new demo."""
    run = "from intramodal.cli import main; main()"
    subprocess.run([sys.executable, "-c", run, "demo", "--out", str(folder)], check=True)
    return folder / "report.html"


def draw(screen: Path, picture: Path) -> None:
    """Write the upper part of a screenshot in 256 colours."""
    with Image.open(screen) as opened:
        upper = opened.convert("RGB").crop((0, 0, WIDTH, HEIGHT))
    upper.quantize(256, dither=Image.Dither.NONE).save(picture, optimize=True)
    size = picture.stat().st_size
    if size > MOST_BYTES:
        raise SystemExit(f"{picture} has {size:,} bytes; show less of the page")
    print(f"{picture}: {size:,} bytes")


if __name__ == "__main__":
    main()
