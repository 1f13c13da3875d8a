"""The work that `experiments.benchmark` compares: each section is a list of comparisons, with what it takes in products and bytes."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from cnn_research import config, cost, lowering, schemes
from cnn_research.geometry import Geometry
from experiments import contenders, dense_replacement, filter_size, peers, weight_sharing
from experiments.timing import Contender

BATCH = 128
PEERS = ('eager', 'eager channels-last', 'compiled channels-last')
_FLOAT32 = 4


class Comparison(NamedTuple):
    """Contenders on the same work, the first of them this project's own.

    `macs`: the multiply-adds that the work stands for; `bytes`: what it has to move, every array read or written once in a forward and once
    in a backward pass, and by the optimizer. 0: not counted.
    """

    what: str
    contenders: list[Contender]
    macs: int = 0
    bytes: int = 0


def steps() -> list[Comparison]:
    """A training step of whole networks."""
    networks = {'32 and 64 maps, 256 hidden': config.ModelConfig((32, 64), hidden=(256,))}
    for experiment in (weight_sharing, filter_size, dense_replacement):
        networks[f'base of {experiment.EXPERIMENT.name}'] = experiment.EXPERIMENT.base('fashion_mnist').model
    return [Comparison(f'step of {name}', _step(model), *_step_work(model)) for name, model in networks.items()]


def _step(model: config.ModelConfig) -> list[Contender]:
    fields = {'model': model, 'batch_size': BATCH}
    torch = [Contender(f'PyTorch {mode}', peers.torch_step, {**fields, 'mode': mode}) for mode in PEERS]
    return [Contender('own', contenders.engine_step, fields), Contender('Flax', peers.flax_step, fields), *torch]


def _step_work(model: config.ModelConfig) -> tuple[int, int]:
    """Multiply-adds and bytes of a training step with momentum. The gradient of the images is not among them: nobody needs it."""
    first, *others = layers_ = cost.layers(model, (contenders.SIDE, contenders.SIDE, 1), contenders.CLASSES)
    macs = BATCH * (2 * first.macs + 3 * sum(layer.macs for layer in others))
    inputs = [_FLOAT32 * math.prod(shape) for shape in ((contenders.SIDE, contenders.SIDE, 1), *(layer.output for layer in layers_[:-1]))]
    maps = BATCH * (3 * sum(inputs) - inputs[0] + 2 * sum(layer.activation_bytes for layer in layers_))
    return macs, maps + (3 + 5) * sum(layer.parameter_bytes for layer in layers_)  # SGD reads gradient, momentum, weight, writes two


def _layer(side: int = 14, kernel: int = 3, images: int = BATCH, channels: int = 32, features: int = 64, stride: int = 1) -> dict[str, Any]:
    return {'g': Geometry((side, side), (kernel,) * 2, (stride,) * 2), 'images': images, 'channels': channels, 'features': features}


def _layer_work(fields: dict[str, Any], scheme: str = 'shared') -> tuple[int, int]:
    """Multiply-adds and bytes of a layer, forward and backward; the multiply-adds are those of the convolution for every scheme."""
    g, images, channels, features = (fields[name] for name in ('g', 'images', 'channels', 'features'))
    macs = 3 * images * math.prod(g.positions) * g.taps * channels * features
    weights = sum(math.prod(shape) for shape in schemes.parse(scheme).shapes(g, channels, features).values())
    maps = images * (3 * math.prod(g.image) * channels + 2 * math.prod(g.positions) * features)
    return macs, _FLOAT32 * (maps + 3 * weights)


def _own(scheme: str, fields: dict[str, Any]) -> Contender:
    return Contender(scheme, contenders.own_layer, {'scheme': scheme, **fields})


def layers() -> list[Comparison]:
    """A layer of every scheme."""
    fields = _layer()
    shared = _own('shared', fields)
    torch = {kind: Contender(f'PyTorch {kind}', peers.torch_layer, {'kind': kind, **fields}) for kind in ('conv2d', 'local')}
    linen = Contender('flax.linen.ConvLocal', peers.linen_local_layer, fields)
    return [
        Comparison('convolution', [shared, torch['conv2d']], *_layer_work(fields)),
        Comparison('locally connected', [_own('local', fields), shared, linen, torch['local']], *_layer_work(fields, 'local')),
        Comparison('tiled, period 2', [_own('tiled:2x2', fields), shared], *_layer_work(fields, 'tiled:2x2')),
        Comparison('low rank, 2 kernels', [_own('low_rank:2', fields), shared], *_layer_work(fields, 'low_rank:2')),
    ]


def kernels() -> list[Comparison]:
    """The convolution of the layers for larger filters."""
    result = []
    for kernel in (3, 5, 7, 11):
        fields = _layer(kernel=kernel)
        peer = Contender('PyTorch conv2d', peers.torch_layer, {'kind': 'conv2d', **fields})
        result.append(Comparison(f'{kernel} x {kernel}', [_own('shared', fields), peer], *_layer_work(fields)))
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
        result.append(Comparison(what, team, *_layer_work(fields)))
    return result


def scaling() -> list[Comparison]:
    """The convolution and the seeds in one program, one size varied at a time; `benchmark.exponents` fits the times."""
    sweeps = {
        'kernel': [('kernel', _layer(side=32, kernel=k, images=32, channels=16, features=16)) for k in (3, 5, 7, 11, 15, 21, 31)],
        'side': [('side', _layer(side=side, images=32, channels=16, features=16)) for side in (16, 32, 64, 128, 256)],
        'batch': [('images', _layer(images=n)) for n in (16, 32, 64, 128, 256)],
        'channels': [('channels', _layer(channels=c, features=c)) for c in (8, 16, 32, 64, 128)],
    }
    points = [Comparison(f'{name} {_size(field, fields)}', [_own('shared', fields)], *_layer_work(fields))
              for name, points in sweeps.items() for field, fields in points]  # fmt: skip
    model = filter_size.EXPERIMENT.base('fashion_mnist').model
    macs, moved = _step_work(model)
    for seeds in (1, 2, 4, 8):
        own = Contender('own', contenders.engine_step, {'model': model, 'batch_size': BATCH, 'seeds': seeds})
        points.append(Comparison(f'seeds {seeds}', [own], seeds * macs, seeds * moved))
    return points


def _size(field: str, fields: dict[str, Any]) -> int:
    g = fields['g']
    return {'kernel': g.kernel_size[0], 'side': g.image[0]}.get(field) or fields[field]


def streaming() -> list[Comparison]:
    """Steps whose images are held on the device, beside the same steps on batches that are brought to it."""
    models = {'8 and 16 maps': config.ModelConfig((8, 16)), '32 and 64 maps, 256 hidden': config.ModelConfig((32, 64), hidden=(256,))}
    result = []
    for name, model in models.items():
        fields = {'model': model, 'batch_size': BATCH}
        team = [Contender('held on the device', contenders.engine_step, fields),
                Contender('brought from memory', contenders.streamed_step, fields),
                Contender('brought from PNG', contenders.streamed_step, {**fields, 'encoded': True})]  # fmt: skip
        result.append(Comparison(f'step of {name}', team, *_step_work(model)))
    return result


def compiling() -> list[Comparison]:
    """How long the program of a training takes to compile, beside the step of Flax; a program that was kept on disk is read instead."""
    result = []
    for experiment in (weight_sharing, filter_size, dense_replacement):
        fields = {'model': experiment.EXPERIMENT.base('fashion_mnist').model, 'batch_size': BATCH}
        team = [Contender('own', contenders.engine_compilation, fields), Contender('own, kept', contenders.kept_compilation, fields),
                Contender('Flax', peers.flax_compilation, fields)]  # fmt: skip
        result.append(Comparison(f'base of {experiment.EXPERIMENT.name}', team))
    return result


SECTIONS: dict[str, Callable[[], list[Comparison]]] = {
    'steps': steps, 'layers': layers, 'kernels': kernels, 'lowerings': lowerings, 'scaling': scaling, 'streaming': streaming,
    'compiling': compiling,
}  # fmt: skip
