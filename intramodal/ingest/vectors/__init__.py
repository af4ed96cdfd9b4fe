"""Ready vectors: matrices in files, and what belongs to their rows."""
