"""A run folder and what is read from it: config, checkpoints, logs, embeddings, evaluation."""
