"""A model that is not downloaded, without a network: one sentence, before libraries are loaded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.kit import make_declared

D = 512
WORDS = {
    "ingest": "ingest pictures --collection new --model {model}",
    "fit": "fit --model {model} -o o.safetensors",
    "image": "search photos --vectors raw --image pictures/a.png",
    "text": "search photos --vectors raw --text cat",
    "texts": "evaluate text photos:raw --labels kind",
    "oti": "evaluate oti photos:raw --labels kind",
}
SAID = """
import json, sys
from click.testing import CliRunner
from intramodal.cli import cli
said = {}
for name, words in json.loads(sys.argv[1]).items():
    result = CliRunner().invoke(cli, words.split())
    said[name] = [result.exit_code, result.output]
print(json.dumps([said, list(sys.modules)]))
"""


@pytest.mark.parametrize(
    "model", ["hf:org/absent", "open_clip:hf-hub:org/absent", "open_clip:ViT-B-32:openai"]
)
def test_every_command_says_so_before_it_loads_torch(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for library in ("torch", "open_clip", "transformers"):
        pytest.importorskip(library)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (8, 8)).save("pictures/a.png")
    X = np.random.default_rng(0).normal(size=(20, D)).astype(np.float32)
    make_declared(X, [{"kind": "ab"[i % 2]} for i in range(20)], model, "pca.safetensors")
    words = {name: line.format(model=model) for name, line in WORDS.items()}
    done = subprocess.run(
        [sys.executable, "-c", SAID, json.dumps(words)],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        check=True,
    )
    said, modules = json.loads(done.stdout.splitlines()[-1])
    sentence = f"model {model!r} is not completely downloaded, and HF_HUB_OFFLINE is set; without"
    found = {name: (code, sentence in text) for name, (code, text) in said.items()}
    assert found == dict.fromkeys(words, (1, True)), said
    assert not {"torch", "open_clip", "transformers"} & set(modules)
