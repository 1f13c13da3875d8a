"""The axis of weight sharing by name: what every scheme's parameters are and what they cost, in exact integers (imports no jax).

From one kernel for all positions to a weight for every pair of pixels, a scheme says which positions of a spatial map share what:

    shared                 one kernel for all positions: convolution (LeCun et al. 1989)
    coordinates            shared, and two channels more that hold the row and the column: CoordConv (Liu et al. 2018)
    tiled:HxW              kernels that repeat with a period of H rows and W columns (Le et al. 2010)
    low_rank:K             every position mixes K shared kernels (LRLC, Elsayed et al. 2020), by a softmax over K weights of its own;
                           `:row_column` adds a weight of its row to one of its column, `:free` leaves out the softmax
    averaged:N             one kernel per position, at first and then every N steps the same one, their mean: sharing in time
                           (Pogodin et al. 2021); after the last whole N steps they part again
    local                  one kernel per position: unshared convolution
    masked_dense           a dense layer whose weights outside the filter are zero: the same functions as local
    dense                  every pixel to every position

`sharing.py` holds the mathematics of each.
"""

import dataclasses
import math
import re
from collections.abc import Callable

from cnn_research import errors
from cnn_research.geometry import Geometry

Shapes = dict[str, tuple[int, ...]]


@dataclasses.dataclass(frozen=True)
class Scheme:
    """One way to share; `name` is its text in a configuration."""

    @property
    def name(self) -> str:
        """The text that `parse` reads."""
        raise NotImplementedError

    def shapes(self, g: Geometry, channels: int, features: int) -> Shapes:
        """Shapes of the parameters of a layer, without its bias. Raises InputError for a layer that the scheme cannot have."""
        raise NotImplementedError

    def weights(self, g: Geometry, channels: int, features: int) -> int:
        """Free parameters of a layer, without its bias."""
        return sum(math.prod(shape) for shape in self.shapes(g, channels, features).values())

    def connections(self, g: Geometry, channels: int, features: int) -> int:
        """Input-output pairs with a weight on them; pairs with padding are left out."""
        return g.connected * channels * features

    def macs(self, g: Geometry, channels: int, features: int) -> int:
        """Multiply-adds of one image forward; padding is multiplied too. (tiled computes whole tiles, which is not counted.)"""
        return math.prod(g.positions) * g.taps * channels * features


@dataclasses.dataclass(frozen=True)
class Shared(Scheme):
    """One kernel [kh, kw, C, F] for all positions."""

    name = 'shared'

    def shapes(self, g: Geometry, channels: int, features: int) -> Shapes:
        return {'kernel': (*g.kernel_size, channels, features)}


@dataclasses.dataclass(frozen=True)
class Coordinates(Scheme):
    """A shared kernel and one for two coordinate channels, [kh, kw, 2, F], which starts at zero.

    The coordinates do not depend on the image, so their maps are computed once for all images: they are not counted as connections,
    and their multiplications only once, whatever the batch, so not at all.
    """

    name = 'coordinates'

    def shapes(self, g: Geometry, channels: int, features: int) -> Shapes:
        return {'kernel': (*g.kernel_size, channels, features), 'coordinates': (*g.kernel_size, 2, features)}


@dataclasses.dataclass(frozen=True)
class Tiled(Scheme):
    """Kernels [th, tw, kh, kw, C, F]; position (i, j) uses the one at (i mod th, j mod tw)."""

    period: tuple[int, int]

    def __post_init__(self):
        for size in self.period:
            errors.positive('period', size)

    @property
    def name(self) -> str:
        return f'tiled:{self.period[0]}x{self.period[1]}'

    def shapes(self, g: Geometry, channels: int, features: int) -> Shapes:
        if any(t > size for t, size in zip(self.period, g.positions)):
            positions = f'{g.positions[0]} x {g.positions[1]}'
            raise errors.InputError(f'{self.name} has a longer period than the {positions} positions: use a shorter one, or local')
        return {'kernel': (*self.period, *g.kernel_size, channels, features)}


