"""Losses: of tuples, over whole batches, and the table of all."""
