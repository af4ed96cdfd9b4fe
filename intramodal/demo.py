"""Where the demo's files are: pictures, the vectors of a small model, and the model.

They are a distribution of their own, ``intramodal-demo``, so that a service that only backfills
does not carry them. Its README says what they are, how they were made, and what they are not.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from intramodal.errors import NotFound

_PACKAGE = "intramodal_demo"
_CHECKOUT = Path(__file__).parents[1] / "packages" / "demo" / _PACKAGE


def demo_folder() -> Path:
    """Return the folder of the demo's files: this checkout's own, or the installed ones.

    Raises
    ------
    NotFound
        If there are neither.
    """
    if _CHECKOUT.is_dir():
        return _CHECKOUT
    found = find_spec(_PACKAGE)
    if found is None or found.origin is None:
        raise NotFound(
            "the demo's images, vectors and model are a package of their own, which is not "
            "installed; run: pip install 'intramodal[demo]'"
        )
    return Path(found.origin).parent


def pictures_list() -> Path:
    """Return the list of the pictures, with their labels.

    Examples
    --------
    >>> pictures_list().name
    'pictures.csv'
    """
    return demo_folder() / "pictures" / "pictures.csv"


def image_vectors() -> Path:
    """Return the file of the pictures' embeddings (n, d), rows as in the list, float16."""
    return demo_folder() / "vectors" / "images.safetensors"


def text_vectors() -> Path:
    """Return the file of the embeddings (1000, d) of ImageNet's prompts, float16."""
    return demo_folder() / "vectors" / "texts.safetensors"


def model_folder() -> Path:
    """Return the folder of the model, in open_clip's format."""
    return demo_folder() / "model"
