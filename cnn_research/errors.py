"""The exceptions whose message is for the user: the input can be mended, or a worker died."""


class InputError(ValueError):
    """Bad input: the message is one line that says what is wrong and what to do.

    What asks for the impossible raises it before anything is written; a disk that fills up later loses no finished cell. The command line
    prints the message alone and exits with status 2.
    """


class TooLargeError(InputError):
    """What was asked for needs more memory than this machine has; in a sweep that cell is refused and the others go on."""


class WorkerError(RuntimeError):
    """A worker process died, for want of memory most likely. The command line prints the message and exits with status 1."""


def known(kind: str, name: str, names) -> InputError:
    """The error for an unknown name: it lists the known ones."""
    return InputError(f'unknown {kind} {name!r}; known: {", ".join(names)}')


def positive(name: str, value: int) -> None:
    """Raises InputError unless `value` is a whole number above zero."""
    whole(name, value, 1)


def whole(name: str, value: int, at_least: int) -> None:
    """Raises InputError unless `value` is a whole number that is not too small."""
    if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
        raise InputError(f'{name} must be a whole number of at least {at_least}, got {value!r}')
