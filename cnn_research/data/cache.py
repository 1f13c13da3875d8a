"""Decoded sets on disk: reading the records of TFDS takes seconds, reading the arrays a tenth of a second.

A set's folder holds images and labels of every split as .npy files, and a small JSON file, the index, with the
SHA-256 of each and the identity of the prepared set that they were read from. The index is written last, so an
interrupted write is noticed like any other damage: what does not agree is built again.
"""

import contextlib
import hashlib
import io
import json
import logging
import os
import pathlib
import secrets
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from cnn_research.data.dataset import Split

FOLDER = 'cnn_research_cache'  # under the data directory
INDEX = 'cache.json'
LAYOUT = 1  # raised when the files change their meaning

Content = tuple[dict[str, Split], tuple[str, ...]]  # the splits by name, and the names of the classes

_log = logging.getLogger(__name__)


class CacheError(Exception):
    """The cached files do not agree with the index, or with the prepared set."""


def fetch(
    root: pathlib.Path, prepared: pathlib.Path, build: Callable[[], Content], variant: str = '', identity: str | None = None
) -> Content:
    """The decoded set from the cache under `root`, or built and then cached.

    Args:
      root: the data directory.
      prepared: the folder of the prepared set, under `root`.
      build: reads the prepared set; what it raises is passed on.
      variant: what is built of the set, where that is not all of it as it is.
      identity: of the prepared set (None: its `fingerprint`).
    """
    folder = root / FOLDER / prepared.relative_to(root) / variant
    identity = fingerprint(prepared) if identity is None else identity
    if os.path.lexists(folder / INDEX):
        try:
            return _read(folder, identity)
        except Exception as error:  # what is damaged fails in any way
            _log.warning('the cache %s is damaged or stale and is built again: %s', folder, error)
    content = build()
    try:
        _write(folder, identity, *content)
    except OSError as error:  # a data directory that cannot be written or is full: the cache is a convenience
        _log.info('not cached in %s: %s', folder, error)
    return content


def fingerprint(prepared: pathlib.Path) -> str:
    """Identity of a prepared set: the SHA-256 of the names and contents of its files.

    Names and sizes do not tell: other labels make records of the same size.
    """
    digest = hashlib.sha256()
    for path in sorted(path for path in prepared.iterdir() if path.is_file()):
        with path.open('rb') as file:
            digest.update(f'{path.name} {hashlib.file_digest(file, "sha256").hexdigest()}\n'.encode())
    return digest.hexdigest()


def glance(prepared: pathlib.Path) -> str:
    """Identity of a set that is too large to be read for it: the SHA-256 of the names, sizes and times of its files."""
    files = ((path.name, path.stat()) for path in sorted(prepared.iterdir()) if path.is_file())
    return hashlib.sha256(repr([(name, stat.st_size, stat.st_mtime_ns) for name, stat in files]).encode()).hexdigest()


def _read(folder: pathlib.Path, identity: str) -> Content:
    sealed = json.loads((folder / INDEX).read_bytes())
    index = sealed['index']
    if sealed['sha256'] != _seal(index):
        raise CacheError(f'{INDEX} has changed')
    if index['layout'] != LAYOUT or index['identity'] != identity:
        raise CacheError('it belongs to another preparation of the set')
    splits = {
        name: Split(*(_read_array(folder / file, sha256) for file, sha256 in files.items())) for name, files in index['splits'].items()
    }
    return splits, tuple(index['class_names'])


def _read_array(path: pathlib.Path, sha256: str) -> np.ndarray:
    data = path.read_bytes()  # once: what is hashed is what is parsed
    if hashlib.sha256(data).hexdigest() != sha256:
        raise CacheError(f'{path.name} has changed')
    return np.load(io.BytesIO(data), allow_pickle=False)


def _write(folder: pathlib.Path, identity: str, splits: dict[str, Split], class_names: tuple[str, ...]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    index: dict[str, Any] = {'layout': LAYOUT, 'identity': identity, 'class_names': class_names, 'splits': {}}
    for name, split in splits.items():
        arrays = {f'{name}_images.npy': split.images, f'{name}_labels.npy': split.labels}
        index['splits'][name] = {file: _write_array(folder / file, array) for file, array in arrays.items()}
    with _replacing(folder / INDEX) as file:
        file.write(json.dumps({'sha256': _seal(index), 'index': index}, indent=1).encode())


def _seal(index: dict) -> str:
    return hashlib.sha256(json.dumps(index).encode()).hexdigest()


def _write_array(path: pathlib.Path, array: np.ndarray) -> str:
    """Writes an array and returns the SHA-256 of the file."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    with _replacing(path) as file:
        file.write(buffer.getbuffer())
    return hashlib.sha256(buffer.getbuffer()).hexdigest()


@contextlib.contextmanager
def _replacing(path: pathlib.Path) -> Iterator[io.BufferedWriter]:
    """A new file that takes the place of `path` at once, when it is wholly on disk."""
    temporary = path.with_name(f'.{path.name}.{secrets.token_hex(6)}.tmp')
    try:
        with temporary.open('xb') as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if path.is_dir() and not path.is_symlink():  # damage alone puts a folder there
            shutil.rmtree(path)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
