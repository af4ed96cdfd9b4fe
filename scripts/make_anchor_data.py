"""Write the two lists of ImageNet's class names that the package ships.

Sources: open_clip (IMAGENET_CLASSNAMES, MIT) and timm (its ImageNet info, Apache-2.0).
Run from the root of the repository, in an environment with both packages.
"""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "intramodal" / "projection" / "data"


def cleaned_names() -> list[str]:
    """The 1000 names cleaned up for CLIP, in index order."""
    from open_clip import IMAGENET_CLASSNAMES

    return list(IMAGENET_CLASSNAMES)


def wordnet_names() -> list[str]:
    """The first WordNet lemma of each of the 1000 classes, in index order."""
    from timm.data import ImageNetInfo

    info = ImageNetInfo()
    return [info.index_to_description(i).split(",")[0].strip() for i in range(info.num_classes())]


def main() -> None:
    for which, names in (("cleaned", cleaned_names()), ("wordnet", wordnet_names())):
        path = FOLDER / f"imagenet_{which}.txt"
        path.write_text("\n".join(names) + "\n", encoding="utf-8")
        print(f"{path.name}: {len(names)} names, {len(set(names))} different")


if __name__ == "__main__":
    main()
