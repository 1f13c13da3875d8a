"""The folder of a sweep: what it is, which cells are claimed, and what each finished cell gave (imports no jax).

study.json      experiment and base configuration; a folder belongs to one
cells.jsonl     a line per cell that was ever asked for, with its effort
results.jsonl   a line per finished cell; history.jsonl: a line per cell and epoch; deaths.jsonl: a line per worker that a cell killed
params/         the parameters of every finished cell, CELL.SHA256.npz (its first twelve digits)
states/         where trainings are that have not ended (`keeping.py`)
claims/         who works on what (`claims.py`)

Every line, and study.json, ends with the SHA-256 of what stands before it.
"""

import contextlib
import hashlib
import io
import json
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cnn_research import checkpoint, claims, errors, files
from cnn_research.lines import Lines, seal, unseal

_FORMAT = 2
OUT_OF_MEMORY = 'the system ran out of memory'
_CRASHES = 2  # of workers at the same cell, after which it is not tried again
_APPEND = '.append'  # what whoever appends to the files of lines claims; no cell is called so
_NAME = r'[A-Za-z0-9][A-Za-z0-9._+=:-]{0,199}'  # of a cell
_WAIT, _LOOKS = 0.02, 10  # seconds between looks at claims


class Ledger:
    """Reads and writes one sweep's folder; any number of processes, on any number of hosts, may hold one each."""

    def __init__(self, folder: str | os.PathLike[str]):
        self.folder = Path(folder)
        self.claims = claims.Claims(self.folder / 'claims')
        self._cells = Lines(self.folder / 'cells.jsonl', ('cell', 'arm', 'effort'))
        self._results = Lines(self.folder / 'results.jsonl', ('cell', 'attempt', 'status', 'history', 'params_sha256'))
        self._history = Lines(self.folder / 'history.jsonl', ('cell', 'attempt', 'epoch'))
        self._deaths = Lines(self.folder / 'deaths.jsonl', ('cell', 'attempt', 'how'))
        self._indexed: list[dict[str, Any]] = []
        self._index: dict[tuple[str, int], dict[int, dict[str, Any]]] = {}
        self._at = 0

    def create(self, study: Mapping[str, Any]) -> None:
        """Make the folder for a study, or join the one that is there, and remove what killed processes left half written.

        Raises:
          InputError: the folder cannot be written, or belongs to another experiment or configuration.
        """
        path, wanted = self.folder / 'study.json', json.loads(json.dumps(study))
        with files.writing(self.folder):
            if not path.exists() and self.folder.is_dir() and any(self.folder.glob('*.jsonl')):
                raise errors.InputError(f'{self.folder} holds results but no study.json: give another --workdir')
            if path.exists():
                self._belongs_to(wanted)
            (self.folder / 'params').mkdir(parents=True, exist_ok=True)
            with self._appending():  # of two that make the folder at once, one finds the other's study
                if not path.exists():
                    files.atomic_write_text(path, seal({'format': _FORMAT, **wanted}) + '\n')
        self._belongs_to(wanted)
        self.tidy()

    def _belongs_to(self, study: dict[str, Any]) -> None:
        own = self.study()
        if own.get('experiment') != study.get('experiment'):  # then all else is of another kind
            own, study = ({'experiment': each.get('experiment')} for each in (own, study))
        differing = errors.differences(own, study)
        if differing:
            raise errors.InputError(f'{self.folder} belongs to another study ({"; ".join(differing)}): give another --workdir')

    def study(self) -> dict[str, Any]:
        """What the folder is for. Raises InputError where there is no study, or it is damaged or of another version."""
        path = self.folder / 'study.json'
        try:
            text = path.read_bytes().rstrip(b'\n')
        except OSError as e:
            raise errors.InputError(f'{path} cannot be read ({e.strerror}): is this the --workdir of a run?') from None
        study = unseal(text)
        if study is None or study.pop('format', None) != _FORMAT:
            raise errors.InputError(f'{path} is damaged, or of another version of this package: take another folder')
        return study

    def ask(self, cells: Iterable[Mapping[str, Any]]) -> None:
        """Note what cells there are to be: rows with `cell` and more, of which those with a name that is noted already are left out.

        Raises:
          InputError: a name that would not do as that of a file, or the folder cannot be written.
        """
        cells = list(cells)
        for cell in cells:
            if not re.fullmatch(_NAME, cell['cell']):
                raise errors.InputError(
                    f'{cell["cell"]!r} names files: it must be up to 200 letters, digits and . _ - + = : and begin with a letter or digit'
                )
        with files.writing(self.folder), self._appending():
            noted = self.asked()
            self._cells.append([cell for cell in cells if cell['cell'] not in noted])

    def asked(self) -> dict[str, dict[str, Any]]:
        """What was noted of every cell that was ever asked for, by cell."""
        found: dict[str, dict[str, Any]] = {}
        for row in self._cells.rows():
            found.setdefault(row['cell'], row)
        return found

    def results(self) -> dict[str, dict[str, Any]]:
        """The newest row of every finished cell, by cell; but of none that lacks a part of its history, which must run again."""
        newest: dict[str, dict[str, Any]] = {}
        for row in self._results.rows():
            if row['attempt'] > newest.get(row['cell'], {'attempt': 0})['attempt']:
                newest[row['cell']] = row
        seen = self._epochs()
        return {cell: row for cell, row in newest.items() if row['history'] <= len(seen.get((cell, row['attempt']), ()))}

    def history(self) -> list[dict[str, Any]]:
        """All rows of all epochs of finished cells."""
        seen = self._epochs()
        return [entry for cell, row in self.results().items() for entry in seen.get((cell, row['attempt']), {}).values()]

    def _epochs(self) -> dict[tuple[str, int], dict[int, dict[str, Any]]]:
        """Rows of the history by cell and attempt, by epoch; the first of each, should it have been written twice."""
        rows = self._history.rows()
        if rows is not self._indexed:  # another file than before
            self._indexed, self._index, self._at = rows, {}, 0
        for row in rows[self._at :]:
            self._index.setdefault((row['cell'], row['attempt']), {}).setdefault(row['epoch'], row)
        self._at = len(rows)
        return self._index

    @contextlib.contextmanager
    def claim(self, cell: str) -> Iterator[bool]:
        """Whether this process now holds the cell; another living process may. Released at the end; a dead process holds nothing."""
        with files.writing(self.folder):
            mine = self.claims.claim(cell)
        try:
            yield mine
        finally:
            if mine:
                with contextlib.suppress(OSError):  # the folder is gone: so is the claim
                    self.claims.release(cell)

    def record(self, row: Mapping[str, Any], history: Sequence[Mapping[str, Any]], params: Mapping[str, np.ndarray]) -> bool:
        """Keep a finished cell that this process has claimed: parameters, history, then its row, so that a row means that all is there.

        False, and nothing is kept, where this process was taken for dead meanwhile and another one has the cell.

        Raises:
          InputError: the disk is full or the folder cannot be written; what was half written is taken back.
        """
        cell = row['cell']
        with files.writing(self.folder):
            sha256 = self._save(cell, params) if params else None
            with self._appending():
                own = {'attempt': self._attempts(cell) + 1}
                # Looked at last, for whatever is slow before may have been too slow.
                if not (self._still_holds(cell) and self.claims.holds(_APPEND)):
                    return False
                self._history.append([{**h, **own} for h in history])
                self._results.append([{**row, **own, 'history': len(history), 'params_sha256': sha256}])
            checkpoint.remove(self.folder / 'states', cell)
        return True

    def _still_holds(self, cell: str) -> bool:
        """Whether the cell is this process's, looked at more than once: a claim that comes too late is there for a moment."""
        for _ in range(_LOOKS):
            if self.claims.holds(cell):
                return True
            time.sleep(_WAIT)
        return False

    def died(self, cells: Iterable[str], how: str) -> None:
        """Note that a process died at these cells: of a signal, by its name, or `OUT_OF_MEMORY`."""
        with files.writing(self.folder), self._appending():
            self._deaths.append([{'cell': cell, 'attempt': self._attempts(cell) + 1, 'how': how} for cell in cells])

    def doomed(self, cell: str) -> str | None:
        """Why a cell is not to be tried again in this attempt, though it has no row; None: it may be."""
        attempt = self._attempts(cell) + 1
        deaths = [row['how'] for row in self._deaths.rows() if (row['cell'], row['attempt']) == (cell, attempt)]
        if OUT_OF_MEMORY in deaths:
            return OUT_OF_MEMORY
        return f'{len(deaths)} worker processes died at it ({", ".join(deaths)})' if len(deaths) >= _CRASHES else None

    def _attempts(self, cell: str) -> int:
        """The highest attempt at the cell of which there is a row, or an epoch that was written before its row could be."""
        rows = (row['attempt'] for row in self._results.rows() if row['cell'] == cell)
        return max(*rows, *(attempt for name, attempt in self._epochs() if name == cell), 0, 0)

    def parameters(self, cell: str) -> dict[str, np.ndarray]:
        """The parameters of a finished cell, by path.

        Raises:
          InputError: no such finished cell, or the file is not the one that was saved.
        """
        results = self.results()
        if cell not in results or results[cell]['params_sha256'] is None:
            if cell in results:
                raise errors.InputError(f'{cell} ended as {results[cell]["status"]}, without parameters')
            raise errors.known('finished cell', cell, [c for c, row in results.items() if row['params_sha256']] or ['none yet'])
        path = self._params(cell, results[cell]['params_sha256'])
        content = path.read_bytes() if path.exists() else b''
        if hashlib.sha256(content).hexdigest() != results[cell]['params_sha256']:
            raise errors.InputError(f'{path} is missing or damaged (SHA-256): remove it, and the same command makes it again')
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return dict(arrays)

    def holds_parameters(self, row: Mapping[str, Any]) -> bool:
        """Whether the file of the row's parameters is there, if it should be; `parameters` looks whether it is good."""
        return row['params_sha256'] is None or self._params(row['cell'], row['params_sha256']).exists()

    def _save(self, cell: str, arrays: Mapping[str, np.ndarray]) -> str:
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)  # type: ignore[arg-type]
        sha256 = hashlib.sha256(buffer.getbuffer()).hexdigest()
        files.atomic_write_bytes(self._params(cell, sha256), buffer.getvalue())
        return sha256

    def _params(self, cell: str, sha256: str) -> Path:
        """By its content, so that whoever has lost the cell meanwhile writes over nothing."""
        return self.folder / 'params' / f'{cell}.{sha256[:12]}.npz'

    @contextlib.contextmanager
    def _appending(self) -> Iterator[None]:
        """One process at a time."""
        while not self.claims.claim(_APPEND):
            time.sleep(_WAIT)
        try:
            yield
        finally:
            self.claims.release(_APPEND)

    def tidy(self) -> None:
        """Remove what killed processes left half written, and progress of finished cells, unless another process is at work here."""
        with files.writing(self.folder), self._appending():
            if self.claims.tidy():
                for path in self.folder.rglob('.*.tmp'):
                    path.unlink(missing_ok=True)
                for cell in self.results():
                    checkpoint.remove(self.folder / 'states', cell)
