"""Saved states: one file each, whole or not at all, verified byte by byte before anything of it is used (imports no jax).

    cnn_research checkpoint 1
    {"leaves": [{"path", "dtype", "shape"}, ...], "facts": ..., "made_by": ...}
    the bytes of the leaves, little-endian, in the order of the header
    SHA-256 of all that stands before it, in hexadecimal

`facts` are what belongs to the state, `made_by` is what its bits depend on. Of every name the two newest files are kept, so that there is
one to fall back to: NAME.NUMBER.checkpoint.
"""

import hashlib
import itertools
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from cnn_research import errors, files

_MAGIC = b'cnn_research checkpoint 1\n'
_SEAL = 65  # bytes at the end: the digest and a line end
_KEPT = 2
_TYPES = ('bool', 'uint8', 'int32', 'int64', 'uint32', 'float32', 'float64')
_DTYPES = {name: np.dtype(name) for name in _TYPES} | {'bfloat16': np.dtype(ml_dtypes.bfloat16)}


class Saved(NamedTuple):
    """A state as it was saved: arrays by path, the facts, and what it was made by."""

    leaves: Mapping[str, np.ndarray]
    facts: dict[str, Any]
    made_by: dict[str, Any]


class DamagedError(Exception):
    """A file is not what was written; the message says how."""


def encoded(saved: Saved) -> Iterator[bytes]:
    """The content of a file, part by part, never more than one array of it at a time.

    Raises:
      TypeError: an array of a type that is not written.
    """
    leaves = {path: np.ascontiguousarray(leaf).reshape(np.shape(leaf)) for path, leaf in saved.leaves.items()}
    for path, leaf in leaves.items():
        if str(leaf.dtype) not in _DTYPES:
            raise TypeError(f'{path} is {leaf.dtype}; written are {", ".join(_DTYPES)}')
    described = [{'path': path, 'dtype': str(leaf.dtype), 'shape': list(leaf.shape)} for path, leaf in leaves.items()]
    header = json.dumps({'leaves': described, 'facts': saved.facts, 'made_by': saved.made_by}).encode()
    little = (leaf.astype(leaf.dtype.newbyteorder('<'), copy=False) for leaf in leaves.values())
    digest = hashlib.sha256()
    for part in itertools.chain((_MAGIC, header, b'\n'), (leaf.tobytes() for leaf in little)):
        digest.update(part)
        yield part
    yield digest.hexdigest().encode() + b'\n'


def decode(content: bytes) -> Saved:
    """The inverse of `encoded`. Raises DamagedError for anything else: no byte is used before all are verified."""
    if not content.startswith(_MAGIC):
        raise DamagedError('it does not begin as one')
    body = memoryview(content)[:-_SEAL]
    if content[-_SEAL:] != hashlib.sha256(body).hexdigest().encode() + b'\n':
        raise DamagedError('its SHA-256 is not that of its content')
    end = content.index(b'\n', len(_MAGIC))
    header, at, leaves = json.loads(content[len(_MAGIC) : end]), end + 1, {}
    for leaf in header['leaves']:
        dtype, shape = _DTYPES[leaf['dtype']], tuple(leaf['shape'])
        size = dtype.itemsize * math.prod(shape)
        leaves[leaf['path']] = np.frombuffer(body[at : at + size], dtype).reshape(shape)
        at += size
    return Saved(leaves, header['facts'], header['made_by'])


def save(folder: str | os.PathLike[str], name: str, number: int, saved: Saved) -> None:
    """Write NAME.NUMBER.checkpoint, and then remove all of the name but the two newest. Raises OSError; what was there stays."""
    folder = Path(folder)
    files.atomic_write(_path(folder, name, number), encoded(saved))
    for old in numbers(folder, name)[:-_KEPT]:
        _path(folder, name, old).unlink(missing_ok=True)


def newest(folder: str | os.PathLike[str], name: str, warn: Callable[[str], None]) -> tuple[Path, Saved] | None:
    """The newest good state of a name with its file; None where there is none.

    A file that is damaged is removed, `warn` is told, and the one before it is tried.

    Raises:
      InputError: a file cannot be read, which says nothing of what it holds.
    """
    folder = Path(folder)
    for number in reversed(numbers(folder, name)):
        path = _path(folder, name, number)
        try:
            return path, decode(path.read_bytes())
        except OSError as e:
            raise errors.InputError(f'{path} cannot be read ({e.strerror}): try again') from None
        except DamagedError as e:
            warn(f'{path} is damaged ({e}): removed, the state before it is tried')
            path.unlink(missing_ok=True)
    return None


def check(path: Path, leaves: Mapping[str, np.ndarray], expected: Mapping[str, Any]) -> None:
    """Refuse a whole file that has other leaves than expected (arrays or shapes by path); nothing is ever cast.

    Raises:
      InputError: with the path of the first leaf that is missing, one too many, or of another shape or type.
    """
    hint = 'it belongs to another network or version: remove it, or give another --workdir'
    for name in dict.fromkeys([*expected, *leaves]):
        found, wanted = leaves.get(name), expected.get(name)
        if wanted is None or found is None:
            raise errors.InputError(f'{path} {"holds" if wanted is None else "lacks"} {name}: {hint}')
        if (found.shape, found.dtype) != (tuple(wanted.shape), np.dtype(wanted.dtype)):
            text = f'{name} as {found.dtype}{list(found.shape)}, not {np.dtype(wanted.dtype)}{list(wanted.shape)}'
            raise errors.InputError(f'{path} holds {text}: {hint}')


def remove(folder: str | os.PathLike[str], name: str) -> None:
    """Remove all states of a name."""
    for number in numbers(folder, name):
        _path(Path(folder), name, number).unlink(missing_ok=True)


def numbers(folder: str | os.PathLike[str], name: str) -> list[int]:
    """The numbers of a name's files, rising."""
    return files.numbers(folder, name, 'checkpoint', 18)


def _path(folder: Path, name: str, number: int) -> Path:
    return folder / f'{name}.{number}.checkpoint'
