"""The command line of every experiment: flags, grouped help, and the configuration they make (absl is used here alone)."""

import dataclasses
import itertools
import re
import shlex
import sys
import textwrap
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, TypeVar

from absl import flags

from cnn_research import ablation, config, errors, geometry, sweep
from experiments import words

FLAGS = flags.FLAGS
T = TypeVar('T')

_WHAT = 'What runs'
_DATA = 'Data'
_MODEL = 'Network (the arms change some of these; per-stage values are lists, or one value for all stages)'
_TRAIN = 'Training'

LAUNCHERS = ('local', 'slurm')
OF_SLURM = ('tasks', 'sbatch', 'dry_run')
TASKS = 4
_RATES = ', '.join(f'{rate:g}' for rate in ablation.RATES)
# group, name, parser, help. The default is the experiment's own unless it is said here.
_TABLE: tuple[tuple[str, str, Any, str], ...] = (
    (_WHAT, 'arms', str, 'which arms, by name, separated by commas, or all'),
    (_WHAT, 'seeds', int, 'how many seeds'),
    (_WHAT, 'workdir', str, 'folder of results; the same command again resumes, more arms or seeds extend it (runs/NAME)'),
    (_WHAT, 'workers', int, 'processes (one per core on a CPU, one on an accelerator)'),
    (_WHAT, 'retry', bool, 'run cells once more that failed'),
    (_WHAT, 'save_every', float, f'seconds between savings of a training that has not ended ({sweep.SAVE_EVERY:g})'),
    (_WHAT, 'data_parallel', int, 'devices that share every batch (on accelerators those that seeds leave over)'),
    (_WHAT, 'model_parallel', int, 'devices that share the parameters of large layers (1)'),
    (
        _WHAT,
        'distributed',
        str,
        'be one of several processes that train together: auto (SLURM, Cloud TPU, ...) or HOST:PORT,PROCESSES,INDEX',
    ),
    (_WHAT, 'launcher', LAUNCHERS, 'where: here, or as one array of SLURM jobs that share the cells (local)'),
    (_WHAT, 'tasks', int, f'of slurm: jobs in the array ({TASKS})'),
    (_WHAT, 'sbatch', str, 'of slurm: options of sbatch, such as "--partition=gpu --gres=gpu:1 --time=4:00:00"'),
    (_WHAT, 'dry_run', bool, 'of slurm: print what would be submitted, and do nothing'),
    (_WHAT, 'profile', bool, "also trace a few steps of each arm's first training, for the profiler"),
    (_WHAT, 'tune', bool, f'also try the learning rates {_RATES} on validation data, and give each arm its own best'),
    (_DATA, 'dataset', str, 'digits (embedded), fashion_mnist, mnist, cifar10, or any prepared TFDS image classification set'),
    (_DATA, 'data_dir', str, 'where TFDS keeps prepared data (TFDS_DATA_DIR or ~/tensorflow_datasets)'),
    (_DATA, 'raw_dir', str, 'folder of the original files, such as RAW/fashion_mnist/*.gz: prepare from there, without network'),
    (_DATA, 'train_size', int, 'number of training images'),
    (_DATA, 'canvas', 'size', 'put images on a black canvas of this side or HEIGHTxWIDTH; none: leave them as they are'),
    (_DATA, 'train_positions', config.POSITIONS, 'where on the canvas training puts images'),
    (_DATA, 'unseen_positions', config.POSITIONS, 'where else to test; positions used in training are left out; none: nowhere'),
    (_MODEL, 'features', 'ints', 'maps per stage'),
    (_MODEL, 'kernel_size', 'ints', 'side of the square filters'),
    (_MODEL, 'strides', 'ints', 'stride of the filters'),
    (_MODEL, 'pools', 'ints', 'side and stride of the pool after each stage; 1: none'),
    (_MODEL, 'downsampling', config.DOWNSAMPLING, 'how the pools pool'),
    (_MODEL, 'padding', geometry.PADDINGS, 'what lies beyond the border'),
    (_MODEL, 'norm', config.NORMS, 'normalisation after each map'),
    (_MODEL, 'head', config.HEADS, 'what ends the maps'),
    (_MODEL, 'hidden', 'ints', 'units of hidden dense layers after the head; 0: none'),
    (_MODEL, 'compute', config.COMPUTE, 'what layers multiply in; parameters are float32'),
    (_TRAIN, 'epochs', int, 'passes over the training images'),
    (_TRAIN, 'batch_size', int, 'images per step'),
    (_TRAIN, 'optimizer', config.OPTIMIZERS, 'Adam, SGD with Nesterov momentum 0.9, or Adadelta'),
    (_TRAIN, 'learning_rate', float, 'the highest rate of the schedule'),
    (_TRAIN, 'schedule', config.SCHEDULES, 'what the rate does after its linear warm-up'),
    (_TRAIN, 'warmup', float, 'share of all steps in which the rate rises'),
    (_TRAIN, 'weight_decay', float, 'weight decay, decoupled (for adadelta a part of the gradient)'),
    (_TRAIN, 'patience', int, 'end when the validation loss has had no new minimum for so many epochs, with the weights of the minimum'),
    (_TRAIN, 'shift', int, 'augmentation: move every training image on its canvas by up to so many pixels'),
    (_TRAIN, 'skip_nonfinite', int, 'leave out up to so many updates in a row that are not finite; 0: end at the first'),
    (_TRAIN, 'flip', bool, 'augmentation: mirror training images, left for right, half of the time'),
)
_FIELDS = {'kernel_size': 'kernel_sizes'}  # flag -> field of ModelConfig, where the names differ
_FOLDERS = ('workdir', 'data_dir', 'raw_dir', 'run')
_CAN_BE_NONE = ('canvas', 'unseen_positions')
_UNREAD = object()


