"""How a convolution is computed: the one place where that is chosen, by platform, size, padding, strides and type.

    xla         XLA's own convolution: on accelerators
    blocks      patches for a few images at a time behind the kernel gradient, XLA's own forward: on a CPU, without dilation
    patches     patches of all images times a matrix: on a CPU, with dilation, and filters of one pixel
    frequency   products of frequencies (`frequency.py`), whose cost does not grow with the filter: on a CPU, large filters or many channels

On a CPU the times of a forward and backward pass, for one image, are taken to be

    frequency   (pixels C + positions F) (6 + 0.5 side) ns + 0.14 ns positions C F
    the others  positions (0.135 ns taps C F + 100 ns)

and the smaller one decides. Measured on one thread of an AVX2 machine (75 GFLOP/s in matrix products), jax 0.10.2, batch 128, inside a
compiled loop, in ms (blocks against frequency):

    image       maps        k = 3           k = 5           k = 9
    14 x 14     8 to 16     6.7   5.4       13   7          48   7
    14 x 14     16 to 32    15    13        31   18         125  23
    14 x 14     32 to 64    45    30        112  39         437  74
    28 x 28     1 to 32     12    54        14   59         30   65
    28 x 28     16 to 16    39    61        74   74         233  80
    28 x 28     32 to 32    109   144       258  152        750  198
    64 x 64     16 to 16    276   510       988  568 (k = 7)

Strided maps on one thread of an AVX-512 machine (126 GFLOP/s), k = 3, batch 200, in ms (blocks, patches, frequency):

    32 x 32 / 2 32 to 32    106   228   259
    28 x 28 / 2 16 to 32     31    67   110
    16 x 16 / 2 32 to 64     27    40    61
    8 x 8 / 2   64 to 64     12    19    16
    14 x 14 / 2 8 to 16     2.3   3.3   5.0
    14 x 14 / 2 32 to 64     45   101    54 (k = 5)

`python -m experiments.benchmark --sections=lowerings` measures again, and shows where the choice is not the fastest.
"""

import math
from collections.abc import Callable

import jax

from cnn_research import direct, frequency
from cnn_research.geometry import Geometry

WAYS: dict[str, Callable[[jax.Array, jax.Array, Geometry], jax.Array]] = {
    'xla': direct.by_xla,
    'blocks': direct.by_blocks,
    'patches': direct.by_patches,
    'frequency': frequency.convolution,
}
_FLOAT32 = 4


def possible(g: Geometry) -> list[str]:
    """The names of the `WAYS` that can compute this map."""
    return [name for name in WAYS if g.dilation == (1, 1) or name != 'blocks']


def choose(platform: str, g: Geometry, channels: int, features: int, itemsize: int) -> str:
    """The fastest of `WAYS` for this map on this platform ('cpu', 'gpu', 'tpu'), by name; `itemsize` is that of its numbers in bytes."""
    if platform != 'cpu':
        return 'xla'
    direct_way = 'blocks' if g.dilation == (1, 1) and g.taps > 1 else 'patches'
    if itemsize < _FLOAT32:  # the sines would be rounded too
        return direct_way
    pixels, positions = math.prod(g.image), math.prod(g.positions)
    products = channels * features * positions
    by_frequency = (pixels * channels + positions * features) * (6 + 0.5 * max(g.image)) + 0.14 * products
    by_taps = 0.135 * g.taps * products + 100 * positions
    return 'frequency' if by_frequency < by_taps else direct_way
