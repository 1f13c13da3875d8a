"""Exact counts of a network's weights, connections and multiplications, in Python integers; nothing is allocated (imports no jax).

weights      free parameters, biases and norm scales included
connections  input-output pairs with a weight on them; pairs with padding are left out, biases too
macs         multiply-adds of one image forward, counted as the layers compute them (padding is multiplied too)
"""

import math
from typing import NamedTuple

from cnn_research import config, errors, geometry

Shape = tuple[int, int, int]  # height, width, channels


class LayerCost(NamedTuple):
    """Counts of one layer; `output` is its shape (H, W, C) after the pool, or (units,)."""

    name: str
    output: tuple[int, ...]
    weights: int
    connections: int
    macs: int


class Cost(NamedTuple):
    """Counts of a whole network."""

    weights: int
    connections: int
    macs: int


def spatial_map(stage: config.Stage, padding: str, image: Shape, *, bias: bool = True) -> tuple[Shape, Cost]:
    """Output shape and counts of one spatial map without its pool. Raises InputError where the kernel does not fit."""
    height, width, channels = image
    k, s = stage.kernel_size, stage.stride
    rows, columns = (geometry.output_size(size, k, s, padding) for size in (height, width))
    positions, kernel = rows * columns, k * k * channels * stage.features
    if stage.sharing == 'dense':
        weights = connections = macs = math.prod(image) * positions * stage.features
    else:
        taps = (geometry.connected_taps(size, k, s, padding) for size in (height, width))
        connections = math.prod(taps) * channels * stage.features
        weights = kernel if stage.sharing == 'shared' else positions * kernel
        macs = positions * kernel
    weights += stage.features if bias else 0
    return (rows, columns, stage.features), Cost(weights, connections, macs)


def layers(model: config.ModelConfig, image: Shape, num_classes: int) -> list[LayerCost]:
    """Every layer of a network on images (H, W, C). Raises InputError where a kernel or pool does not fit."""
    result, shape = [], image
    for i, stage in enumerate(model.stages()):
        (rows, columns, features), cost = spatial_map(stage, model.padding, shape, bias=model.norm == 'none')
        if stage.pool > min(rows, columns):
            raise errors.InputError(f'stage {i} pools {stage.pool} x {stage.pool} of {rows} x {columns}: fewer stages or a larger canvas')
        shape = (rows // stage.pool, columns // stage.pool, features)
        norm = 0 if model.norm == 'none' else 2 * features
        result.append(LayerCost(f'stage_{i}', shape, cost.weights + norm, cost.connections, cost.macs))
    units = math.prod(shape) if model.head == 'flatten' else shape[2]
    names = [f'hidden_{i}' for i in range(len(model.hidden))] + ['classes']
    for name, width in zip(names, (*model.hidden, num_classes)):
        result.append(LayerCost(name, (width,), (units + 1) * width, units * width, units * width))
        units = width
    return result


def total(model: config.ModelConfig, image: Shape, num_classes: int) -> Cost:
    """Counts of the whole network on images (H, W, C)."""
    rows = layers(model, image, num_classes)
    return Cost(*(sum(getattr(row, field) for row in rows) for field in Cost._fields))
