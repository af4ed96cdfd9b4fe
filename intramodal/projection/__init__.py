"""Maps of stored embeddings: numpy, scipy, scikit-learn and safetensors only.

All but one are affine and make a `Projection`, so that each can be stored, backfilled and compared
alike: `Projection.from_text` (PCA←, centred PCA←), `isoclip.IsoClip`, `label_map.LabelMap`, axes
between words, and the controls of `controls`. `posterior.PosteriorMap` is the second kind of file;
`posterior.load_map` reads both.
"""