def define() -> None:
    """Define all flags, once."""
    if 'arms' in FLAGS:
        return
    for _, name, kind, text in _TABLE:
        if kind is bool:
            flags.DEFINE_bool(name, None, text)
        elif kind is int:
            flags.DEFINE_integer(name, None, text)
        elif kind is float:
            flags.DEFINE_float(name, None, text)
        else:
            flags.DEFINE_string(name, None, text)


def read(argv: Sequence[str], values: flags.FlagValues, asked: Callable[[], T], kinds: bool = False) -> T:
    """What a command line asks for: the first thing that every command does, before it looks at data or makes anything.

    asked: of the flags that were read, what they mean. kinds: whether a flag can decide which others have a meaning, so that nothing is
    said of those where one is misspelled.

    Raises:
      InputError: with everything that is wrong with the flags, as far as it can be known without data.
    """
    with errors.gathered() as check:
        values(argv[:1])  # flags that are not given, or not well, have their defaults
        for own in check(words.of_line, argv, values, otherwise=()):
            check(words.assign, own, values)
        for name in _FOLDERS:
            check(errors.require, name not in values or values[name].value != '', f'{name} must name a folder, got nothing')
        if not kinds or not any(isinstance(e, words.UnreadableError) for e in check.found):
            return check(asked)
    raise AssertionError('what is wrong was raised')


def help_text(experiment: ablation.Experiment, doc: str) -> str:
    """What --help prints: the experiment's own words, its arms, and the flags by group with this experiment's defaults."""
    arms = 'Arms: ' + ', '.join(experiment.default or experiment.arms)
    if experiment.default:
        arms += f'; --arms=all: {len(experiment.arms)} in all'
    lines = [doc.strip(), '', *textwrap.wrap(arms, 100, subsequent_indent='  ')]
    group = None
    for where, name, kind, text in _TABLE:
        if where != group:
            lines += ['', f'{where}:']
            group = where
        known = f' [{" | ".join(kind)}]' if isinstance(kind, tuple) else ''
        lines += textwrap.wrap(f'  --{name:<17} {text}{known}{_shown_default(experiment, name)}', 118, subsequent_indent=' ' * 22)
    return '\n'.join(lines)


def _shown_default(experiment: ablation.Experiment, name: str) -> str:
    own = experiment.small.data.dataset
    fixed = {'dataset': own, 'seeds': str(experiment.seeds), 'arms': 'all' if experiment.default is None else 'those above'}
    if name in fixed:
        return f' ({fixed[name]})'
    bases = [_current(base, name) for base in (experiment.small, experiment.full or experiment.small)]
    if bases[0] is _NOT_A_FIELD:
        return ''
    small, full = (_shown(name, value) for value in bases)
    if name == 'train_size':
        small = full = 'all'
    return f' ({small})' if small == full else f' ({own}: {small}; other sets: {full})'


