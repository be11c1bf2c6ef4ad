"""Every Python that finds this loads it: notes in ``DISK_LOG`` what is brought to the disk.

The kernel appends each line whole, so that one order holds for all processes.
"""

import os

import umbel.store.sql as sql

_log = os.open(os.environ["DISK_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
_fsync, _replace, _append = os.fsync, os.replace, sql.SqlJournal.append


def note(*words):
    os.write(_log, "\t".join([*map(str, words)]).encode() + b"\n")


def fsync(file):
    path = os.readlink(f"/proc/self/fd/{file}")
    note("syncing", path)
    _fsync(file)
    note("synced", path)


def replace(source, target, **options):
    _replace(source, target, **options)
    note("named", os.path.abspath(source), os.path.abspath(target))


def append(self, entries):
    entries = list(entries)
    for entry in entries:
        note("journalling", entry.decode())
    number = _append(self, entries)
    note("journalled", number)
    return number


os.fsync, os.replace, sql.SqlJournal.append = fsync, replace, append
