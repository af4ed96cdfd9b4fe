"""One page in headless Chromium: what it asked for, what its console said, how it looks."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

DEADLINE_S = 120
_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--hide-scrollbars", "--enable-logging=stderr", "--v=0",
    "--host-resolver-rules=MAP * ~NOTFOUND",  # what is asked for is written down, not fetched
)  # fmt: skip


def find() -> str | None:
    """Return the browser's program, or None."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next((path for name in names if (path := shutil.which(name))), None)


@dataclass(frozen=True)
class Visit:
    """What happened while a page was open.

    Parameters
    ----------
    requested : list of str
        Addresses that the page asked for beside itself; not what the browser does on its own.
    console : list of str
        Lines of the page's console, violations of its policy among them.
    dom : str
        The document as the browser understood it.
    """

    requested: list[str]
    console: list[str]
    dom: str


def visit(page: Path, scratch: Path) -> Visit:
    """Open a page and write down what it does."""
    netlog = scratch / "net.json"
    done = _run(scratch, f"--log-net-log={netlog}", "--dump-dom", page.as_uri())
    events = json.loads(netlog.read_text(encoding="utf-8"))["events"]
    started = [e["params"] for e in events if "initiator" in e.get("params", {})]
    return Visit(
        requested=sorted({p["url"] for p in started if p["initiator"] != "not an origin"}),
        console=re.findall(r"CONSOLE[^\n]*", done.stderr),
        dom=done.stdout,
    )


def screenshot(page: Path, scratch: Path, *, width: int, dark: bool = False) -> Path:
    """Return a picture (.png) of the page's first 2,000 pixels."""
    path = scratch / f"{page.stem}-{width}{'-dark' if dark else ''}.png"
    theme = ["--blink-settings=preferredColorScheme=0"] if dark else []
    _run(scratch, f"--screenshot={path}", f"--window-size={width},2000", *theme, page.as_uri())
    return path


def _run(scratch: Path, *options: str) -> subprocess.CompletedProcess[str]:
    profile = scratch / "profile"
    command = [str(find()), *_FLAGS, f"--user-data-dir={profile}", *options]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=DEADLINE_S, check=True, cwd=scratch
    )


def driven(page: Path, scratch: Path, script: str, *, width: int = 1280) -> str:
    """Return the document after a script has worked in a copy of the page without a policy."""
    text = page.read_text(encoding="utf-8")
    without = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
    copy = scratch / f"driven-{page.name}"
    copy.write_text(without.replace("</body>", f"<script>{script}</script></body>"), "utf-8")
    return _run(scratch, "--dump-dom", f"--window-size={width},2000", copy.as_uri()).stdout


def overflow(page: Path, scratch: Path, *, width: int) -> int:
    """Return by how many pixels the page, or a box of it that scrolls, is wider than it shows."""
    text = page.read_text(encoding="utf-8")
    without = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
    script = (
        "<script>const wide = [document.documentElement, ...document.querySelectorAll('.scroll')]"
        ".map(e => e.scrollWidth - e.clientWidth);"
        "document.documentElement.dataset.overflow = Math.max(...wide)</script>"
    )
    copy = scratch / f"measured-{page.name}"
    copy.write_text(without.replace("</body>", f"{script}</body>"), encoding="utf-8")
    done = _run(scratch, "--dump-dom", f"--window-size={width},2000", copy.as_uri())
    found = re.search(r'data-overflow="(-?\d+)"', done.stdout)
    assert found is not None, "the script did not run"
    return int(found[1])
