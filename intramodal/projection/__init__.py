"""Linear maps on stored embeddings: numpy, scikit-learn and safetensors only."""
