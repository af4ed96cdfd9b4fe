"""Few-shot accuracy of the methods that know the class names, recorded as a run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from intramodal.commands.target import Target, TextSource
from intramodal.errors import InputError
from intramodal.evaluation.fewshot import SHOTS, FewshotResult, FewshotTask
from intramodal.evaluation.fewshot_text import METHODS, N_VALIDATION, run_fewshot_text
from intramodal.evaluation.rivals.class_texts import TEMPLATES, ClassTexts, read_texts
from intramodal.evaluation.rivals.tuning import DEFAULT_PRESET
from intramodal.evaluation.tasks import read_labelled
from intramodal.progress import tracked
from intramodal.projection.anchors import AnchorSet
from intramodal.types import VectorTable
from intramodal.workflows.evaluate.fewshot import by_field, keep_results, sides_of
from intramodal.workflows.evidence import log_origins, stated
from intramodal.workflows.workspace import open_workspace, recorded

BY_IMAGES = ("prototype", "lda", "prototype+text", "lda+text")
"""Methods that compare images by a vector of their own choice, each `--by` in turn."""

_MOST_NAMED = 5


@dataclass(frozen=True)
class FewshotTextRequest:
    """What to evaluate; the options of ``intramodal evaluate fewshot-text``."""

    target: str
    store: str
    runs: str
    labels: list[str]
    methods: list[str] = field(default_factory=lambda: list(METHODS))
    by: list[str] = field(default_factory=list)
    shots: list[int] = field(default_factory=lambda: list(SHOTS))
    episodes: int = 10
    validation: int = N_VALIDATION
    preset: str = DEFAULT_PRESET
    seed: int = 0
    min_class_size: int = 2
    split: str | None = None
    test_share: float | None = None
    template: str = TEMPLATES[0]
    model: str | None = None
    text_vectors: Path | None = None
    class_texts: Path | None = None
    classes: bool = False
    device: str | None = None
    precision: str | None = None


def evaluate_with_texts(request: FewshotTextRequest) -> dict[str, Any]:
    """Evaluate every method by every field; returns what ``--json`` prints."""
    with open_workspace(request.store, request.runs) as workspace:
        target = Target.open(workspace.store, request.target)
        if target.is_projected:
            raise InputError(
                f"texts are compared with images on the encoder's own vector, and "
                f"{target.vector!r} is projected; name `raw`, and the other with --by"
            )
        source = TextSource(
            target, request.model, request.text_vectors, request.device, request.precision
        )
        with recorded(
            workspace, "evaluate-fewshot-text", stated(request), seed=request.seed
        ) as run:
            results = _evaluated(request, target, source)
            log_origins(run, workspace.ledger, target.collection)
            keep_results(run, results)
    return {
        "collection": target.collection.name,
        "vector": target.vector,
        "texts": source.name,
        "template": request.template,
        "preset": request.preset,
        "n_validation": request.validation,
        "n_episodes": request.episodes,
        "seed": request.seed,
        "fields": by_field(results, with_classes=request.classes),
        "run_id": run.id,
    }


def _evaluated(
    request: FewshotTextRequest, target: Target, source: TextSource
) -> list[FewshotResult]:
    vectors = list(dict.fromkeys([target.vector, *request.by]))
    fields = [*request.labels, *([request.split] if request.split else [])]
    rows, split = sides_of(read_labelled(target.collection, vectors, fields), request.split)
    found: list[FewshotResult] = []
    for name in tracked(request.labels, "methods", total=len(request.labels)):
        task = FewshotTask.from_table(
            rows,
            name,
            shots=request.shots,
            n_episodes=request.episodes,
            seed=request.seed,
            min_class_size=request.min_class_size,
            split=split,
            test_share=request.test_share,
            n_validation=request.validation,
        )
        found += _of_task(request, task, rows, _texts(request, source, task), target.vector)
    return found


def _of_task(
    request: FewshotTextRequest,
    task: FewshotTask,
    rows: VectorTable,
    texts: ClassTexts,
    vector: str,
) -> list[FewshotResult]:
    """Return the results of all methods; those that compare images, by every vector."""
    found: list[FewshotResult] = []
    for n, by in enumerate(request.by or [vector]):
        methods = [name for name in request.methods if n == 0 or name in BY_IMAGES]
        if methods:
            results = run_fewshot_text(
                task, rows, texts, vector, methods, image_vector=by, preset=request.preset
            )
            found += results.values()
    return found


def _texts(request: FewshotTextRequest, source: TextSource, task: FewshotTask) -> ClassTexts:
    if request.class_texts is not None:
        return _described(request.class_texts, request, source, task)
    embedded = source.embed(AnchorSet(tuple(task.names), request.template).prompts())
    if embedded is None:
        raise InputError(
            f"{source.name} has no text tower; give ready embeddings with --text-vectors"
        )
    if len(embedded) != len(task.names):
        raise InputError(
            f"field {task.field!r} has {len(task.names)} classes and {source.name} "
            f"{len(embedded)} texts; give one a class, in the order of their names"
        )
    return ClassTexts.from_arrays(task.names, embedded)


def _described(
    path: Path, request: FewshotTextRequest, source: TextSource, task: FewshotTask
) -> ClassTexts:
    """Return the names' texts with those of a file, embedded by the model."""
    if source.file is not None:
        raise InputError(
            f"{path} holds texts that a model must embed, and {source.file} ready embeddings; "
            f"give --model instead of --text-vectors"
        )
    words = read_texts(path)
    if set(words).isdisjoint(task.names):
        raise InputError(
            f"{path} says nothing of a class of field {task.field!r}; its classes are "
            f"{_some(words)}, the field's {_some(task.names)}"
        )
    return ClassTexts.encode(source.encoder, task.names, templates=[request.template], words=words)


def _some(names: Iterable[str]) -> str:
    found = sorted(names)
    return ", ".join(repr(name) for name in found[:_MOST_NAMED]) + (
        ", ..." if len(found) > _MOST_NAMED else ""
    )
