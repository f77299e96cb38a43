"""From image files to batches: listing, decoding, splitting, storing, sampling, prefetching."""
