"""The same work in other systems, for comparison side by side."""
