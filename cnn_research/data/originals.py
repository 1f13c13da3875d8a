"""The original files of the sets known by name: what they are called and hold, and how they are checked and read.

Nothing here is trusted before its SHA-256 is the pinned one, and never more of a file is read than it should hold.
"""

import gzip
import hashlib
import os
import pathlib
import tarfile
import zlib
from collections.abc import Callable
from typing import IO, cast

import numpy as np

from cnn_research.data import formats
from cnn_research.data.dataset import Split
from cnn_research.data.pins import ORIGINALS, Original, OriginalSet
from cnn_research.errors import InputError

LARGEST_ARCHIVE = 1 << 28  # bytes when decompressed; that of CIFAR-10 has 184 million

Reader = Callable[[Original], bytes]  # returns the verified content of an original file


class _Bounded:
    """What an archive is read through: the headers of its members may claim any length, and are read as a whole."""

    def __init__(self, file: gzip.GzipFile):
        self._file, self._left = file, LARGEST_ARCHIVE

    def read(self, size: int) -> bytes:
        """The next bytes, at most `size`. Raises tarfile.ReadError beyond `LARGEST_ARCHIVE`."""
        self._left -= size
        if self._left < 0:
            raise tarfile.ReadError(f'it holds more than {LARGEST_ARCHIVE} bytes')
        return self._file.read(size)


def verify(known: OriginalSet, raw_dir: str) -> None:
    """Checks every original file of the set under `raw_dir`.

    Raises:
      InputError: names the file that is missing, damaged or another one than it should be.
    """
    read = reader(known, raw_dir)
    for original in known.files:
        read(original)


def reader(known: OriginalSet, raw_dir: str) -> Reader:
    """The function that reads and verifies the original files of a set under `raw_dir`.

    Raises:
      InputError: `raw_dir` has none of the folders in which the files may lie.
    """
    raw = pathlib.Path(os.path.expanduser(raw_dir))
    folder = next((raw / name for name in known.folders if (raw / name).is_dir()), None)
    if folder is None:
        places = ' or '.join(str(raw / name) for name in known.folders)
        raise InputError(f'no original files of {known.name}: there is no folder {places}; check --raw_dir')
    return lambda original: read_file(folder / original.file, original)


def read_file(path: pathlib.Path, original: Original) -> bytes:
    """The verified content of an original file, decompressed where its name ends in .gz.

    Raises:
      InputError: the file is missing, unreadable, damaged or another one.
    """
    if not path.is_file():
        raise InputError(f'original file missing: {path}; put the file {original.file} there')
    try:
        with cast(IO[bytes], gzip.open(path) if path.suffix == '.gz' else path.open('rb')) as file:
            content = _read_bounded(file, original)
    except (OSError, EOFError, zlib.error) as error:  # gzip.BadGzipFile is an OSError
        raise InputError(f'cannot read original file {path}: {error}; fetch it again') from error
    return _verified(content, original, str(path))


def read_member(archive: pathlib.Path, member: str, original: Original) -> bytes:
    """The verified content of one file inside a .tar.gz archive. It is read in memory: nothing is unpacked to disk.

    Raises:
      InputError: the archive is damaged or has no such member, or the member is another file than it should be.
    """
    try:
        with gzip.open(archive) as file, tarfile.open(fileobj=cast(IO[bytes], _Bounded(file)), mode='r|') as tar:
            found = next((tar.extractfile(entry) for entry in tar if entry.name == member and entry.isreg()), None)
            content = b'' if found is None else _read_bounded(found, original)
    except (OSError, EOFError, zlib.error, tarfile.TarError, ValueError) as error:
        raise InputError(f'cannot read {member} in {archive}: {error}; remove the archive and try again') from error
    return _verified(content, original, f'{member} in {archive}')


def decode(known: OriginalSet, split: str, read: Reader) -> Split:
    """The examples of a split ('train' or 'test') in the order of the original files."""
    return formats.FORMATS[known.format].decode([read(original) for original in known.of(split)])


def verify_records(known: OriginalSet, split: str, records: Split) -> str | None:
    """Whether examples in the order of TFDS are exactly those of the original files.

    Returns:
      The name of the first original file whose content they do not reproduce, None where all agree.
    """
    order = record_order(split, len(records.labels))
    in_original_order = records.take(np.argsort(order))
    contents = formats.FORMATS[known.format].encode(in_original_order, [original.size for original in known.of(split)])
    for original, content in zip(known.of(split), contents, strict=True):
        if hashlib.sha256(content).hexdigest() != original.sha256:
            return original.file
    return None


def record_order(split: str, count: int) -> np.ndarray:
    """The index in the original files (int [N]) of every TFDS record.

    TFDS orders records by the MD5 of the split's name and the example's key, which is this index in all known sets.
    So the order of a prepared set is the same whoever prepared it, and into how many files.
    """
    md5 = hashlib.md5(split.encode(), usedforsecurity=False)

    def key(index: int) -> bytes:
        hashed = md5.copy()
        hashed.update(str(index).encode())
        return hashed.digest()

    return np.array(sorted(range(count), key=key), np.int64)


def _read_bounded(file: IO[bytes], original: Original) -> bytes:
    # One byte more than expected tells a file that is too long; a decompression bomb gets no further.
    return file.read(original.size + 1)


def _verified(content: bytes, original: Original, where: str) -> bytes:
    digest = hashlib.sha256(content).hexdigest()
    if digest == original.sha256:
        return content
    other = next((f'{each.file} of {known.name}' for known in ORIGINALS.values() for each in known.files
                  if each.sha256 == digest), None)  # fmt: skip
    if other is not None:
        found = f'the content of {other}'
    elif len(content) != original.size:
        amount = f'more than {original.size}' if len(content) > original.size else len(content)
        found = f'{amount} bytes{formats.describe_idx(content)}'
    else:
        found = f'SHA-256 {digest[:16]}...'
    expected = f'{original.size} bytes with SHA-256 {original.sha256[:16]}...'
    raise InputError(f'wrong content in original file {where}: found {found}, expected {expected}; fetch it again')
