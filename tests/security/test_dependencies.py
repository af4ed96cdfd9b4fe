"""No package of this environment has a known weakness, where a service that knows can be asked."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(
    not os.environ.get("INTRAMODAL_AUDIT"),
    reason="INTRAMODAL_AUDIT=1 is not set: pip-audit would ask a vulnerability service",
)
def test_no_installed_package_has_a_known_weakness() -> None:
    beside = Path(sys.executable).with_name("pip-audit")
    audit = str(beside) if beside.exists() else shutil.which("pip-audit")
    assert audit, "pip-audit is not installed: pip install pip-audit"
    done = subprocess.run(
        [audit, "--format", "json", "--progress-spinner", "off", "--skip-editable"],
        capture_output=True, text=True,
    )  # fmt: skip
    packages = json.loads(done.stdout)["dependencies"]
    unknown = [p["name"] for p in packages if p.get("skip_reason")]
    assert len(unknown) < len(packages) / 10, "the service knows hardly any of the packages"
    weak = {p["name"]: [v["id"] for v in p["vulns"]] for p in packages if p.get("vulns")}
    assert weak == {}
