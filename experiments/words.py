"""From the words of a command line to the values of flags, one flag at a time, so that all that is wrong is found."""

import itertools
from collections.abc import Iterator, Sequence

from absl.flags import Error, FlagValues, IllegalFlagValueError

from cnn_research import errors

_KINDS = {'int': 'a whole number', 'float': 'a number', 'bool': 'true or false'}  # by absl's name of it


class UnreadableError(errors.InputError):
    """Words that are no flags: what is missing for them is not known."""


def of_line(argv: Sequence[str], values: FlagValues) -> list[list[str]]:
    """The words of each flag, those in files among them. Raises UnreadableError for a file that cannot be read."""
    try:
        return list(one_by_one(values.read_flags_from_files(argv[1:]), values))
    except (Error, OSError, ValueError) as e:
        why = str(e).removeprefix('ERROR:: Unable to open flagfile: ')
        raise UnreadableError(f'cannot read a --flagfile: {why}') from None


def one_by_one(args: Sequence[str], values: FlagValues) -> Iterator[list[str]]:
    """The words of each flag: its value is a word of its own where no = stands before it, likely so where the name is unknown."""
    rest, following = iter(args), iter([*args[1:], '-'])
    for word in rest:
        name, after = name_in(word), next(following)
        if '=' not in word and (not values[name].boolean if name in values else name and not _negated(name, values) and after[:1] != '-'):
            next(following, None)
            yield [word, *itertools.islice(rest, 1)]
        else:
            yield [word]


def _negated(name: str, values: FlagValues) -> bool:
    """Whether it is 'no' and the name of a flag that is true or false."""
    return name.startswith('no') and name[2:] in values and values[name[2:]].boolean


def name_in(word: str) -> str:
    """The flag's name in '--name=value', '-name' or '--name'; nothing in what is no flag."""
    return word[1:].removeprefix('-').partition('=')[0] if word.startswith('-') else ''


def assign(words: list[str], values: FlagValues) -> None:
    """Set a flag to what its words say. Raises InputError."""
    word, name = words[0], name_in(words[0])
    if not name:
        raise UnreadableError(f'{errors.shown(word)} is no flag: write --name=value')
    if name not in values and not _negated(name, values):
        near = errors.nearest(name, list(values))
        suggestion = '' if near is None else f': did you mean --{near}?'
        raise UnreadableError(f'unknown flag {errors.shown("--" + name)}{suggestion or ";"} --help lists the flags')
    if '\0' in ''.join(words):  # from a flagfile; no system opens a file of such a name
        raise errors.InputError(f'{name} must not hold a NUL character')
    try:
        values(['', *words])
    except IllegalFlagValueError:
        value = words[1] if len(words) > 1 else word.partition('=')[2]
        raise errors.InputError(f'{name} must be {_KINDS[values[name].flag_type()]}, got {errors.shown(value)}') from None
    except Error:
        raise UnreadableError(f'{name} needs a value: write --{name}=value') from None
    except ValueError:
        raise UnreadableError(f'--{name} takes no value, got {errors.shown(word)}') from None
