from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass
from datetime import date
from pathlib import PurePosixPath

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intramodal.runs.scrub import Scrubber


@pytest.mark.parametrize(
    ("told", "stored"),
    [
        ("postgresql+psycopg://me:pw@host/db", "postgresql+psycopg://me:***@host/db"),
        ("at http://u:p@ss/w:rd@h:6333 now", "at http://u:***@h:6333 now"),
        ("http://h:6333/?api_key=abc&k=1", "http://h:6333/?api_key=***&k=1"),
        (
            "postgresql://u@h/db?sslmode=require&sslpassword=y1&zzz=y2;pass%77d=y3&y4",
            "postgresql://u@h/db?sslmode=require&sslpassword=***&zzz=***&pass%77d=***&y4=***",
        ),
        (
            "sqlite:///file:a.db?mode=ro&uri=true&key=y5",
            "sqlite:///file:a.db?mode=ro&uri=true&key=***",
        ),
        ("https://ghp_abc@github.com/a/b", "https://***@github.com/a/b"),
        ("Authorization: Bearer abcdefgh.ij", "Authorization: Bearer ***"),
        ("QDRANT_API_KEY=abc intramodal", "QDRANT_API_KEY=*** intramodal"),
        ("{'password': 'a b', 'k': 1}", "{'password': ***, 'k': 1}"),
        ("--api-key=abc", "--api-key=***"),
    ],
)
def test_secrets_are_masked_where_they_are_usually_written(told: str, stored: str) -> None:
    assert Scrubber([]).text(told) == stored


@pytest.mark.parametrize(
    "told",
    [
        "http://localhost:6333/collections/photos",
        "77 tokens, n_tokens: 5",
        "open_clip:ViT-B-32:openai",
        "cats/1@2x.jpg",
        "./.intramodal/runs.db",
        "the keyboard is a key: board",
    ],
)
def test_ordinary_text_stays(told: str) -> None:
    assert Scrubber([]).text(told) == told


def test_values_of_telling_options_are_masked_and_the_next_option_stays() -> None:
    command = ["x", "--api-key", "abc", "--token", "--to", "pca", "--db-password=abc", "-k", "10"]
    expected = ["x", "--api-key", "***", "--token", "--to", "pca", "--db-password=***", "-k", "10"]
    assert Scrubber([]).command(command) == expected


def test_secrets_of_the_environment_are_masked_wherever_they_occur(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SOME_SERVICE_API_KEY", "a/b c+d")
    monkeypatch.setenv("PGPASSWORD", "hunter2")
    monkeypatch.setenv("SOME_TOKEN", "true")
    scrubber = Scrubber.from_environment("postgresql://me:inurl9@h/db")
    told = "a/b c+d, quoted a%2Fb%20c%2Bd, hunter2, inurl9, true"
    assert scrubber.text(told) == "***, quoted ***, ***, ***, true"


def test_a_secret_that_begins_with_another_is_masked_whole() -> None:
    assert Scrubber(["abcd", "abcdefg"]).text("abcdefg") == "***"


@settings(deadline=None)  # slow machines
@given(
    secret=st.text(st.characters(categories=("L", "N")), min_size=8, max_size=20),
    before=st.text(max_size=20),
    after=st.text(max_size=20),
)
def test_a_known_secret_never_survives(secret: str, before: str, after: str) -> None:
    clean = Scrubber([secret]).json({"k": [before + secret + after]})["k"][0]
    assert secret not in clean


@settings(deadline=None)  # slow machines
@given(st.text(st.characters(categories=None)))
def test_every_text_becomes_one_that_databases_take(told: str) -> None:
    clean = Scrubber([]).text(told)
    assert "\0" not in clean
    clean.encode("utf-8")


@pytest.mark.parametrize("piece", ["a", "-", "a-", "key-", "://a:", "api_key", "token ", "'"])
def test_long_labels_are_scrubbed_in_time_that_grows_with_their_length(piece: str) -> None:
    def cost(n: int) -> float:
        label = piece * n
        begin = time.process_time()
        Scrubber([]).text(label)
        return time.process_time() - begin

    cost(1000)
    # 20 times as long; quadratic work would take 400 times as long
    assert cost(20_000) < 100 * max(cost(1000), 1e-3)


@dataclass(frozen=True)
class Options:
    batch_size: int
    api_key: str


def test_what_json_lacks_becomes_plain_and_secret_names_are_masked() -> None:
    told = {
        "array": np.arange(3),
        "scalar": np.float32(0.5),
        "nan": math.nan,
        "path": PurePosixPath("a/b"),
        "day": date(2026, 1, 2),
        "set": {2, 1},
        "tuple": (1, None, True),
        "options": Options(32, "abc"),
        "token": "abc",
        "n_tokens": 5,
        3: "three",
        "raw": b"half\xff",
    }
    stored = Scrubber([]).json(told)
    assert stored == {
        "array": [0, 1, 2],
        "scalar": 0.5,
        "nan": None,
        "path": "a/b",
        "day": "2026-01-02",
        "set": [1, 2],
        "tuple": [1, None, True],
        "options": {"batch_size": 32, "api_key": "***"},
        "token": "***",
        "n_tokens": 5,
        "3": "three",
        "raw": "half\\xff",
    }
    json.dumps(stored, allow_nan=False)
