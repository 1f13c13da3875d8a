"""Exact counts of weights, connections, multiplications and bytes, in Python integers; nothing is allocated (imports no jax).

weights      free parameters, biases and norm scales included
connections  input-output pairs with a weight on them; pairs with padding are left out, biases too
macs         multiply-adds of one image forward, counted as the layers compute them (padding is multiplied too; pools are not counted)
bytes        float32: of the parameters as they are stored, of the maps that one image leaves for the backward pass (each layer's
             output before its pool), and of what the optimizer keeps (Adam and Adadelta two numbers per stored parameter, momentum one)
"""

import contextlib
import functools
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from cnn_research import config, errors, geometry, schemes

Shape = tuple[int, int, int]  # height, width, channels
_FLOAT32 = 4
OPTIMIZER_SLOTS = {'adam': 2, 'sgd': 1, 'adadelta': 2}


class LayerCost(NamedTuple):
    """Counts of one layer; `output` is its shape (H, W, C) after the pool, or (units,)."""

    name: str
    output: tuple[int, ...]
    weights: int
    connections: int
    macs: int
    parameter_bytes: int
    activation_bytes: int

    def optimizer_bytes(self, optimizer: str) -> int:
        """What this optimizer ('adam', 'adadelta', or 'sgd' with momentum) keeps beside the parameters."""
        return OPTIMIZER_SLOTS[optimizer] * self.parameter_bytes


class Cost(NamedTuple):
    """Counts of a whole network."""

    weights: int
    connections: int
    macs: int


class PlacedStage(NamedTuple):
    """A stage of a network on images of a size: its name and fields, where its filters lie, and its input channels."""

    name: str
    stage: config.Stage
    scheme: schemes.Scheme
    geometry: geometry.Geometry
    channels: int

    @property
    def output(self) -> Shape:
        """Shape of its maps after the pool."""
        rows, columns = self.geometry.positions
        return rows // self.stage.pool, columns // self.stage.pool, self.stage.features


def stages(model: config.ModelConfig, image: Shape) -> Iterator[PlacedStage]:
    """The stages on images (H, W, C), in order. Raises InputError where a kernel or pool does not fit, or a scheme cannot be."""
    for i, stage in enumerate(model.stages()):
        height, width, channels = image
        g = geometry.Geometry((height, width), (stage.kernel_size,) * 2, (stage.stride,) * 2, model.padding)
        rows, columns = g.positions
        if stage.pool > min(rows, columns):
            raise errors.InputError(f'stage {i} pools {stage.pool} x {stage.pool} of {rows} x {columns}: fewer stages or a larger canvas')
        placed = PlacedStage(f'stage_{i}', stage, schemes.parse(stage.sharing), g, channels)
        placed.scheme.shapes(g, channels, stage.features)
        yield placed
        image = placed.output


def spatial_map(scheme: schemes.Scheme, g: geometry.Geometry, channels: int, features: int, *, bias: int = 0, norm: int = 0) -> LayerCost:
    """Counts of one spatial map of any scheme, with so many numbers of bias and norm. Raises InputError for a layer that cannot be."""
    stored = sum(math.prod(shape) for shape in scheme.shapes(g, channels, features).values()) + bias + norm
    return LayerCost(
        scheme.name,
        (*g.positions, features),
        scheme.weights(g, channels, features) + bias + norm,
        scheme.connections(g, channels, features),
        scheme.macs(g, channels, features),
        _FLOAT32 * stored,
        _FLOAT32 * math.prod(g.positions) * features,
    )


