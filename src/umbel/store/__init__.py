"""Journals, and objects named by their content: what keeps bytes and knows nothing of them."""

from umbel.store.journal import Journal
from umbel.store.memory import MemoryJournal
from umbel.store.objects import ObjectStore
from umbel.store.sql import SqlJournal

__all__ = [
    "Journal",
    "MemoryJournal",
    "ObjectStore",
    "SqlJournal",
]
