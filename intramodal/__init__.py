"""Image-to-image search with CLIP-like embeddings in Qdrant."""

__version__ = "0.1.0"
