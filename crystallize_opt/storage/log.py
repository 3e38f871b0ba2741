"""Finds transactions in SQLite's log (the file `-wal`) that SQLite does not read any more.

SQLite reads the log up to the first frame whose checksum is wrong, and ignores the rest without a
word: https://www.sqlite.org/fileformat2.html#the_write_ahead_log. That is right after a loss of
power, when the last frames may have reached the disk in part. The rest is lost all the same.
"""

from __future__ import annotations

import sqlite3
import struct
from pathlib import Path

_HEADER = struct.Struct(">8I")  # magic, version, page size, sequence, 2 salts, 2 checksums
_FRAME = struct.Struct(">6I")  # page, size of the database after a commit or 0, salts, checksums
_BIG_ENDIAN = 0x377F0683  # The magic number of a log whose checksums are of big-endian words.


def lost_frame(log: Path, connection: sqlite3.Connection) -> int | None:
    """Return the number of the first frame of a log that SQLite does not read although it should.

    That is the frame after the last one that SQLite reads, if a later one ends a transaction of the
    same log. Not one that a killed process has not finished, nor one of the log's earlier use.

    Args:
        log: The log of a private copy of the database; there need not be one.
        connection: A connection to that copy; this function moves its log into the database.
    """
    try:
        content = log.read_bytes()
    except FileNotFoundError:
        return None
    if len(content) < _HEADER.size:
        return None
    frames: int = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()[1]
    read = max(frames, 0)  # -1 without a log.
    magic, _, page_size, _, *salts, _, _ = header = _HEADER.unpack_from(content)
    if header[6:] != _checksum(content[:24], ">" if magic == _BIG_ENDIAN else "<"):
        return 1 if len(content) > _HEADER.size + _FRAME.size else None
    frame = _FRAME.size + page_size
    after = _HEADER.size + read * frame
    for start in range(after, len(content) - frame + 1, frame):
        _, commits, *its_salts, _, _ = _FRAME.unpack_from(content, start)
        if its_salts == salts and commits:
            return read + 1
    return None


def _checksum(content: bytes, order: str) -> tuple[int, int]:
    words = struct.unpack(f"{order}{len(content) // 4}I", content)
    one = other = 0
    for first, second in zip(words[::2], words[1::2], strict=True):
        one = (one + first + other) & 0xFFFFFFFF
        other = (other + second + one) & 0xFFFFFFFF
    return one, other