def layers(model: config.ModelConfig, image: Shape, num_classes: int) -> list[LayerCost]:
    """Every layer of a network on images (H, W, C). Raises InputError where a kernel or pool does not fit."""
    result, shape = [], image
    normed = model.norm != 'none'
    for placed in stages(model, image):
        features = placed.stage.features
        biases = features if model.biases == 'all' and not normed else 0
        counts = spatial_map(placed.scheme, placed.geometry, placed.channels, features, bias=biases, norm=2 * features * normed)
        shape = placed.output
        result.append(counts._replace(name=placed.name, output=shape))
    units = math.prod(shape) if model.head == 'flatten' else shape[2]
    for i, width in enumerate((*model.hidden, num_classes)):
        last = i == len(model.hidden)
        biased = model.biases != 'none' if last else model.biases == 'all'
        extra = 2 * width if normed and not last else width * biased
        weights = units * width + extra
        name = 'classes' if last else f'hidden_{i}'
        result.append(LayerCost(name, (width,), weights, units * width, units * width, _FLOAT32 * weights, _FLOAT32 * width))
        units = width
    return result


def total(model: config.ModelConfig, image: Shape, num_classes: int) -> Cost:
    """Counts of the whole network on images (H, W, C)."""
    rows = layers(model, image, num_classes)
    return Cost(*(sum(getattr(row, field) for row in rows) for field in Cost._fields))


def check_layer_fits(name: str, shapes: schemes.Shapes, itemsize: int) -> None:
    """Stop before memory is touched. Raises TooLargeError where parameters of these shapes are larger than the memory of this machine."""
    _check_fits(f'this {name} layer', itemsize * sum(math.prod(shape) for shape in shapes.values()))


def training_bytes(model: config.ModelConfig, image: Shape, num_classes: int, train: config.TrainConfig) -> int:
    """What training takes at least: parameters, gradients, updates, what the optimizer keeps, and the maps of a batch, there and back."""
    rows = layers(model, image, num_classes)
    parameters = sum(3 * row.parameter_bytes + row.optimizer_bytes(train.optimizer) for row in rows)
    return parameters + 2 * train.batch_size * sum(row.activation_bytes for row in rows)


def check_training_fits(
    model: config.ModelConfig, image: Shape, num_classes: int, train: config.TrainConfig, memory: int | None = None
) -> None:
    """Raises TooLargeError where `training_bytes` are more than `memory` (None: all of this machine)."""
    _check_fits('training this network', training_bytes(model, image, num_classes, train), memory)


def _check_fits(what: str, need: int, have: int | None = None) -> None:
    whose = 'this machine has' if have is None else 'each worker has'
    have = memory() if have is None else have
    if need > have:
        text = f'{what} would need {human_bytes(need)}, {whose} {human_bytes(have)}'
        raise errors.TooLargeError(f'{text}; counting is free: python -m experiments.weights')


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


_limit: int | None = None


def memory() -> int:
    """The bytes of memory of this machine, of the container or the job in which this process is, or the limit that was set."""
    return _memory() if _limit is None else _limit


@functools.cache
def _memory() -> int:
    return min(os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES'), *_group_limits(Path('/proc/self/cgroup'), Path('/sys/fs/cgroup')))


def _group_limits(groups: Path, mounted: Path) -> list[int]:
    """What the control groups of Linux, of either version, that this process is in allow to it in bytes; a large number at least."""
    found = [2**63]
    for line in groups.read_text().splitlines() if groups.exists() else ():
        number, controllers, own = line.split(':', 2)
        name = 'memory.max' if number == '0' else 'memory.limit_in_bytes'
        root = mounted / ('' if number == '0' else 'memory')
        if number == '0' or 'memory' in controllers.split(','):
            folder = root / own.lstrip('/')
            for each in (folder, *folder.parents):
                with contextlib.suppress(OSError, ValueError):  # 'max', or not seen from within a container
                    found.append(int((each / name).read_text()))
    return found


def limit_memory(limit: int) -> None:
    """From now on `memory` says this: what the least of several machines has that train together, for they must decide alike."""
    global _limit
    _limit = limit


def human_bytes(count: int) -> str:
    """A number of bytes as people say it, with three digits: 326 TB (powers of 1000)."""
    return _human(count, ('B', 'kB', 'MB', 'GB', 'TB', 'PB', 'EB'))


def _human(count: int, units: tuple[str, ...]) -> str:
    power = 0
    while power + 1 < len(units) and float(f'{count / 1000**power:.3g}') >= 1000:
        power += 1
    return f'{count / 1000**power:.3g} {units[power]}'
