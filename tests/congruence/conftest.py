from __future__ import annotations

from tests.tiny_models import offline, shelf

__all__ = ["offline", "shelf"]
