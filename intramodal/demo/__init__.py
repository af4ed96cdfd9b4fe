"""What the demo shows: real pictures and a small real model, both shipped with the package.

README.md in this folder says what they are, how they were made, and what they are not.
"""

from __future__ import annotations

from pathlib import Path


def pictures_list() -> Path:
    """Return the list of the shipped pictures.

    Returns
    -------
    Path
        A CSV with the columns ``path`` (from the list's own folder), ``identity``, ``subgroup``,
        ``category``, ``vendor``, ``code_point`` and ``keywords``; each code point appears once
        per vendor.

    Examples
    --------
    >>> pictures_list().name
    'pictures.csv'
    """
    return Path(__file__).parent / "pictures" / "pictures.csv"
