"""Table 2: few-shot classification without text."""

from __future__ import annotations

from collections.abc import Sequence

from intramodal.paper.base import Choice, Layout, Method, Table
from intramodal.paper.experiments import SHOTS
from intramodal.paper.layouts import by_dataset, by_shots

DATASETS = (
    *("imagenet", "caltech101", "oxford_pets", "stanford_cars", "oxford_flowers", "food101"),
    *("fgvc_aircraft", "eurosat", "ucf101", "dtd", "sun397"),
)

CLASSIFIERS = {"prototype": "Prototype", "lda": "LDA"}

PUBLISHED = {
    ("clip_b16", "prototype", "original"): (43.4, 55.3, 63.8, 69.6, 73.5),
    ("clip_b16", "prototype", "pca"): (50.7, 62.5, 69.7, 74.7, 77.5),
    ("clip_b16", "lda", "original"): (43.4, 60.0, 69.8, 76.1, 79.5),
    ("clip_b16", "lda", "pca"): (50.7, 62.5, 70.8, 76.5, 79.6),
    ("siglip_b16", "prototype", "original"): (57.3, 68.6, 76.3, 80.5, 82.5),
    ("siglip_b16", "prototype", "pca"): (62.1, 71.9, 78.5, 81.8, 83.7),
    ("siglip_b16", "lda", "original"): (57.3, 71.0, 79.0, 83.3, 85.3),
    ("siglip_b16", "lda", "pca"): (62.1, 72.4, 79.4, 83.3, 85.3),
    ("siglip2_b16", "prototype", "original"): (58.0, 69.7, 77.0, 80.8, 83.0),
    ("siglip2_b16", "prototype", "pca"): (63.4, 73.2, 79.4, 82.6, 84.5),
    ("siglip2_b16", "lda", "original"): (58.0, 73.2, 80.5, 84.5, 86.5),
    ("siglip2_b16", "lda", "pca"): (63.4, 74.5, 81.0, 84.7, 86.5),
    ("dinov2_b14", "prototype", "original"): (59.6, 67.1, 71.8, 76.0, 78.2),
    ("dinov2_b14", "lda", "original"): (59.6, 69.2, 75.3, 80.3, 83.3),
}
"""Mean accuracy in percent at 1, 2, 4, 8 and 16 shots."""


def _layouts(choice: Choice) -> Sequence[Layout]:
    is_whole = {dataset.name for dataset in choice.datasets} == set(DATASETS)
    means = by_shots(
        choice,
        title="Few-shot classification without text",
        experiment="few-shot",
        shots=SHOTS,
        classifiers=_classifiers,
        published=PUBLISHED if is_whole else {},
    )
    return [means, *(_details(choice, name) for name in CLASSIFIERS)]


def _details(choice: Choice, classifier: str) -> Layout:
    """Return the accuracies at most shots by data set."""
    return by_dataset(
        choice,
        title=f"{CLASSIFIERS[classifier]}, {SHOTS[-1]} shots, by data set",
        experiment="few-shot",
        metric=lambda method: f"{classifier}@{SHOTS[-1]}",
        published={},
        caption="Accuracy in percent.",
    )


def _classifiers(method: Method) -> dict[str, str]:
    return CLASSIFIERS


DECLARED = Table(
    name="table2",
    title="Table 2: few-shot classification without text",
    about="Nearest prototype and LDA on the images as they are and under PCA←, on 11 data sets.",
    datasets=DATASETS,
    models=("clip_b16", "siglip_b16", "siglip2_b16", "dinov2_b14"),
    methods=("original", "pca"),
    recipe="paper-fewshot",
    layouts=_layouts,
)
