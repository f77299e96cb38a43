"""painterjax: a JAX trainer for embeddings of painters' styles."""
