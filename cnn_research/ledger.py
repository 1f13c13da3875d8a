"""The folder of a sweep: what it is, which cells are claimed, and what each finished cell gave (imports no jax).

study.json      experiment and base configuration; a folder belongs to one
results.jsonl   a line per finished cell; history.jsonl: a line per cell and epoch
params/         the parameters of every finished cell, CELL.npz
.claims         the file whose byte locks are the claims: they vanish with the process that holds them, however it ends
"""

import contextlib
import fcntl
import hashlib
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cnn_research import errors, files

_APPEND = 0  # the byte that whoever appends to the result files locks; claims use the others


class Ledger:
    """Reads and writes one sweep's folder; any number of processes may hold one each."""

    def __init__(self, folder: str | os.PathLike[str]):
        self.folder = Path(folder)
        self._claims: int | None = None

    def create(self, study: Mapping[str, Any]) -> None:
        """Make the folder for a study, or join the one that is there.

        Raises:
          InputError: the folder cannot be written, or belongs to another experiment or configuration.
        """
        path = self.folder / 'study.json'
        with files.writing(self.folder):
            if not path.exists() and self.folder.is_dir() and any(self.folder.glob('*.jsonl')):
                raise errors.InputError(f'{self.folder} holds results but no study.json: give another --workdir')
            (self.folder / 'params').mkdir(parents=True, exist_ok=True)
            (self.folder / '.claims').touch()
            self._lock(_APPEND, fcntl.LOCK_EX)  # of two that make the folder at once, one finds the other's study
            try:
                if not path.exists():
                    files.atomic_write_text(path, json.dumps(study, indent=1) + '\n')
            finally:
                self._lock(_APPEND, fcntl.LOCK_UN)
        differing = _differences(self.study(), json.loads(json.dumps(study)))
        if differing:
            raise errors.InputError(f'{self.folder} belongs to another study ({"; ".join(differing)}): give another --workdir')

    def study(self) -> dict[str, Any]:
        """What the folder is for. Raises InputError where there is no study or it cannot be read."""
        try:
            return json.loads((self.folder / 'study.json').read_text())
        except (OSError, ValueError) as e:
            raise errors.InputError(f'{self.folder}/study.json cannot be read ({e}): is this the --workdir of a run?') from None

    def results(self) -> dict[str, dict[str, Any]]:
        """The newest row of every finished cell, by cell."""
        return {row['cell']: row for row in self._rows('results.jsonl')}

    def history(self) -> list[dict[str, Any]]:
        """All rows of all epochs."""
        return list(self._rows('history.jsonl'))

    @contextlib.contextmanager
    def claim(self, cell: str) -> Iterator[bool]:
        """Whether this process now holds the cell; another living process may. Released at the end, or when the process dies."""
        offset = 1 + int.from_bytes(hashlib.sha256(cell.encode()).digest()[:7])
        try:
            self._lock(offset, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            yield False
            return
        try:
            yield True
        finally:
            self._lock(offset, fcntl.LOCK_UN)

    def record(self, row: Mapping[str, Any], history: Sequence[Mapping[str, Any]], params: Mapping[str, np.ndarray]) -> None:
        """Keep a finished cell: parameters, then history, then its row, so that a row means that all is there.

        Raises:
          InputError: the disk is full or the folder cannot be written; what was half written is taken back.
        """
        with files.writing(self.folder):
            sha256 = self._save(f'{row["cell"]}.npz', params) if params else None
            self._lock(_APPEND, fcntl.LOCK_EX)
            try:
                had = {(h['cell'], h['epoch']) for h in self._rows('history.jsonl') if h['cell'] == row['cell']}
                self._append('history.jsonl', [h for h in history if (h['cell'], h['epoch']) not in had])
                self._append('results.jsonl', [{**row, 'params_sha256': sha256}])
            finally:
                self._lock(_APPEND, fcntl.LOCK_UN)

    def parameters(self, cell: str) -> dict[str, np.ndarray]:
        """The parameters of a finished cell, by path.

        Raises:
          InputError: no such finished cell, or the file is not the one that was saved.
        """
        results = self.results()
        if cell not in results or results[cell]['params_sha256'] is None:
            raise errors.known('finished cell', cell, [c for c, row in results.items() if row['params_sha256']])
        path = self.folder / 'params' / f'{cell}.npz'
        content = path.read_bytes() if path.exists() else b''
        if hashlib.sha256(content).hexdigest() != results[cell]['params_sha256']:
            raise errors.InputError(f'{path} is missing or damaged (SHA-256 differs from results.jsonl): run the cell again')
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return dict(arrays)

    def _save(self, name: str, arrays: Mapping[str, np.ndarray]) -> str:
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)  # type: ignore[arg-type]
        files.atomic_write_bytes(self.folder / 'params' / name, buffer.getvalue())
        return hashlib.sha256(buffer.getbuffer()).hexdigest()

    def _lock(self, offset: int, how: int) -> None:
        # One descriptor for the ledger's life: POSIX drops all of a process's locks when it closes any descriptor of the file.
        if self._claims is None:
            self._claims = os.open(self.folder / '.claims', os.O_RDWR)
        fcntl.lockf(self._claims, how, 1, offset)

    def _rows(self, name: str) -> Iterator[dict[str, Any]]:
        path = self.folder / name
        try:
            lines = path.read_bytes().split(b'\n')
        except FileNotFoundError:
            return
        except OSError as e:
            raise errors.InputError(f'{path} cannot be read ({e.strerror}): give another --workdir') from None
        for number, line in enumerate(lines[:-1], 1):  # what follows the last line end was cut off while written
            try:
                row = json.loads(line)
            except ValueError:
                row = None
            if not isinstance(row, dict) or 'cell' not in row:
                raise errors.InputError(f'{path} line {number} is damaged: mend it, or delete the line to run its cell again')
            yield row

    def _append(self, name: str, rows: list[Mapping[str, Any]]) -> None:
        text = ''.join(json.dumps(row, allow_nan=False) + '\n' for row in rows).encode()
        with open(self.folder / name, 'a+b', buffering=0) as file:
            file.seek(0)
            whole = file.read().rfind(b'\n') + 1
            file.truncate(whole)
            try:
                view = memoryview(text)
                while view:
                    view = view[file.write(view) :]
                os.fsync(file.fileno())
            except OSError:
                file.truncate(whole)
                raise


def _differences(old: Any, new: Any, path: str = '') -> list[str]:
    """Where two trees of dicts differ, as 'path: old, now new'."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = list(dict.fromkeys([*old, *new]))
        return [d for key in keys for d in _differences(old.get(key), new.get(key), f'{path}.{key}' if path else key)]
    return [] if old == new else [f'{path} was {old}, now {new}']
