"""Pictures, vectors and a small model for `intramodal demo`: data, no code."""
