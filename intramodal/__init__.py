"""Image-to-image search with CLIP-like embeddings in Qdrant.

Names below are imported when they are first used, so that ``import intramodal`` loads neither
torch nor scikit-learn nor qdrant_client.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from intramodal.evaluation.agreement import compare_unlabelled as compare_unlabelled
    from intramodal.evaluation.agreement import neighbour_overlap as neighbour_overlap
    from intramodal.evaluation.agreement import pseudo_labels as pseudo_labels
    from intramodal.evaluation.compare import compare as compare
    from intramodal.evaluation.compare import compare_results as compare_results
    from intramodal.evaluation.fewshot import evaluate_fewshot as evaluate_fewshot
    from intramodal.evaluation.fewshot_text import evaluate_fewshot_text as evaluate_fewshot_text
    from intramodal.evaluation.index import IndexSearch as IndexSearch
    from intramodal.evaluation.index import evaluate_index as evaluate_index
    from intramodal.evaluation.misalignment import measure_misalignment as measure_misalignment
    from intramodal.evaluation.recovery import recover_with_anchors as recover_with_anchors
    from intramodal.evaluation.recovery import recover_without_anchors as recover_without_anchors
    from intramodal.evaluation.recovery import recovery_curve as recovery_curve
    from intramodal.evaluation.resampling import Resampling as Resampling
    from intramodal.evaluation.retrieval import evaluate_retrieval as evaluate_retrieval
    from intramodal.evaluation.rivals.class_texts import ClassTexts as ClassTexts
    from intramodal.evaluation.rivals.class_texts import ClassWords as ClassWords
    from intramodal.evaluation.rivals.oti import InversionMap as InversionMap
    from intramodal.evaluation.rivals.oti import KeptTexts as KeptTexts
    from intramodal.evaluation.rivals.oti import OtiSettings as OtiSettings
    from intramodal.evaluation.rivals.oti import evaluate_inversion as evaluate_inversion
    from intramodal.evaluation.rivals.oti import invert_images as invert_images
    from intramodal.evaluation.rivals.oti import stored_texts as stored_texts
    from intramodal.evaluation.tasks import Sides as Sides
    from intramodal.evaluation.text_retrieval import (
        evaluate_text_retrieval as evaluate_text_retrieval,
    )
    from intramodal.ingest.backfill.in_place import backfill as backfill
    from intramodal.ingest.encoders.registry import load_encoder as load_encoder
    from intramodal.ingest.sources.formats import open_source as open_source
    from intramodal.ingest.vectors.export import export_vector as export_vector
    from intramodal.projection.anchors import AnchorSet as AnchorSet
    from intramodal.projection.fit import fit_projection as fit_projection
    from intramodal.projection.isoclip import IsoClip as IsoClip
    from intramodal.projection.projection import Projection as Projection
    from intramodal.projection.text_pca import TextPCA as TextPCA
    from intramodal.reports.report import render_report as render_report
    from intramodal.runs.ledger import RunLedger as RunLedger
    from intramodal.store.collection import ImageCollection as ImageCollection
    from intramodal.store.open import open_store as open_store
    from intramodal.store.search import search as search

__version__ = "0.1.0"

_HOMES = {
    "AnchorSet": "projection.anchors",
    "ClassTexts": "evaluation.rivals.class_texts",
    "ClassWords": "evaluation.rivals.class_texts",
    "ImageCollection": "store.collection",
    "IndexSearch": "evaluation.index",
    "InversionMap": "evaluation.rivals.oti",
    "IsoClip": "projection.isoclip",
    "KeptTexts": "evaluation.rivals.oti",
    "OtiSettings": "evaluation.rivals.oti",
    "Projection": "projection.projection",
    "Resampling": "evaluation.resampling",
    "RunLedger": "runs.ledger",
    "Sides": "evaluation.tasks",
    "TextPCA": "projection.text_pca",
    "backfill": "ingest.backfill.in_place",
    "compare": "evaluation.compare",
    "compare_results": "evaluation.compare",
    "compare_unlabelled": "evaluation.agreement",
    "evaluate_fewshot": "evaluation.fewshot",
    "evaluate_fewshot_text": "evaluation.fewshot_text",
    "evaluate_index": "evaluation.index",
    "evaluate_inversion": "evaluation.rivals.oti",
    "evaluate_retrieval": "evaluation.retrieval",
    "evaluate_text_retrieval": "evaluation.text_retrieval",
    "export_vector": "ingest.vectors.export",
    "fit_projection": "projection.fit",
    "invert_images": "evaluation.rivals.oti",
    "load_encoder": "ingest.encoders.registry",
    "measure_misalignment": "evaluation.misalignment",
    "neighbour_overlap": "evaluation.agreement",
    "open_source": "ingest.sources.formats",
    "open_store": "store.open",
    "pseudo_labels": "evaluation.agreement",
    "recover_with_anchors": "evaluation.recovery",
    "recover_without_anchors": "evaluation.recovery",
    "recovery_curve": "evaluation.recovery",
    "render_report": "reports.report",
    "search": "store.search",
    "stored_texts": "evaluation.rivals.oti",
}

__all__ = [
    "AnchorSet",
    "ClassTexts",
    "ClassWords",
    "ImageCollection",
    "IndexSearch",
    "InversionMap",
    "IsoClip",
    "KeptTexts",
    "OtiSettings",
    "Projection",
    "Resampling",
    "RunLedger",
    "Sides",
    "TextPCA",
    "__version__",
    "backfill",
    "compare",
    "compare_results",
    "compare_unlabelled",
    "evaluate_fewshot",
    "evaluate_fewshot_text",
    "evaluate_index",
    "evaluate_inversion",
    "evaluate_retrieval",
    "evaluate_text_retrieval",
    "export_vector",
    "fit_projection",
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
    "search",
    "stored_texts",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'intramodal' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"intramodal.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
