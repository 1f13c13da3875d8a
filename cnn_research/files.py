"""Writing files so that a reader never meets half of one."""

import contextlib
import errno
import os
import re
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path

from cnn_research import errors

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def atomic_write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write `text` (UTF-8, line ends as given) to `path`, whole or not at all, as `atomic_write_bytes` does."""
    atomic_write_bytes(path, text.encode('utf-8'))


def atomic_write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Write `content` to `path`, whole or not at all, as `atomic_write` does."""
    atomic_write(path, [content])


def atomic_write(path: str | os.PathLike[str], parts: Iterable[bytes]) -> None:
    """Write all parts to `path`, one after the other, whole or not at all.

    The content goes to a temporary file in the same folder, reaches the disk, and then takes the place of `path` in one
    step. If anything fails before that step, the temporary file is removed and the old file stays as it was.
    """
    path = Path(path)
    temporary = path.with_name(f'.{path.name}.{secrets.token_hex(6)}.tmp')
    try:
        # Mode 'x' never touches a file that exists, and unlike `tempfile` it leaves the permissions to the umask.
        with open(temporary, 'xb') as file:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make the new name itself survive a power cut; only POSIX systems can open a folder."""
    if os.name != 'posix':
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def numbers(folder: str | os.PathLike[str], name: str, suffix: str, digits: int) -> list[int]:
    """The numbers, of at most so many digits, of the files NAME.NUMBER.SUFFIX in a folder, rising; none where there is no folder."""
    pattern = re.compile(f'{re.escape(name)}\\.([0-9]{{1,{digits}}})\\.{suffix}')
    with contextlib.suppress(FileNotFoundError):
        return sorted(int(match[1]) for match in map(pattern.fullmatch, os.listdir(folder)) if match)
    return []


@contextlib.contextmanager
def writing(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Whatever writes to the folder within raises InputError, not OSError: the disk is full, or the folder cannot be written."""
    try:
        yield
    except BrokenPipeError:  # of what is printed meanwhile
        raise
    except OSError as e:
        if e.errno in _FULL:
            text = f'the disk is full, or a quota is reached: free some space for {folder}'
            raise errors.InputError(f'{text}, then run the same command again') from None
        raise errors.InputError(f'cannot write to {folder} ({e.strerror}): give another --workdir') from None