def _shown(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return 'yes' if value else 'no'
    if isinstance(value, tuple):
        return ('x' if name == 'canvas' else ',').join(map(str, value)) or 'none'
    return 'none' if value is None else str(value)


_NOT_A_FIELD = object()


def _current(base: config.Config, name: str) -> Any:
    field = _FIELDS.get(name, name)
    for part in (base.model, base.data, base.train):
        if field != 'dataset' and hasattr(part, field):
            return getattr(part, field)
    return _NOT_A_FIELD


def base_config(experiment: ablation.Experiment) -> config.Config:
    """The experiment's base for the data set asked for, changed by the flags that were given.

    Raises:
      InputError: values that the configuration refuses, or that every arm would replace.
    """
    with errors.gathered() as check:
        name = experiment.small.data.dataset if FLAGS.dataset is None or 'dataset' in experiment.owns else FLAGS.dataset
        base = check(experiment.base, name, otherwise=experiment.small)
        given = _given(experiment, base, check)
        parts = {part: check(dataclasses.replace, getattr(base, part), **given[part]) for part in given}
    return config.Config(**parts)


def _given(experiment: ablation.Experiment, base: config.Config, check: errors.Check) -> dict[str, dict[str, Any]]:
    """The fields that the flags change, by part of the configuration."""
    given: dict[str, dict[str, Any]] = {'model': {}, 'data': {}, 'train': {}}
    unread = False
    for _, name, kind, _ in _TABLE:
        value, field = getattr(FLAGS, name), _FIELDS.get(name, name)
        part = next((p for p in given if hasattr(getattr(base, p), field)), None)
        if value is None or part is None:
            continue
        if field in experiment.owns:
            check(errors.require, False, f'every arm of {experiment.name} sets {name} itself: leave --{name} out')
        elif field != 'dataset':
            read = check(_read, name, kind, value, otherwise=_UNREAD)
            if read is not _UNREAD:
                given[part][field] = read
            elif field == 'canvas':
                given[part][field] = (1, 1)  # so that what needs one is not blamed
            unread |= read is _UNREAD and field in config.PER_STAGE
    if unread:  # how many stages there are is not known
        given['model'] = {field: value[:1] if field in config.PER_STAGE else value for field, value in given['model'].items()}
    if given['data'].get('canvas', base.data.canvas) is None:
        given['data'] = {'train_positions': None, 'unseen_positions': None, 'probe': False, **given['data']}
    given['model'] = _followed(base.model, given['model'])
    return given


def _followed(model: config.ModelConfig, given: dict[str, Any]) -> dict[str, Any]:
    """The fields of a model that are given, the others for as many stages: a value stands for all stages, and a base's last one repeats."""
    stages = len(given.get('features', model.features))
    one_for_all = {name: values * stages for name, values in given.items() if name in config.PER_STAGE and len(values) == 1}
    bases = {name: getattr(model, name) for name in config.PER_STAGE}
    return {**{name: (values + values[-1:] * stages)[:stages] for name, values in bases.items()}, **given, **one_for_all}


def _read(name: str, kind: Any, value: Any) -> Any:
    if name in _CAN_BE_NONE and value == 'none':
        return None
    if kind == 'size':
        return size(name, value, ', or none' if name in _CAN_BE_NONE else '')
    if kind == 'ints':
        if not re.fullmatch(r'[0-9]{1,9}(,[0-9]{1,9})*', value):
            raise errors.InputError(f'{name} must be whole numbers without a sign, separated by commas, got {errors.shown(value)}')
        numbers = tuple(int(number) for number in value.split(','))
        return () if name == 'hidden' and numbers == (0,) else numbers
    return value


def size(name: str, value: str, other: str = '') -> tuple[int, int]:
    """'28' or '720x1280' as (height, width). Raises InputError, which names what `other` there is."""
    if not re.fullmatch(r'[0-9]{1,5}(x[0-9]{1,5})?', value) or 0 in map(int, value.split('x')):
        raise errors.InputError(f'{name} must be a side or HEIGHTxWIDTH{other}, got {errors.shown(value)}')
    sides = [int(side) for side in value.split('x')]
    return sides[0], sides[-1]


def wanted_arms(experiment: ablation.Experiment) -> list[str]:
    """The arms asked for, in the experiment's order. Raises InputError for unknown ones."""
    if FLAGS.arms is None:
        return list(experiment.default or experiment.arms)
    if FLAGS.arms == 'all':
        return list(experiment.arms)
    wanted = listed(f'arm of {experiment.name}', FLAGS.arms, experiment.arms)
    return [name for name in experiment.arms if name in wanted]


def listed(kind: str, text: str, known: Collection[str]) -> list[str]:
    """The names in a list with commas. Raises InputError for all that are not known."""
    names = [name.strip() for name in text.split(',')]
    with errors.gathered() as check:
        for name in names:
            check(errors.member, kind, name, known)
    return names


def task(argv: Sequence[str]) -> list[str]:
    """The command of a task of the array that this command line asks for."""
    left_out = ('launcher', *OF_SLURM, *(f'no{name}' for name in OF_SLURM))
    kept = [own for own in words.of_line(argv, FLAGS) if words.name_in(own[0]) not in left_out]
    return [sys.executable, *_program(str(Path(argv[0]).resolve())), *itertools.chain.from_iterable(kept)]


def asked_for_help(argv: Sequence[str]) -> bool:
    """Whether to print help and do nothing."""
    return any(arg in ('--help', '-help', '-h', '--helpfull', '--helpshort') for arg in argv[1:])


def command(argv: Sequence[str]) -> str:
    """The command that was typed, for the report."""
    return shlex.join(['python', *_program(argv[0]), *argv[1:]])


def _program(path: str) -> list[str]:
    """What Python runs: a module by its name, or the file of this path."""
    module = getattr(sys.modules['__main__'], '__spec__', None)
    return ['-m', module.name] if module else [path]
