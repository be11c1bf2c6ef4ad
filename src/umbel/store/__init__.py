"""Journals, and objects named by their content: what keeps bytes and knows nothing of them."""

from umbel.store.journal import Journal
from umbel.store.objects import Objects

__all__ = [
    "Journal",
    "Objects",
]
