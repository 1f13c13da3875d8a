"""How fast is this, beside what one would use instead, and beside what the machine can do?

    python -m experiments.benchmark                                  all sections, one and two threads
    python -m experiments.benchmark --sections=steps,layers --quick  fewer rounds, one thread
    python -m experiments.benchmark --sections=lowerings             what `cnn_research/lowering.py` chooses by

Every contender has a process of its own with the same number of threads, and all are asked in turn, A B A B. Times are medians over
rounds; `own / this` is the time of the first contender over that of the one in the row, taken round by round. PyTorch takes part where
it is installed (`pip install torch`), otherwise its rows say so.

steps      a training step, batch 128, of a network of 32 and 64 maps with 256 hidden units and of the bases of three ablations, against
           Flax as its examples write it and PyTorch
layers     a layer of every scheme, forward and backward, 14 x 14, 32 to 64 maps, 3 x 3, batch 128, against `flax.linen.ConvLocal`
           and PyTorch
kernels    the convolution of that layer for larger filters, against PyTorch
lowerings  every way to compute a convolution, the one that is taken first
scaling    the convolution against filter size, side, batch and channels, with the exponent of its time

`of peak` is the rate of the multiplications that convolutions and dense layers of these sizes take (`cost.py`; three times those of a
forward pass, two thirds of that for a first layer) over that of a matrix product on the same threads. Ways that multiply less may pass 100
%.

Measured on 2 cores with AVX2, jax 0.10.2, flax 0.12.8, PyTorch 2.13.0; own time over the peer's (eager or compiled, whichever is
fastest), medians of 7 rounds:

                                                1 thread                2 threads
    step                                    Flax    PyTorch         Flax    PyTorch
    32 and 64 maps, 256 hidden              0.33    0.68            0.32    0.70
    base of weight_sharing                  0.35    0.97            0.37    1.14
    base of filter_size                     0.30    0.83            0.32    1.41
    base of dense_replacement               0.41    1.08            0.39    0.95

    layer                               ConvLocal   PyTorch     ConvLocal   PyTorch
    convolution 3 x 3                         –     0.80              –     1.05
    convolution 5 x 5                         –     0.36              –     0.49
    convolution 7 x 7                         –     0.24              –     0.32
    convolution 11 x 11                       –     0.14              –     0.16
    locally connected                       0.15    0.53            0.11    0.55

Against the 3 x 3 convolution here, which by frequencies costs less than its patches would, locally connected takes 2.4 to 2.6 times as
long, tiled (period 2) 1.7 to 2.3, low rank (2 kernels) 2.1 to 2.4. Share of peak: 71 % for the step of 32 and 64 maps, 43 % for that
of 16 and 32 (filter_size) and 16 % where maps are 8 and 16 and memory, not multiplication, is the limit. Workers of a sweep have one
thread each.
"""

import json
import math
import os
import platform
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import jax
import numpy as np
from absl import flags as absl_flags

from cnn_research import config, cost, errors, files, lowering
from cnn_research.geometry import Geometry
from cnn_research.report import table
from experiments import contenders, dense_replacement, filter_size, runner, timing, weight_sharing
from experiments.timing import Contender

BATCH = 128
COLUMNS = ('what', 'contender', 'threads', 'ms', 'lowest', 'highest', 'own / this', 'of peak')
PEERS = ('eager', 'eager channels-last', 'compiled channels-last')

FLAGS = absl_flags.FlagValues()
absl_flags.DEFINE_string('sections', None, 'which sections, by name and separated by commas (all)', flag_values=FLAGS)
absl_flags.DEFINE_string('threads', None, 'numbers of threads, separated by commas (1,2; --quick: 1)', flag_values=FLAGS)
absl_flags.DEFINE_boolean('quick', False, 'three short rounds instead of seven', flag_values=FLAGS)
absl_flags.DEFINE_string('workdir', 'runs/benchmark', 'where benchmark.json and the table go', flag_values=FLAGS)


class Comparison(NamedTuple):
    """Contenders on the same work, the first of them this project's own; `macs`: the multiply-adds that the work stands for."""

    what: str
    contenders: list[Contender]
    macs: int


def steps() -> list[Comparison]:
    """A training step of whole networks."""
    networks = {'32 and 64 maps, 256 hidden': config.ModelConfig((32, 64), hidden=(256,))}
    for experiment in (weight_sharing, filter_size, dense_replacement):
        networks[f'base of {experiment.EXPERIMENT.name}'] = experiment.EXPERIMENT.full.model
    return [Comparison(f'step of {name}', _step(model), _step_macs(model)) for name, model in networks.items()]


def _step(model: config.ModelConfig) -> list[Contender]:
    fields = {'model': model, 'batch_size': BATCH}
    torch = [Contender(f'PyTorch {mode}', contenders.torch_step, {**fields, 'mode': mode}) for mode in PEERS]
    return [Contender('own', contenders.engine_step, fields), Contender('Flax', contenders.flax_step, fields), *torch]


