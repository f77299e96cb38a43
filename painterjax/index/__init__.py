"""Nearest neighbors among millions of paintings, on disk."""
