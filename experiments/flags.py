"""The command line of every experiment: flags, grouped help, and the configuration they make (absl is used here alone)."""

import dataclasses
import re
import shlex
import sys
import textwrap
from typing import Any

from absl import flags

from cnn_research import ablation, config, errors, geometry, sweep

FLAGS = flags.FLAGS

_WHAT = 'What runs'
_DATA = 'Data'
_MODEL = 'Network (the arms change some of these; per-stage values are lists, or one value for all stages)'
_TRAIN = 'Training'

_RATES = ', '.join(f'{rate:g}' for rate in ablation.RATES)
# group, name, parser, help. The default is the experiment's own unless it is said here.
_TABLE: tuple[tuple[str, str, Any, str], ...] = (
    (_WHAT, 'arms', str, 'which arms, by name, separated by commas, or all'),
    (_WHAT, 'seeds', int, 'how many seeds'),
    (_WHAT, 'workdir', str, 'folder of results; the same command again resumes, more arms or seeds extend it (runs/NAME)'),
    (_WHAT, 'workers', int, 'processes (one per core on a CPU, one on an accelerator)'),
    (_WHAT, 'retry', bool, 'run cells once more that failed'),
    (_WHAT, 'save_every', float, f'seconds between savings of a training that has not ended ({sweep.SAVE_EVERY:g})'),
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
_CAN_BE_NONE = ('canvas', 'unseen_positions')
_PER_STAGE = ('features', 'kernel_sizes', 'strides', 'pools')


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


def parse(argv: list[str], values: flags.FlagValues = FLAGS) -> list[str]:
    """absl's parser with one-line errors. Raises InputError for unknown flags and for values of the wrong kind."""
    try:
        rest = values(argv)
    except flags.Error as e:
        raise errors.InputError(f'{" ".join(str(e).split())}; --help lists the flags') from None
    if values['workdir'].value == '':
        raise errors.InputError('workdir must name a folder, got nothing')
    if len(rest) > 1:
        raise errors.InputError(f'{rest[1]!r} is no flag: write --name=value')
    return rest


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
      InputError: a value that the configuration refuses, or one that every arm would replace.
    """
    base = experiment.base(FLAGS.dataset or experiment.small.data.dataset)
    given: dict[str, dict[str, Any]] = {'model': {}, 'data': {}, 'train': {}}
    for _, name, kind, _ in _TABLE:
        value = getattr(FLAGS, name)
        field = _FIELDS.get(name, name)
        part = next((p for p in given if hasattr(getattr(base, p), field)), None)
        if value is None or part is None or name == 'dataset':
            continue
        if field in experiment.owns:
            raise errors.InputError(f'every arm of {experiment.name} sets {name} itself: leave --{name} out')
        given[part][field] = _read(name, kind, value)
    stages = len(given['model'].get('features', base.model.features))
    model = {name: _follow(getattr(base.model, name), stages) for name in (*_PER_STAGE, 'sharing')}
    for name, values in given['model'].items():
        model[name] = values * stages if name in _PER_STAGE and len(values) == 1 else values
    if given['data'].get('canvas', base.data.canvas) is None:
        given['data'] = {'train_positions': None, 'unseen_positions': None, 'probe': False, **given['data']}
    changed = {**given, 'model': model}
    return dataclasses.replace(base, **{p: dataclasses.replace(getattr(base, p), **fields) for p, fields in changed.items()})


def _follow(values: tuple, stages: int) -> tuple:
    """A base's values for another number of stages: its first ones, the last of them repeated."""
    return (values + values[-1:] * stages)[:stages]


def _read(name: str, kind: Any, value: Any) -> Any:
    if name in _CAN_BE_NONE and value == 'none':
        return None
    if isinstance(kind, tuple):
        config.member(name, value, kind)
    if kind == 'size':
        return size(name, value, ', or none' if name in _CAN_BE_NONE else '')
    if kind == 'ints':
        if not re.fullmatch(r'[0-9]{1,9}(,[0-9]{1,9})*', value):
            raise errors.InputError(f'{name} must be whole numbers without a sign, separated by commas, got {value!r}')
        numbers = tuple(int(number) for number in value.split(','))
        return () if name == 'hidden' and numbers == (0,) else numbers
    return value


def size(name: str, value: str, other: str = '') -> tuple[int, int]:
    """'28' or '720x1280' as (height, width). Raises InputError, which names what `other` there is."""
    if not re.fullmatch(r'[0-9]{1,5}(x[0-9]{1,5})?', value) or 0 in map(int, value.split('x')):
        raise errors.InputError(f'{name} must be a side or HEIGHTxWIDTH{other}, got {value!r}')
    sides = [int(side) for side in value.split('x')]
    return sides[0], sides[-1]


def wanted_arms(experiment: ablation.Experiment) -> list[str]:
    """The arms asked for, in the experiment's order. Raises InputError for an unknown one."""
    if FLAGS.arms is None:
        return list(experiment.default or experiment.arms)
    if FLAGS.arms == 'all':
        return list(experiment.arms)
    wanted = [name.strip() for name in FLAGS.arms.split(',')]
    for name in wanted:
        if name not in experiment.arms:
            raise errors.known(f'arm of {experiment.name}', name, experiment.arms)
    return [name for name in experiment.arms if name in wanted]


def asked_for_help(argv: list[str]) -> bool:
    """Whether to print help and do nothing."""
    return any(arg in ('--help', '-help', '-h', '--helpfull', '--helpshort') for arg in argv[1:])


def command(argv: list[str]) -> str:
    """The command that was typed, for the report."""
    module = getattr(sys.modules['__main__'], '__spec__', None)
    return shlex.join(['python', '-m', module.name, *argv[1:]] if module else ['python', *argv])
