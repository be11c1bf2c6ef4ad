"""Every Python that finds this loads it: notes in ``DISK_LOG`` what is brought to the disk.

The kernel appends each line whole, so that one order holds for all processes.
"""

import os

import umbel.store.sql as sql


def record(log):
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    real_fsync, real_replace, real_append = os.fsync, os.replace, sql.SqlJournal.append

    def note(*words):
        os.write(file, "\t".join(words).encode() + b"\n")

    def fsync(handle):
        path = os.readlink(f"/proc/self/fd/{handle}")
        note("syncing", path)
        real_fsync(handle)
        note("synced", path)

    def replace(source, target, **options):
        real_replace(source, target, **options)
        note("named", os.path.abspath(source), os.path.abspath(target))

    def append(self, entries):
        entries = list(entries)
        for entry in entries:
            note("journalling", entry.decode())
        return real_append(self, entries)

    os.fsync, os.replace, sql.SqlJournal.append = fsync, replace, append


if "DISK_LOG" in os.environ:
    record(os.environ["DISK_LOG"])
