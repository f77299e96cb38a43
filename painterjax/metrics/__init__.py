"""From embeddings to figures: triplets, pairs, retrieval, calibration, confidence intervals."""
