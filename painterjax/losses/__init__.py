"""What training minimizes: losses of tuples, losses over whole batches, and their table."""
