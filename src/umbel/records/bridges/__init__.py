"""Bridges between named NumPy arrays and the objects of other libraries, one file a library."""

__all__: list[str] = []
