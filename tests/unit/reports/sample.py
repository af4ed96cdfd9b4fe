"""A report document with everything a page can show, and labels that try to break out."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from PIL import Image

from intramodal.reports.pictures import Picture
from intramodal.reports.report import Answer, Neighbours, ReportDocument

HOSTILE = "<script>alert('x')</script>"
RIGHT_TO_LEFT = "قطة صغيرة"
EMOJI = "🐈‍⬛ black cat $x_1$"


def picture(seed: int, caption: str) -> Picture:
    pixels = np.random.default_rng(seed).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize((96, 96)).save(buffer, "WEBP")
    uri = "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
    return Picture(str(seed), caption, uri)


def field(delta: float | None, verdict: str) -> dict[str, Any]:
    known = delta is not None
    shots = {"a": 0.4, "b": 0.5, "delta": 0.1, "interval": [0.05, 0.15]}
    return {
        "map": {"raw": 0.25 if known else None, "pca": 0.25 + delta if delta else None},
        "delta": delta,
        "interval": [delta - 0.01, delta + 0.01] if delta is not None else None,
        "population": "code_point",
        "p_value": 0.01 if known else None,
        "p_adjusted": 0.02 if known else None,
        "n_queries": 1600,
        "n_classes": 400,
        "wins": 800,
        "ties": 100,
        "losses": 700,
        "verdict_retrieval": verdict,
        "fewshot": {"prototype": {"1": shots, "4": {**shots, "b": 0.6}}},
        "verdict_fewshot": verdict,
        "verdict": verdict,
        "sentence": f"a sentence about {HOSTILE}",
        "others": [
            {"vector": "random", "map": 0.2, "delta": -0.05, "interval": [-0.06, -0.04]},
            {"vector": HOSTILE, "map": 0.24, "delta": -0.01, "interval": [-0.02, 0.0]},
        ],
    }


def document() -> ReportDocument:
    neighbours = Neighbours(
        field=HOSTILE,
        query=picture(0, f"{RIGHT_TO_LEFT} {HOSTILE}"),
        ap={"raw": 0.2, "pca": 0.9},
        answers={
            v: [Answer(picture(i, EMOJI), 0.9 - i / 10, i % 2 == 0) for i in range(1, 9)]
            for v in ("raw", "pca")
        },
    )
    edges = np.linspace(-1, 1, 41).tolist()
    density = np.exp(-(np.linspace(-3, 3, 40) ** 2)).tolist()
    parts = [
        {
            "label": "same class (n=1,200 pairs)",
            "density": density,
            "interval": [[0.9 * d for d in density], [1.1 * d for d in density]],
        },
        {"label": "other class (n=90,000 pairs)", "density": density[::-1]},
    ]
    return ReportDocument(
        title=f"Sample {HOSTILE}",
        about="What this is, in a sentence.",
        comparison={
            "collection": "a name with spaces\nand a newline",
            "vectors": ["raw", "pca"],
            "decision": {
                "sentence": "Use pca for identity.",
                "use": {"pca": ["identity", RIGHT_TO_LEFT], "raw": [HOSTILE]},
                "too_easy": [],
                "undecided": {"x" * 10_000: None},
                "snippet": "client.query_points('shop', using='pca')",
            },
            "fields": {
                "identity": field(0.03, "better"),
                HOSTILE: field(-0.02, "worse"),
                RIGHT_TO_LEFT: field(0.001, "not_worse"),
                "x" * 10_000: field(None, "inconclusive"),
            },
            "cost": {
                v: {
                    "dim": 256,
                    "bytes_per_vector": 1024,
                    "ram_bytes": 2.5e6,
                    "ram_bytes_int8": 6e5,
                    "latency_ms_p50": 0.4,
                    "recall_at_10": 1.0,
                    "n_probes": 50,
                }
                for v in ("raw", "pca")
            },
            "run_id": "r1",
        },
        details={
            "identity": {
                "classes": [
                    {"class": f"{EMOJI} {i}", "delta": i / 50 - 0.2, "n_queries": 4}
                    for i in range(30)
                ]
            }
        },
        misalignment=[
            {
                "title": "raw by identity",
                "vector": "raw",
                "edges": edges,
                "parts": parts,
                "modality": {"edges": edges, "parts": parts, "speaks_of": f"texts {HOSTILE}"},
                "speaks_of": "new images of the same 4 classes",
            },
            {"title": f"pca by {HOSTILE}", "edges": edges, "parts": parts, "modality": None},
        ],
        precision_recall=[
            {
                "field": HOSTILE,
                "recall": [0.0, 0.5, 1.0],
                "precision": {"raw": [0.9, 0.4, 0.1], "pca": [0.95, 0.5, 0.1]},
                "chance": 0.05,
                "n_queries": 1600,
                "n_averaged": 1000,
                "interval": {"raw": [[0.85, 0.35, 0.05], [0.95, 0.45, 0.15]]},
                "speaks_of": f"other values of {HOSTILE}",
            }
        ],
        spectrum={
            "explained_variance_ratio": (0.97 ** np.arange(256) * 0.03).tolist(),
            "n_kept": 128,
            "n_anchors": 1000,
        },
        sweep=[
            {
                "field": "identity",
                "dims": [32, 64, 128, 256],
                "map": [0.2, 0.26, 0.28, 0.25],
                "raw_map": 0.25,
                "knee": 64,
            }
        ],
        neighbours=[neighbours],
        run={"id": "r1", "command": "intramodal compare", "versions": {"numpy": "2"}},
    )