def _step_macs(model: config.ModelConfig) -> int:
    first, *others = cost.layers(model, (contenders.SIDE, contenders.SIDE, 1), contenders.CLASSES)
    return BATCH * (2 * first.macs + 3 * sum(layer.macs for layer in others))


def _layer(side: int = 14, kernel: int = 3, images: int = BATCH, channels: int = 32, features: int = 64, stride: int = 1) -> dict[str, Any]:
    return {'g': Geometry((side, side), (kernel,) * 2, (stride,) * 2), 'images': images, 'channels': channels, 'features': features}


def _layer_macs(fields: dict[str, Any]) -> int:
    g = fields['g']
    return 3 * fields['images'] * math.prod(g.positions) * g.taps * fields['channels'] * fields['features']


def _own(scheme: str, fields: dict[str, Any]) -> Contender:
    return Contender(scheme, contenders.own_layer, {'scheme': scheme, **fields})


def layers() -> list[Comparison]:
    """A layer of every scheme."""
    fields = _layer()
    shared = _own('shared', fields)
    torch = {kind: Contender(f'PyTorch {kind}', contenders.torch_layer, {'kind': kind, **fields}) for kind in ('conv2d', 'local')}
    linen = Contender('flax.linen.ConvLocal', contenders.linen_local_layer, fields)
    macs = _layer_macs(fields)
    return [
        Comparison('convolution', [shared, torch['conv2d']], macs),
        Comparison('locally connected', [_own('local', fields), shared, linen, torch['local']], macs),
        Comparison('tiled, period 2', [_own('tiled:2x2', fields), shared], macs),
        Comparison('low rank, 2 kernels', [_own('low_rank:2', fields), shared], macs),
    ]


def kernels() -> list[Comparison]:
    """The convolution of the layers for larger filters."""
    result = []
    for kernel in (3, 5, 7, 11):
        fields = _layer(kernel=kernel)
        peer = Contender('PyTorch conv2d', contenders.torch_layer, {'kind': 'conv2d', **fields})
        result.append(Comparison(f'{kernel} x {kernel}', [_own('shared', fields), peer], _layer_macs(fields)))
    return result


def lowerings() -> list[Comparison]:
    """Every way to compute a convolution, the chosen one first."""
    shapes = [(14, 8, 16), (14, 16, 32), (14, 32, 64), (28, 16, 16), (28, 32, 32), (64, 16, 16)]
    grid = [_layer(side, kernel, BATCH, c, f) for side, c, f in shapes for kernel in (3, 5, 9)]
    grid += [_layer(28, 3, BATCH, 16, 32, 2), _layer(14, 5, BATCH, 32, 64, 2)]
    result = []
    for fields in grid:
        g, channels, features = fields['g'], fields['channels'], fields['features']
        chosen = lowering.choose(jax.default_backend(), g, channels, features, 4)
        ways = [chosen, *(way for way in lowering.possible(g) if way not in (chosen, 'xla'))]
        team = [Contender(way + ' (chosen)' * (way == chosen), contenders.convolution, {'way': way, **fields}) for way in ways]
        stride = f' / {g.strides[0]}' if g.strides != (1, 1) else ''
        what = f'{g.image[0]} x {g.image[1]}{stride}, {channels} to {features}, {g.kernel_size[0]} x {g.kernel_size[1]}'
        result.append(Comparison(what, team, _layer_macs(fields)))
    return result


def scaling() -> list[Comparison]:
    """The convolution, one size varied at a time; `fitted` adds the exponents."""
    sweeps = {
        'kernel': [('kernel', _layer(side=32, kernel=k, images=32, channels=16, features=16)) for k in (3, 5, 7, 11, 15, 21, 31)],
        'side': [('side', _layer(side=side, images=32, channels=16, features=16)) for side in (16, 32, 64, 128, 256)],
        'batch': [('images', _layer(images=n)) for n in (16, 32, 64, 128, 256)],
        'channels': [('channels', _layer(channels=c, features=c)) for c in (8, 16, 32, 64, 128)],
    }
    return [Comparison(f'{name} {_size(field, fields)}', [_own('shared', fields)], _layer_macs(fields))
            for name, points in sweeps.items() for field, fields in points]  # fmt: skip


def _size(field: str, fields: dict[str, Any]) -> int:
    g = fields['g']
    return {'kernel': g.kernel_size[0], 'side': g.image[0]}.get(field) or fields[field]


SECTIONS: dict[str, Callable[[], list[Comparison]]] = {
    'steps': steps, 'layers': layers, 'kernels': kernels, 'lowerings': lowerings, 'scaling': scaling,
}  # fmt: skip


