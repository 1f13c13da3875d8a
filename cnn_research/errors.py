"""The exceptions whose message is for the user, the checks that raise them, and how the problems of several checks become one."""

import contextlib
import math
import re
import sys
from collections.abc import Callable, Collection, Iterator
from typing import Any

LARGEST = 10**9  # of what is counted; what is more is a slip
_LONG = 200  # characters; of a longer value the beginning and the end are shown
_ALIKE, _BEGUN = 0.6, 0.2  # the `SequenceMatcher.ratio` from which on a name is suggested, and how much more its beginning needs


class InputError(ValueError):
    """Bad input: a message for each problem, that says what is wrong and what to do. The text is a line for each.

    What asks for the impossible raises it before anything is written; a disk that fills up later loses no finished cell. The command line
    prints the message alone and exits with status 2.
    """

    def __str__(self) -> str:
        return '\n'.join(' '.join(str(message).split()) for message in self.args)


class TooLargeError(InputError):
    """What was asked for needs more memory than this machine has; in a sweep that cell is refused and the others go on."""


class WorkerError(RuntimeError):
    """A worker process died, for want of memory most likely. The command line prints the message and exits with status 1."""


class Check:
    """Calls functions and remembers the InputErrors that they raise."""

    def __init__(self) -> None:
        self.found: list[InputError] = []

    def __call__(self, function: Callable[..., Any], *args: Any, otherwise: Any = None, **named: Any) -> Any:
        """What the function returns of these arguments, or `otherwise` where it raises InputError."""
        try:
            return function(*args, **named)
        except InputError as e:
            self.found.append(e)
            return otherwise


@contextlib.contextmanager
def gathered() -> Iterator[Check]:
    """Hands out a `Check`, and raises at the end what it remembers as one InputError, every message once.

    What raises InputError within ends the checks, and is one of them. Where all are TooLargeErrors, so is the one.
    """
    check = Check()
    try:
        yield check
    except InputError as e:
        check.found.append(e)
    if check.found:
        kinds = {type(e) for e in check.found}
        kind = kinds.pop() if len(kinds) == 1 else InputError
        raise kind(*dict.fromkeys(message for e in check.found for message in e.args)) from None


def of_each(kind: str, names: Collection[str], function: Callable[[str], Any]) -> None:
    """Calls the function with every name.

    Raises:
      InputError: with every message that it raises, once, and the names for which it does, unless for all of several.
    """
    found: dict[str, list[str]] = {}
    for name in names:
        try:
            function(name)
        except InputError as e:
            for message in e.args:
                found.setdefault(message, []).append(name)
    if found:
        several = len(names) > 1
        raise InputError(*(
            message if several and len(own) == len(names) else f'{kind}{"s" * (len(own) > 1)} {", ".join(own)}: {message}'
            for message, own in found.items()
        ))  # fmt: skip


def differences(old: Any, new: Any, path: str = '') -> list[str]:
    """Where two trees of dicts differ, as 'path was old, now new'."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = list(dict.fromkeys([*old, *new]))
        return [d for key in keys for d in differences(old.get(key), new.get(key), f'{path}.{key}' if path else key)]
    was, now = (value if isinstance(value, str) else shown(value) for value in (old, new))
    return [] if old == new else [f'{path} was {was}, now {now}']


def nearest(name: Any, names: Collection[str]) -> str | None:
    """The name that this one is most like, or like the beginning of, whatever the case; None where it is like none."""
    import difflib  # for errors alone

    if not isinstance(name, str) or not name:
        return None
    matcher = difflib.SequenceMatcher(b=name.lower())

    def alike(other: str) -> float:
        ratios = []
        for text in (other, other[: len(name)]):
            matcher.set_seq1(text.lower())
            ratios.append(matcher.ratio())
        return max(ratios[0], ratios[1] - _BEGUN)

    best = max(names, key=alike, default='')
    return best if alike(best) >= _ALIKE else None


def known(kind: str, name: Any, names: Collection[str]) -> InputError:
    """The error for an unknown name: it suggests the nearest one and lists all that are known."""
    near = nearest(name, names)
    suggestion = ';' if near is None else f': did you mean {near!r}?'
    return InputError(f'unknown {kind} {shown(name)}{suggestion} known: {", ".join(names)}')


def shown(value: Any) -> str:
    """A value of any kind as a message shows it: as Python writes it, shortened."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # of thousands of digits, or of lists in each other
        return f'a value too long to be written ({type(value).__name__})'
    return text if len(text) <= _LONG else f'{text[: _LONG - 50]} ... {text[-40:]}'


def require(holds: bool, message: str) -> None:
    """Raises InputError with this message unless the condition holds."""
    if not holds:
        raise InputError(message)


def positive(name: str, value: Any) -> None:
    """Raises InputError unless `value` is a whole number above zero."""
    whole(name, value, 1)


def whole(name: str, value: Any, at_least: int, at_most: int = LARGEST) -> None:
    """Raises InputError unless `value` is a whole number within these bounds."""
    if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
        raise InputError(f'{name} must be a whole number of at least {at_least}, got {shown(value)}')
    require(value <= at_most, f'{name} must be at most {at_most:,}, got {shown(value)}')


def real(name: str, value: Any, *, above: float = -math.inf, at_least: float = -math.inf, below: float = math.inf) -> None:
    """Raises InputError unless `value` is a finite number within the bounds."""
    number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
    if not number or value <= above or value < at_least or value >= below:
        low = f'above {above}' if above > -math.inf else f'at least {at_least}'
        high = f' and below {below}' if below < math.inf else ''
        raise InputError(f'{name} must be a finite number {low}{high}, got {shown(value)}')


def member(kind: str, value: Any, names: Collection[str]) -> None:
    """Raises InputError, as `known` words it, unless `value` is one of these names."""
    if not isinstance(value, str) or value not in names:
        raise known(kind, value, names)


def truth(name: str, value: Any) -> None:
    """Raises InputError unless `value` is True or False."""
    require(isinstance(value, bool), f'{name} must be True or False, got {shown(value)}')


def text(name: str, value: Any) -> None:
    """Raises InputError unless `value` is text, of characters that files can hold: half a surrogate pair is none."""
    whole = isinstance(value, str) and not re.search('[\ud800-\udfff]', value)
    require(whole, f'{name} must be text, got {shown(value)}')
