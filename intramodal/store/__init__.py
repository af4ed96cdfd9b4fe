"""The only place that knows Qdrant."""
