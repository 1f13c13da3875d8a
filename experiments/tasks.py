"""What `sample_efficiency` can be asked: its tasks, the networks that learn images, and what its flags mean (imports no jax)."""

from typing import Any

from absl import flags as absl_flags

from cnn_research import errors
from experiments import flags

SIGNALS, NORM, RANK = ('dynamic_signal', 'static_signal'), 'norm_comparison', 'shared_rank'
GENERATED = (*SIGNALS, NORM, RANK)
NETWORKS = {'conv': 'shared', 'tiled': 'tiled:2x2', 'low_rank': 'low_rank:2', 'local': 'local', 'dense': 'dense'}
DEFAULT = ('conv', 'local', 'dense')
TUNING_SEED = 1000  # of images; those that are shown are below
TUNING_TASKS = 1_000_000  # of shared_rank, likewise: the first seed of the tasks that settings are compared on
_MOST_SEEDS = {'images': TUNING_SEED, 'ranks': TUNING_TASKS}
_SEARCH = ('target', 'most', 'quick')
_OWN = {'sigma', 'arms', 'data_dir', 'raw_dir', *_SEARCH}  # flags that not all tasks have


def kind(task: str) -> tuple[str, set[str]]:
    """What is done for a task, a function of `samples`, and which of the flags in `_OWN` it has a use for."""
    if task in SIGNALS:
        return 'searches', {'sigma', *_SEARCH}
    if task == NORM:
        return 'searches', {*_SEARCH}
    if task.startswith(f'{NORM}/'):
        return 'searches', {*_SEARCH, 'data_dir', 'raw_dir'}
    if task == RANK:
        return 'ranks', {'sigma'}
    return 'images', {'arms', 'data_dir', 'raw_dir'}


def asked(f: absl_flags.FlagValues) -> tuple[str, dict[str, Any]]:
    """The function of `samples` that does it, and what that is told. Raises InputError with all that is wrong with the flags."""
    what, uses = kind(f.dataset)
    meant = errors.nearest(f.dataset, GENERATED) if what == 'images' else None
    with errors.gathered() as check:
        if f.workers is not None:
            check(errors.positive, 'workers', f.workers)
        if f.seeds is not None:
            check(errors.whole, 'seeds', f.seeds, 2, _MOST_SEEDS.get(what, errors.LARGEST))
        for name in sorted(_OWN - uses):
            useless = f'{f.dataset} has no use for --{name}: leave it out' + (f', or did you mean {meant}?' if meant else '')
            check(errors.require, not f[name].present, useless)
        if f.sigma is not None:
            check(errors.require, 0 <= f.sigma <= 100, f'sigma must be from 0 to 100, got {f.sigma}')
        told = check({'searches': _searched, 'ranks': _ranked, 'images': _learned}[what], f)
    return what, told


def _searched(f: absl_flags.FlagValues) -> dict[str, Any]:
    from cnn_research import needed  # scipy: imported when there is something to do

    signals = f.dataset in SIGNALS
    target = f.target if f.target is not None else 0.95 if signals else 0.9
    most = needed.MOST if f.most is None else f.most
    with errors.gathered() as check:
        check(errors.whole, 'most', most, 2 * needed.FIRST, needed.MOST)
        check(errors.require, 0.5 < target < 1, f'target must be between 0.5 and 1, got {target}')
        check(errors.require, not signals or f.sigma != 0, 'sigma must be above 0: without noise nothing hides a signal')
    told = {'quick': f.quick, 'target': target, 'seeds': f.seeds or (4 if f.quick else 10), 'most': most}
    return told | ({'sigma': f.sigma or 0.2} if signals else {})


def _ranked(f: absl_flags.FlagValues) -> dict[str, Any]:
    return {'sigma': f.sigma or 0.0, 'tasks': f.seeds or 50}


def _learned(f: absl_flags.FlagValues) -> dict[str, Any]:
    wanted = DEFAULT if f.arms is None else flags.listed('network', f.arms, NETWORKS)
    return {'networks': [name for name in NETWORKS if name in wanted], 'seeds': f.seeds}
