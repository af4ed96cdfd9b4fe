"""Claim: `intramodal --help` answers in a third of a second, and loads nothing heavy.

The time of the whole process, against a Python process that does nothing.

    python benchmarks/help.py
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

N_ROUNDS = 15
HELP = [str(Path(sys.executable).with_name("intramodal")), "--help"]
NOTHING = [sys.executable, "-c", "pass"]


def seconds(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def main() -> None:
    """Print the lowest and the median of interleaved rounds."""
    rounds = [(seconds(NOTHING), seconds(HELP)) for _ in range(N_ROUNDS)]
    bare, whole = (sorted(column) for column in zip(*rounds, strict=True))
    middle = N_ROUNDS // 2
    print(
        f"--help: lowest {whole[0]:.3f} s, median {whole[middle]:.3f} s; an empty process: lowest "
        f"{bare[0]:.3f} s, median {bare[middle]:.3f} s; {N_ROUNDS} rounds; ratio of the medians "
        f"{whole[middle] / bare[middle]:.1f}"
    )


if __name__ == "__main__":
    main()