@dataclasses.dataclass(frozen=True)
class LowRank(Scheme):
    """K kernels [K, kh, kw, C, F], mixed at every position by weights [H', W', K], or [H', K] of its row plus [W', K] of its column."""

    rank: int
    row_column: bool = False
    free: bool = False

    def __post_init__(self):
        errors.positive('rank', self.rank)

    @property
    def name(self) -> str:
        return f'low_rank:{self.rank}' + ':row_column' * self.row_column + ':free' * self.free

    def shapes(self, g: Geometry, channels: int, features: int) -> Shapes:
        (rows, columns), kernel = g.positions, (self.rank, *g.kernel_size, channels, features)
        if self.row_column:
            return {'kernel': kernel, 'row': (rows, self.rank), 'column': (columns, self.rank)}
        return {'kernel': kernel, 'mixture': (rows, columns, self.rank)}

    def macs(self, g: Geometry, channels: int, features: int) -> int:
        return self.rank * (super().macs(g, channels, features) + math.prod(g.positions) * features)


@dataclasses.dataclass(frozen=True)
class Local(Scheme):
    """One kernel per position, [H', W', kh, kw, C, F]."""

    name = 'local'

    def shapes(self, g: Geometry, channels: int, features: int) -> Shapes:
        return {'kernel': (*g.positions, *g.kernel_size, channels, features)}


@dataclasses.dataclass(frozen=True)
class Averaged(Local):
    """Local, its kernels set to their mean over positions after every `every` steps of training."""

    every: int = 1

    def __post_init__(self):
        errors.positive('every', self.every)

    @property
    def name(self) -> str:  # type: ignore[override]
        return f'averaged:{self.every}'


@dataclasses.dataclass(frozen=True)
class Dense(Scheme):
    """A weight for every pixel and position, [H, W, C, H', W', F]."""

    name = 'dense'

    def shapes(self, g: Geometry, channels: int, features: int) -> Shapes:
        return {'kernel': (*g.image, channels, *g.positions, features)}

    def connections(self, g: Geometry, channels: int, features: int) -> int:
        return self.macs(g, channels, features)

    def macs(self, g: Geometry, channels: int, features: int) -> int:
        return math.prod((*g.image, channels, *g.positions, features))


@dataclasses.dataclass(frozen=True)
class MaskedDense(Dense):
    """A dense kernel of which only the weights under the filter are used; those alone are free, and count as weights."""

    name = 'masked_dense'

    def weights(self, g: Geometry, channels: int, features: int) -> int:
        return self.connections(g, channels, features)

    def connections(self, g: Geometry, channels: int, features: int) -> int:
        return g.connected * channels * features


def _low_rank(rank: str, row_column: str | None, free: str | None) -> Scheme:
    return LowRank(int(rank), bool(row_column), bool(free))


_number = r'([1-9][0-9]{0,5})'
# pattern as people read it -> (pattern, scheme); research code may add its own
KNOWN: dict[str, tuple[str, Callable[..., Scheme]]] = {
    'shared': ('shared', Shared),
    'coordinates': ('coordinates', Coordinates),
    'tiled:HxW': (f'tiled:{_number}x{_number}', lambda h, w: Tiled((int(h), int(w)))),
    'low_rank:K[:row_column][:free]': (f'low_rank:{_number}(:row_column)?(:free)?', _low_rank),
    'averaged:STEPS': (f'averaged:{_number}', lambda every: Averaged(every=int(every))),
    'local': ('local', Local),
    'masked_dense': ('masked_dense', MaskedDense),
    'dense': ('dense', Dense),
}


def parse(name: str) -> Scheme:
    """The scheme of this name, such as 'tiled:2x2'. Raises InputError that lists the known ones."""
    for pattern, make in KNOWN.values():
        found = re.fullmatch(pattern, name) if isinstance(name, str) else None
        if found:
            return make(*found.groups())
    raise errors.known('sharing scheme', name, KNOWN)
