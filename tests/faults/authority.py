"""A certificate authority of one's own, and the certificates that it signs."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Authority:
    """`ca` is what clients are given; keys lie beside the certificates."""

    folder: Path

    @classmethod
    def made(cls, folder: Path) -> Authority:
        """Make one; skips the test where there is no openssl."""
        if shutil.which("openssl") is None:
            pytest.skip("openssl is not installed")
        own = cls(folder)
        _openssl(
            *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=Own"),
            *("-addext", "basicConstraints=critical,CA:TRUE", "-out", str(own.ca)),
            *("-keyout", str(own.ca.with_suffix(".key"))),
        )
        return own

    @property
    def ca(self) -> Path:
        """The authority's own certificate."""
        return self.folder / "ca.pem"

    def sign(self, name: str, *, days: int = 2) -> Path:
        """Return a certificate for a host; its key has the suffix ``.key``."""
        path = self.folder / f"{name}.pem"
        key, request = path.with_suffix(".key"), path.with_suffix(".csr")
        extension = path.with_suffix(".ext")
        extension.write_text(f"subjectAltName=DNS:{name}\n")
        _openssl(
            *("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}"),
            *("-keyout", str(key), "-out", str(request)),
        )
        _openssl(
            *("x509", "-req", "-in", str(request), "-days", str(days), "-CAcreateserial"),
            *("-CA", str(self.ca), "-CAkey", str(self.ca.with_suffix(".key"))),
            *("-extfile", str(extension), "-out", str(path)),
        )
        return path


def _openssl(*words: str) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True)
