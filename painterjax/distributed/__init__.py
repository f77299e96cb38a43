"""Devices and processes: the mesh, the processes that train together, compiled programs."""
