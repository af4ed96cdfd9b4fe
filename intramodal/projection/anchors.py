"""Class names and the sentence they are put into: what PCA← takes its directions from.

Section 3.3 of arXiv 2603.16100 uses the 1000 classes of ImageNet and ``a photo of a {}``, whatever
the pictures show.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Literal

import numpy as np

from intramodal.errors import InputError, reason
from intramodal.signatures import decoded
from intramodal.types import Encoder, Floats, fingerprint, unit_rows

TEMPLATE = "a photo of a {}"

_MINIMUM = 2  # one text has no covariance
_SLUG = 40  # characters of a file's name that go into the name of a vector


@dataclass(frozen=True)
class AnchorSet:
    """Ordered class names and the template of their prompts; equal content, equal fingerprint.

    A name may occur twice (ImageNet has two cranes): it then weighs twice in the covariance, and
    rows of ready text embeddings keep lining up with the names.

    Parameters
    ----------
    names : tuple of str
        At least two, none of them blank.
    template : str or tuple of str
        Holds ``{}`` exactly once, the place of the name. Several are an ensemble: the text of a
        name is the mean of its unit texts.
    name : str
        What a vector made with these anchors is told apart by; empty for those of the paper. Not
        part of the content.

    Examples
    --------
    >>> AnchorSet(("cat", "dog")).prompts()
    ['a photo of a cat', 'a photo of a dog']
    """

    names: tuple[str, ...]
    template: str | tuple[str, ...] = TEMPLATE
    name: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        """Take any sequence of names, and refuse what makes no prompts."""
        given: object = self.names
        if isinstance(given, str):
            raise InputError(f"anchor names are a sequence of names, got the text {given!r}")
        if not isinstance(self.template, str):
            object.__setattr__(self, "template", tuple(self.template))
        object.__setattr__(self, "names", tuple(self.names))
        if len(self.names) < _MINIMUM:
            raise InputError(
                f"an anchor set needs at least {_MINIMUM} names, got {len(self.names)}; "
                f"give several hundred, or use the built-in imagenet"
            )
        blank = [row for row, name in enumerate(self.names) if not name.strip()]
        if blank:
            raise InputError(f"anchor {blank[0]} is blank; give every anchor a name")
        if not self.templates:
            raise InputError(f"an anchor set needs a template, as {TEMPLATE!r}; got none")
        for template in self.templates:
            if template.count("{}") != 1:
                raise InputError(
                    f"the template {template!r} must hold {{}} once, the place of the name, "
                    f"as in {TEMPLATE!r}"
                )

    @classmethod
    def imagenet(
        cls, which: Literal["cleaned", "wordnet"] = "cleaned", *, template: str = TEMPLATE
    ) -> AnchorSet:
        """Return the 1000 classes of ImageNet in index order.

        Parameters
        ----------
        which : {"cleaned", "wordnet"}
            The names cleaned up for CLIP (as in open_clip), or the first WordNet lemma of each
            class (as in timm, and in pytorch/hub's ``imagenet_classes.txt``).
        template : str
            Sentence around the name.
        """
        if which not in ("cleaned", "wordnet"):
            raise InputError(f"ImageNet's names come as 'cleaned' or 'wordnet', got {which!r}")
        package = resources.files("intramodal.projection")
        text = (package / "data" / f"imagenet_{which}.txt").read_text(encoding="utf-8")
        is_papers = which == "cleaned" and template == TEMPLATE
        name = "" if is_papers else {"cleaned": "imagenet"}.get(which, which)
        return cls(tuple(text.splitlines()), template, name)

    @classmethod
    def from_file(cls, path: str | Path, *, template: str = TEMPLATE) -> AnchorSet:
        """Read one name a line, UTF-8 (with or without a byte order mark).

        Space around a name is dropped and so are blank lines; a name that occurs twice is kept
        twice (see the class). The set is called after the file.
        """
        try:
            text = decoded(Path(path).read_bytes())
        except (OSError, ValueError) as error:
            raise InputError(
                f"the anchors {str(path)!r} cannot be read ({reason(error)}); "
                f"give a UTF-8 text file with one class name per line"
            ) from error
        # Not splitlines(): a name may hold a form feed or a Unicode line separator.
        names = (line.strip() for line in text.split("\n"))
        slug = re.sub(r"[^A-Za-z0-9_-]+", "_", Path(path).stem)[:_SLUG]
        return cls(tuple(name for name in names if name), template, slug)

    @property
    def templates(self) -> tuple[str, ...]:
        """The template, or all of an ensemble."""
        return (self.template,) if isinstance(self.template, str) else tuple(self.template)

    def prompts(self) -> list[str]:
        """Return one text a name, in order; of an ensemble one template after another."""
        return [template.replace("{}", name) for template in self.templates for name in self.names]

    def embed(self, encoder: Encoder) -> Floats:
        """Return the text embeddings (n, d) of the names, one row each.

        The encoder's own rows, of whatever length; of an ensemble the mean of a name's unit texts.
        """
        rows = encoder.encode_texts(self.prompts())
        if len(self.templates) == 1:
            return rows
        by_template = unit_rows(rows).reshape(len(self.templates), len(self), -1)
        return np.asarray(by_template.mean(axis=0, dtype=np.float64), dtype=np.float32)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of names and template."""
        return fingerprint({"names": list(self.names), "template": self.template})

    @property
    def n_distinct(self) -> int:
        """Number of different names."""
        return len(set(self.names))

    def __len__(self) -> int:
        """Return the number of names, repeated ones included."""
        return len(self.names)

    def __repr__(self) -> str:
        """Return count, template and the short fingerprint."""
        return f"AnchorSet({len(self)} names, {self.template!r}, {self.fingerprint[:12]})"


BUILT_IN = ("imagenet", "wordnet")


def load_anchors(anchors: str = BUILT_IN[0], template: str = TEMPLATE) -> AnchorSet:
    """Return a built-in anchor set (imagenet, wordnet) or the names in a file."""
    if anchors == "imagenet":
        return AnchorSet.imagenet(template=template)
    if anchors == "wordnet":
        return AnchorSet.imagenet("wordnet", template=template)
    if not Path(anchors).exists():
        close = difflib.get_close_matches(anchors, BUILT_IN) or BUILT_IN
        raise InputError(
            f"there is no file of anchors {anchors!r}; did you mean {' or '.join(close)}, which "
            f"are built in?"
        )
    return AnchorSet.from_file(Path(anchors), template=template)
