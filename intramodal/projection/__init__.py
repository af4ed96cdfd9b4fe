"""Linear maps on stored embeddings: numpy, scikit-learn and safetensors only.

Every method makes a `Projection`, so that each can be stored, backfilled and compared alike:
`Projection.from_text` (PCA←, centred PCA←), `isoclip.IsoClip`, and the controls of `controls`.
"""
