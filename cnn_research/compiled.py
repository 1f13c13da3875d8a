"""Compiled programs on disk, so that the next process need not compile them again: JAX's own cache, in a folder of this user alone."""

import hashlib
import os
import platform
import stat
from pathlib import Path

import jax
import jaxlib

_WORTH_KEEPING = 0.1  # seconds of compilation


def keep() -> Path | None:
    """Switch the cache on for this process: the folder, or None where there can be no private one (then programs are compiled anew).

    It is a folder of $XDG_CACHE_HOME (~/.cache). A cached program is machine code that will run, so the folder must belong to this user and
    be closed to others. Programs of another jaxlib, kind of processor or number of threads have folders of their own, for the bits that
    they compute may differ.
    """
    try:
        base = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache')
        folder = base / 'cnn_research' / f'jaxlib-{jaxlib.__version__}-{_machine()}'
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
    except (OSError, RuntimeError):  # no home, or none that can be written
        return None
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        return None
    jax.config.update('jax_compilation_cache_dir', str(folder))
    jax.config.update('jax_persistent_cache_min_compile_time_secs', _WORTH_KEEPING)
    jax.config.update('jax_persistent_cache_min_entry_size_bytes', -1)
    return folder


def _machine() -> str:
    """The kind of processor and the number of threads that XLA will use."""
    threads = os.environ.get('NPROC') or os.cpu_count()
    return _digest(f'{processor()} {threads} {os.environ.get("XLA_FLAGS", "")}')


def processor() -> str:
    """The kind of processor, by what it can do: machine code that suits one may compute other bits, or not run, on another."""
    try:
        lines = Path('/proc/cpuinfo').read_text().splitlines()
    except OSError:
        lines = [platform.processor()]
    flags = next((line for line in lines if line.startswith(('flags', 'Features'))), lines[0] if lines else '')
    return f'{platform.machine()}-{_digest(flags)}'


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
