"""The one exception that means "the input can be mended"."""


class InputError(ValueError):
    """Bad input: the message is one line that says what is wrong and what to do.

    Raised before anything is written. The command line prints the message alone and exits with status 2.
    """


def known(kind: str, name: str, names) -> InputError:
    """The error for an unknown name: it lists the known ones."""
    return InputError(f'unknown {kind} {name!r}; known: {", ".join(names)}')
