"""Metrics of embeddings: triplets, pairs, retrieval, calibration, confidence intervals."""
