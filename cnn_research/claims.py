"""Who works on what, among processes on any number of hosts that share a folder: no server, no clock, no lock of the file system.

    NAME.0.claim, NAME.1.claim, ...   who claimed a name, one after the other; the last one holds it
    TOKEN.beat                        a counter that its process moves once a second while it lives, and what it says of itself

The one step that decides is to make a file that must not exist yet: of all that see the owner of claim k dead, one makes claim k + 1. An
owner is dead when its counter is seen to stand still for `STILL` seconds of the watcher's own, or at once where it was a process of this
host that is gone. A process that was only paused finds that it no longer holds the name, and must not record what it made of it.
"""

import atexit
import contextlib
import functools
import os
import re
import secrets
import threading
from pathlib import Path
from typing import NamedTuple

from cnn_research import files

BEAT, STILL = 1.0, 20.0  # seconds
_TOKEN = rb'[0-9a-z]+-[0-9]+-[0-9a-z]*-[0-9a-f]+'  # of a process, see `Claims`


class Beat(NamedTuple):
    """What a process was last heard of: its token, its counter, what it says of itself."""

    token: str
    counter: int
    says: str


class Claims:
    """The claims of one process in a folder, which is made when it is first needed."""

    def __init__(self, folder: str | os.PathLike[str]):
        self.folder = Path(folder)
        self.token = f'{host()}-{os.getpid()}-{_started(os.getpid())}-{secrets.token_hex(4)}'
        self.says = ''
        self._count = 0  # of own beats: the clock that others are watched by, which stands still while this process does
        self._seen: dict[str, tuple[int | None, int]] = {}  # who -> their counter, and at which own beat it was first seen there
        self._ended: threading.Event | None = None

    def claim(self, name: str) -> bool:
        """Whether this process now holds the name; a living other one may. Raises OSError where the folder cannot be written."""
        self._live()
        numbers = self._numbers(name)
        last = numbers[-1] if numbers else None
        owner = '' if last is None else self.owner(name, last)
        if last is not None and (owner is None or self._alive(owner, f'{name}.{last}')):
            return False
        number = 0 if last is None else last + 1
        try:
            with open(self._path(name, number), 'x') as file:
                file.write(self.token)
        except FileExistsError:
            return False
        # If the dead owner's claim is gone, another process took it over and gave it up, all since we looked.
        if (last is None or self.owner(name, last) == owner) and self.holds(name):
            if owner:
                (self.folder / f'{owner}.beat').unlink(missing_ok=True)
            return True
        self._path(name, number).unlink(missing_ok=True)
        return False

    def holds(self, name: str) -> bool:
        """Whether the last claim is this process's."""
        numbers = self._numbers(name)
        return bool(numbers) and self.owner(name, numbers[-1]) == self.token

    def release(self, name: str) -> None:
        """Give the name up: this process's claims vanish, and those that it took over, the newest last; not what others claimed since."""
        numbers = self._numbers(name)
        mine = max((number for number in numbers if self.owner(name, number) == self.token), default=-1)
        for number in numbers:
            if number <= mine:
                self._path(name, number).unlink(missing_ok=True)

    def owner(self, name: str, number: int) -> str | None:
        """The token of a claim; None where it is gone. Empty: it is just being written, its writer died in between, or it is damaged."""
        return _owner(self._path(name, number))

    def beats(self) -> list[Beat]:
        """What is there of all processes that live or were killed."""
        return [beat for path in self.folder.glob('*.beat') if (beat := self._beat(path.stem))] if self.folder.is_dir() else []

    def tidy(self) -> bool:
        """Remove what dead processes left behind, such as claims of what they had finished; whether no other process may be living.

        Of a process of another host that takes two looks, `STILL` seconds apart.
        """
        others = {path.stem for kind in ('beat', 'tmp') for path in self.folder.glob(f'*.{kind}')} - {self.token}
        gone = [token for token in others if not self._alive(token, token)]
        for token in gone:
            for kind in ('beat', 'tmp'):
                (self.folder / f'{token}.{kind}').unlink(missing_ok=True)
        owners = {path: _owner(path) for path in self.folder.glob('*.[0-9]*.claim')}
        # Counters are looked for after the owners were read: who lives has one before any claim. No owner: anyone may be writing it.
        counters = {path.stem for path in self.folder.glob('*.beat')} - {self.token}
        for path, owner in owners.items():
            if owner not in (None, self.token) and not (counters if owner == '' else owner in counters):
                path.unlink(missing_ok=True)
        return len(gone) == len(others)

    def close(self) -> None:
        """No more beats: what is still held may be taken over, by processes of this host once this one has ended."""
        if self._ended is not None:
            self._ended.set()
            self._thread.join()
            with contextlib.suppress(OSError):
                (self.folder / f'{self.token}.beat').unlink(missing_ok=True)
            self._ended = None
            atexit.unregister(self.close)

    def _numbers(self, name: str) -> list[int]:
        """The numbers of a name's claims, rising."""
        return files.numbers(self.folder, name, 'claim', 9)

    def _path(self, name: str, number: int) -> Path:
        return self.folder / f'{name}.{number}.claim'

    def _beat(self, token: str) -> Beat | None:
        try:
            counter, _, says = (self.folder / f'{token}.beat').read_text().partition(' ')
            return Beat(token, int(counter), says)
        except (OSError, ValueError):  # none, or one that is just being written
            return None

    def _alive(self, token: str, claim: str) -> bool:
        """Whether the owner of a claim lives, as far as can be told; one whose name is not written yet is known by the claim."""
        if token == self.token:
            return True
        if gone_from_here(token):
            return False
        beat = self._beat(token) if token else None
        counter = beat.counter if beat else None
        before, since = self._seen.get(token or claim, (None, None))
        if since is None or counter != before:
            self._seen[token or claim] = (counter, self._count)
            return True
        return (self._count - since) * BEAT < STILL

    def _live(self) -> None:
        """Begin to move the counter, if it does not move yet."""
        if self._ended is not None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        self._ended = threading.Event()
        atexit.register(self.close)
        self._move()  # before any claim, so that whoever sees one sees its owner's counter
        self._thread = threading.Thread(target=self._go_on, args=(self._ended,), daemon=True)
        self._thread.start()

    def _go_on(self, ended: threading.Event) -> None:
        while not ended.wait(BEAT):
            self._move()

    def _move(self) -> None:
        self._count += 1
        path = self.folder / f'{self.token}.beat'
        # A full disk, or a folder that is gone, shows where results are written.
        with contextlib.suppress(OSError):
            path.with_suffix('.tmp').write_text(f'{self._count} {self.says}')
            os.replace(path.with_suffix('.tmp'), path)


def _owner(path: Path) -> str | None:
    """See `Claims.owner`."""
    try:
        found = path.read_bytes()
    except FileNotFoundError:
        return None
    return found.decode() if re.fullmatch(_TOKEN, found) else ''


def gone_from_here(token: str) -> bool:
    """Whether a token is that of a process of this host which has ended."""
    where, pid, started, _ = [*token.split('-'), '', '', ''][:4]
    if where != host() or not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):  # another user's
        pass
    return started != '' and _started(int(pid)) not in (started, '')


@functools.cache
def host() -> str:
    """This boot of this machine, in letters and digits; a container that sees other processes is another host."""
    try:
        boot = Path('/proc/sys/kernel/random/boot_id').read_text().strip().replace('-', '')
        return f'{boot}{os.stat("/proc/self/ns/pid").st_ino:x}'
    except OSError:
        return secrets.token_hex(16)


def _started(pid: int) -> str:
    """When a process of this host began, in ticks since boot, 'ended' for one that waits to be missed; '' where that is not to be seen."""
    try:
        fields = Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()
    except OSError:
        return ''
    return fields[19] if fields[0] != 'Z' else 'ended'
