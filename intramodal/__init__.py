"""Image-to-image search with CLIP-like embeddings in Qdrant.

The public names stand in ``__init__.pyi``. They are imported when they are first used, so that
``import intramodal`` loads neither torch nor scikit-learn nor qdrant_client.
"""

import lazy_loader

__version__ = "0.2.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