def compare(comparison: Comparison, threads: int, rounds: int, seconds: float, peak: float) -> list[dict[str, Any]]:
    """A row of `COLUMNS` for every contender; seconds instead of ms, None where there is no number, and the error."""
    timings = timing.measure(comparison.contenders, threads, rounds, seconds)
    own, rows = next(iter(timings.values())), []
    for name, found in timings.items():
        row = dict.fromkeys(('seconds', 'lowest', 'highest', 'ratio', 'of_peak')) | {'error': found.error}
        if found.error is None:
            row |= {'seconds': found.median, 'lowest': min(found.seconds), 'highest': max(found.seconds)}
            row['ratio'] = None if own.error or found is own else timing.ratio(own, found)[0]
            row['of_peak'] = 2 * comparison.macs / found.median / peak
        rows.append({'what': comparison.what, 'contender': name, 'threads': threads, **row})
    return rows


def exponents(rows: Sequence[dict[str, Any]]) -> list[tuple[str, int, float]]:
    """(what varies, threads, slope of log time against log size) of the rows of `scaling`, by least squares."""
    found: dict[tuple[str, int], list[tuple[int, float]]] = {}
    for row in rows:
        if row['seconds'] is not None:
            name, size = row['what'].split()
            found.setdefault((name, row['threads']), []).append((int(size), row['seconds']))
    slopes = []
    for key, points in found.items():
        sizes, seconds = np.log(np.array(points)).T
        slopes.append((*key, float(np.polyfit(sizes, seconds, 1)[0])))
    return slopes


def shown(row: dict[str, Any]) -> tuple[str, ...]:
    """A row as people read it."""
    if row['error'] is not None:
        return (row['what'], row['contender'], str(row['threads']), row['error'], *[table.NONE] * 4)
    ms = (f'{1e3 * row[key]:.3g}' for key in ('seconds', 'lowest', 'highest'))
    ratio = table.NONE if row['ratio'] is None else f'{row["ratio"]:.2f}'
    return (row['what'], row['contender'], str(row['threads']), *ms, ratio, f'{row["of_peak"]:.0%}')


def facts() -> dict[str, str]:
    """What was measured, and on what."""
    found = {'python': platform.python_version(), 'machine': platform.machine(), 'cores': str(os.cpu_count())}
    for package in ('jax', 'jaxlib', 'flax', 'torch'):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = 'not installed'
    return found


def wanted() -> tuple[list[str], list[int]]:
    """Sections and numbers of threads that the flags ask for. Raises InputError for unknown ones."""
    sections = list(SECTIONS) if FLAGS.sections is None else [name.strip() for name in FLAGS.sections.split(',')]
    for name in sections:
        if name not in SECTIONS:
            raise errors.known('section', name, SECTIONS)
    text = ('1' if FLAGS.quick else '1,2') if FLAGS.threads is None else FLAGS.threads
    if not all(part.isascii() and part.isdigit() and 0 < int(part) <= (os.cpu_count() or 1) for part in text.split(',')):
        raise errors.InputError(
            f'threads must be whole numbers from 1 to the {os.cpu_count()} cores here, separated by commas, got {text!r}'
        )
    return sections, [int(part) for part in text.split(',')]


def run() -> int:
    """Measure, print and write. Raises InputError for what the flags cannot mean."""
    sections, threads = wanted()
    folder = Path(FLAGS.workdir)
    with files.writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    rounds, seconds = (3, 0.3) if FLAGS.quick else (7, 0.5)
    report: dict[str, Any] = {'facts': facts(), 'rounds': rounds, 'peak': {}, 'rows': {}, 'exponents': []}
    for number in threads:
        product = timing.measure([Contender('product', contenders.matrix_product, {})], number, rounds, seconds)['product']
        report['peak'][number] = 2 * 1024**3 / min(product.seconds)
    print(', '.join(f'{n} thread{"s" * (n > 1)}: {peak / 1e9:.0f} GFLOP/s in matrix products' for n, peak in report['peak'].items()))
    for section in sections:
        work = [(comparison, number) for number in threads for comparison in SECTIONS[section]()]
        rows = [
            row for item, number in timing.progress(work, section) for row in compare(item, number, rounds, seconds, report['peak'][number])
        ]
        report['rows'][section] = rows
        print(f'\n{section}\n{table.plain(COLUMNS, [shown(row) for row in rows])}')
        if section == 'scaling':
            report['exponents'] = exponents(rows)
            print(f'\n{table.plain(("time against", "threads", "exponent"), report["exponents"])}')
        with files.writing(folder):  # after every section, so that what was measured stays
            files.atomic_write_text(folder / 'benchmark.json', json.dumps(report, indent=1) + '\n')
    print(f'\n{folder}/benchmark.json holds all numbers.')
    return int(any(row['error'] for rows in report['rows'].values() for row in rows if 'not installed' not in (row['error'] or '')))


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit."""
    runner.command('benchmark', __doc__, FLAGS, run, argv)


if __name__ == '__main__':
    main()
