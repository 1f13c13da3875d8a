"""Files of lines that are only ever appended to: JSON, each sealed with the SHA-256 of what stands before it on the line (no jax)."""

import hashlib
import json
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cnn_research import errors

_SEAL = ', "sha256": "%s"}'  # how a line ends, in place of the brace
_SEALED = len(_SEAL % ('0' * 64))

_log = logging.getLogger(__name__)


def seal(row: Mapping[str, Any]) -> str:
    """A row, which is not empty, as a line of JSON without its line end."""
    text = json.dumps(row, allow_nan=False)[:-1]
    return text + _SEAL % hashlib.sha256(text.encode()).hexdigest()


def unseal(line: str | bytes) -> dict[str, Any] | None:
    """The inverse of `seal`; None for what it did not write."""
    line = line.encode() if isinstance(line, str) else line
    text = line[:-_SEALED]
    if line[len(text) :] != (_SEAL % hashlib.sha256(text).hexdigest()).encode():
        return None
    return json.loads(text + b'}')


class Lines:
    """A file of rows that all have some entries. It need not be there yet; others may append to it."""

    def __init__(self, path: Path, entries: Sequence[str]):
        self.path, self._entries = path, set(entries)
        self._read = 0
        self._rows: list[dict[str, Any]] = []

    def rows(self) -> list[dict[str, Any]]:
        """All rows, in the order of the file: a list that grows, and another one only if the file shrank. Not to be changed.

        Lines that are damaged or were cut off are left out, and logged as a warning.

        Raises:
          InputError: the file is there and cannot be read.
        """
        try:
            with open(self.path, 'rb') as file:
                if os.fstat(file.fileno()).st_size < self._read:  # another file than before
                    self._read, self._rows = 0, []
                file.seek(self._read)
                new = file.read()
        except FileNotFoundError:
            self._read, self._rows = 0, []
            return self._rows
        except OSError as e:
            raise errors.InputError(f'{self.path} cannot be read ({e.strerror}): give another --workdir') from None
        new = new[: new.rfind(b'\n') + 1]  # the rest is being written
        for line in new.split(b'\n'):
            row = unseal(line)
            if row is not None and self._entries <= row.keys():
                self._rows.append(row)
            elif line:
                _log.warning('%s has a damaged line after %d good ones: it is left out', self.path, len(self._rows))
        self._read += len(new)
        return self._rows

    def append(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write rows behind the others, in one go, and through to the disk. Only one process at a time may.

        Raises:
          OSError: the disk is full, say; what was half written is taken back, or left as a line that `rows` leaves out.
        """
        text = ''.join(seal(row) + '\n' for row in rows).encode()
        if not text:
            return
        with open(self.path, 'a+b', buffering=0) as file:
            end = file.seek(0, os.SEEK_END)
            if end and os.pread(file.fileno(), 1, end - 1) != b'\n':  # someone died while writing
                text = b'\n' + text
            view = memoryview(text)
            try:
                while view:
                    view = view[file.write(view) :]
                os.fsync(file.fileno())
            except OSError:
                if file.seek(0, os.SEEK_END) == end + len(text) - len(view):  # nobody has written since
                    file.truncate(end)
                raise
