"""From pixels to embeddings: augmentation, the network, and its use for inference."""
