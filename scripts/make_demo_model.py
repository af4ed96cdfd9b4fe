"""Make the small dual encoder of the demo, in open_clip's own format.

An image tower trained on ImageNet is locked; a text tower is fitted to it on emoji that the demo
does not show. With ``--validate`` the text tower is fitted on fewer emoji and measured on the
rest, which is how every setting was chosen. See README.md beside this file for what to install.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from demo_model import measure, student, teacher, texts, tower
from demo_model.split import TRAINED_VENDORS, Split, split
from demo_model.write import check, write
from make_demo_pictures import VENDORS, Emoji, draw_all, emoji_list, fetch
from tokenizers import Tokenizer

from intramodal.demo import model_folder
from intramodal.projection.anchors import AnchorSet

FOLDER = model_folder()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder for all that is reused")
    parser.add_argument("--validate", action="store_true", help="measure; write into --work only")
    parser.add_argument("--threads", type=int, default=1, help="last bits depend on it")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    emoji = emoji_list(fetch(options.work))
    draw_all(options.work / "node_modules", emoji, options.work / "pictures")
    parts = split(emoji)
    if not options.validate:
        # What chose the settings may train the final model; what is shown may not.
        parts = Split(parts.shown, [], parts.training + parts.validation)
    make(emoji, parts, options.work, options.work / "trial" if options.validate else FOLDER)


def make(emoji: list[Emoji], parts: Split, work: Path, folder: Path) -> None:
    """Train on ``parts.training``, write into `folder`, measure on ``parts.validation``."""
    model, class_rows = tower.build()
    features = tower.picture_features(model, emoji, work)
    sentences = texts.Sentences(work)
    said = texts.Texts(parts.training, parts.shown + parts.validation)
    sentences(said.close + said.wide)
    print(f"{len(parts.training)} emoji, {len(said.close)} close and {len(said.wide)} wide texts")

    trained = [VENDORS.index(vendor) for vendor in TRAINED_VENDORS]
    pictures = features_of(parts.training, emoji, features)[trained]
    taught = teacher.train_teacher(teacher.Pairs(said, pictures, class_rows, sentences))
    tokenizer = fit_student(model, taught, said, sentences, folder)
    write(model.eval(), work, folder)
    check_some(model, tokenizer, emoji, features, work, folder)
    if parts.validation:
        chosen = features_of(parts.validation, emoji, features)
        by_teacher = partial(teacher.targets, taught, sentences)
        by_student = partial(student.embed_texts, model, tokenizer)
        report("teacher", chosen, by_teacher, parts.validation)
        report("student", chosen, by_student, parts.validation)


def features_of(some: list[Emoji], emoji: list[Emoji], features: np.ndarray) -> np.ndarray:
    """The part (vendors, n, d) of `features` that belongs to `some`."""
    rows = {one.code_point: row for row, one in enumerate(emoji)}
    return features[:, [rows[one.code_point] for one in some]]


def fit_student(
    model: torch.nn.Module,
    taught: teacher.Teacher,
    said: texts.Texts,
    sentences: texts.Sentences,
    folder: Path,
) -> Tokenizer:
    """Train the text side of `model`; writes its tokenizer into `folder`, and returns it."""
    tokenizer = student.train_tokenizer(said.close + said.wide, folder)
    close, wide = (
        (student.tokens_of(tokenizer, part), teacher.targets(taught, sentences, part))
        for part in (said.close, said.wide)
    )
    student.train_student(model, close, wide)
    model.logit_scale.data.copy_(taught.logit_scale.data)
    return tokenizer


def check_some(
    model: torch.nn.Module,
    tokenizer: Tokenizer,
    emoji: list[Emoji],
    features: np.ndarray,
    work: Path,
    folder: Path,
) -> None:
    """Compare what the package makes of the written model with what was computed here."""
    rows = range(0, len(emoji), 50)
    paths = [work / "pictures" / VENDORS[0] / f"{emoji[row].code_point}.webp" for row in rows]
    names = [f"a photo of a {emoji[row].identity}" for row in rows]
    spoken = student.embed_texts(model, tokenizer, names)
    check(folder, (paths, features[0, list(rows)]), (names, spoken))


def report(
    name: str, pictures: np.ndarray, embed: Callable[[list[str]], np.ndarray], emoji: list[Emoji]
) -> None:
    """Print retrieval before and after PCA←, and zero-shot among the names of `emoji`."""
    anchors = embed(AnchorSet.imagenet().prompts())
    names = embed([f"an emoji of a {one.identity}" for one in emoji])
    found = {
        "mAP raw, pca": measure.retrieval(pictures, anchors, emoji),
        f"zero-shot top 1 of {len(emoji)}": measure.zero_shot(pictures, names, 1),
        f"zero-shot top 5 of {len(emoji)}": measure.zero_shot(pictures, names, 5),
    }
    print(name, json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
