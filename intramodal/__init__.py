"""Image-to-image search with CLIP-like embeddings in Qdrant.

Names below are imported when they are first used, so that ``import intramodal`` loads neither
torch nor scikit-learn nor qdrant_client.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from intramodal.evaluation.baselines.class_texts import ClassTexts as ClassTexts
    from intramodal.evaluation.baselines.class_texts import ClassWords as ClassWords
    from intramodal.evaluation.baselines.oti import InversionMap as InversionMap
    from intramodal.evaluation.baselines.oti import OtiSettings as OtiSettings
    from intramodal.evaluation.baselines.oti import invert_images as invert_images
    from intramodal.evaluation.baselines.oti_retrieval import (
        compare_inversion as compare_inversion,
    )
    from intramodal.evaluation.baselines.oti_retrieval import (
        evaluate_inversion as evaluate_inversion,
    )
    from intramodal.evaluation.compare import CompareSettings as CompareSettings
    from intramodal.evaluation.compare import compare as compare
    from intramodal.evaluation.compare import compare_vectors as compare_vectors
    from intramodal.evaluation.fewshot import evaluate_fewshot as evaluate_fewshot
    from intramodal.evaluation.fewshot_text import evaluate_fewshot_text as evaluate_fewshot_text
    from intramodal.evaluation.index_search import IndexSearch as IndexSearch
    from intramodal.evaluation.index_search import evaluate_index as evaluate_index
    from intramodal.evaluation.misalignment import measure_misalignment as measure_misalignment
    from intramodal.evaluation.recovery import recover_with_anchors as recover_with_anchors
    from intramodal.evaluation.recovery import recover_without_anchors as recover_without_anchors
    from intramodal.evaluation.recovery_curve import recovery_curve as recovery_curve
    from intramodal.evaluation.retrieval import evaluate_retrieval as evaluate_retrieval
    from intramodal.evaluation.text_retrieval import (
        evaluate_text_retrieval as evaluate_text_retrieval,
    )
    from intramodal.evaluation.unlabelled import neighbour_overlap as neighbour_overlap
    from intramodal.evaluation.unlabelled import pseudo_labels as pseudo_labels
    from intramodal.ingest.backfill import backfill as backfill
    from intramodal.ingest.encoders import load_encoder as load_encoder
    from intramodal.ingest.sources import open_source as open_source
    from intramodal.projection.anchors import AnchorSet as AnchorSet
    from intramodal.projection.artifact import Projection as Projection
    from intramodal.projection.isoclip import IsoClip as IsoClip
    from intramodal.projection.text_pca import TextPCA as TextPCA
    from intramodal.reports.html import render_report as render_report
    from intramodal.runs import RunLedger as RunLedger
    from intramodal.store.collection import ImageCollection as ImageCollection
    from intramodal.store.open import open_store as open_store

__version__ = "0.1.0"

_HOMES = {
    "AnchorSet": "projection.anchors",
    "ClassTexts": "evaluation.baselines.class_texts",
    "ClassWords": "evaluation.baselines.class_texts",
    "CompareSettings": "evaluation.compare",
    "ImageCollection": "store.collection",
    "IndexSearch": "evaluation.index_search",
    "InversionMap": "evaluation.baselines.oti",
    "IsoClip": "projection.isoclip",
    "OtiSettings": "evaluation.baselines.oti",
    "Projection": "projection.artifact",
    "RunLedger": "runs",
    "TextPCA": "projection.text_pca",
    "backfill": "ingest.backfill",
    "compare": "evaluation.compare",
    "compare_inversion": "evaluation.baselines.oti_retrieval",
    "compare_vectors": "evaluation.compare",
    "evaluate_fewshot": "evaluation.fewshot",
    "evaluate_fewshot_text": "evaluation.fewshot_text",
    "evaluate_index": "evaluation.index_search",
    "evaluate_inversion": "evaluation.baselines.oti_retrieval",
    "evaluate_retrieval": "evaluation.retrieval",
    "evaluate_text_retrieval": "evaluation.text_retrieval",
    "invert_images": "evaluation.baselines.oti",
    "load_encoder": "ingest.encoders",
    "measure_misalignment": "evaluation.misalignment",
    "neighbour_overlap": "evaluation.unlabelled",
    "open_source": "ingest.sources",
    "open_store": "store.open",
    "pseudo_labels": "evaluation.unlabelled",
    "recover_with_anchors": "evaluation.recovery",
    "recover_without_anchors": "evaluation.recovery",
    "recovery_curve": "evaluation.recovery_curve",
    "render_report": "reports.html",
}

__all__ = [
    "AnchorSet",
    "ClassTexts",
    "ClassWords",
    "CompareSettings",
    "ImageCollection",
    "IndexSearch",
    "InversionMap",
    "IsoClip",
    "OtiSettings",
    "Projection",
    "RunLedger",
    "TextPCA",
    "__version__",
    "backfill",
    "compare",
    "compare_inversion",
    "compare_vectors",
    "evaluate_fewshot",
    "evaluate_fewshot_text",
    "evaluate_index",
    "evaluate_inversion",
    "evaluate_retrieval",
    "evaluate_text_retrieval",
    "invert_images",
    "load_encoder",
    "measure_misalignment",
    "neighbour_overlap",
    "open_source",
    "open_store",
    "pseudo_labels",
    "recover_with_anchors",
    "recover_without_anchors",
    "recovery_curve",
    "render_report",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'intramodal' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"intramodal.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
