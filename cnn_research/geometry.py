"""Where a filter lies on an image: padding, positions and the pixels under every tap, in exact integers (imports no jax).

The conventions are those of `flax.linen.Conv` where it has the padding (VALID, SAME, CIRCULAR); FULL pads by k - 1 on both sides, so
that every tap of the filter meets every pixel (Kayhan & van Gemert, CVPR 2020, section 3); HALF pads by half of k on both sides whatever
the stride, as PyTorch's padding=k // 2 does, where SAME at a stride pads what is missing, more behind than before.
"""

import dataclasses

import numpy as np

from cnn_research import errors

PADDINGS = ('VALID', 'SAME', 'CIRCULAR', 'FULL', 'HALF')


def pads(size: int, kernel: int, stride: int, padding: str, dilation: int = 1) -> tuple[int, int]:
    """Pixels added before and after one axis of `size` pixels. Raises InputError for an unknown padding or a kernel that does not fit."""
    reach = (kernel - 1) * dilation + 1
    if reach > size:
        raise errors.InputError(f'a kernel of {reach} is larger than its input of {size} pixels: use a smaller kernel or a larger image')
    if padding == 'VALID':
        return 0, 0
    if padding == 'FULL':
        return reach - 1, reach - 1
    if padding in ('CIRCULAR', 'HALF'):
        return (reach - 1) // 2, reach // 2
    if padding == 'SAME':
        total = max((-(-size // stride) - 1) * stride + reach - size, 0)
        return total // 2, total - total // 2
    raise errors.known('padding', padding, PADDINGS)


def output_size(size: int, kernel: int, stride: int, padding: str, dilation: int = 1) -> int:
    """Positions of the filter along one axis."""
    low, high = pads(size, kernel, stride, padding, dilation)
    return (size + low + high - (kernel - 1) * dilation - 1) // stride + 1


def connected_taps(size: int, kernel: int, stride: int, padding: str, dilation: int = 1) -> int:
    """(position, tap) pairs along one axis that meet a pixel rather than padding; wrapped pixels (CIRCULAR) are pixels."""
    low, _ = pads(size, kernel, stride, padding, dilation)
    positions = output_size(size, kernel, stride, padding, dilation)
    if padding == 'CIRCULAR':
        return positions * kernel
    total = 0
    for tap in range(kernel):  # at position i it lies on pixel i * stride + tap * dilation - low
        first = -(-max(low - tap * dilation, 0) // stride)
        last = min((size - 1 + low - tap * dilation) // stride, positions - 1)
        total += max(last - first + 1, 0)
    return total


@dataclasses.dataclass(frozen=True)
class Geometry:
    """Where the filters of one layer lie: image (H, W), kernel (kh, kw), strides, padding, dilation.

    Raises:
      InputError: unknown padding, a kernel larger than the image, or a number below one.
    """

    image: tuple[int, int]
    kernel_size: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    padding: str = 'SAME'
    dilation: tuple[int, int] = (1, 1)

    def __post_init__(self):
        for name in ('image', 'kernel_size', 'strides', 'dilation'):
            if min(getattr(self, name)) < 1:
                raise errors.InputError(f'{name} must be above zero, got {getattr(self, name)}')
        for axis in (0, 1):
            pads(*self._axis(axis))

    def _axis(self, axis: int) -> tuple[int, int, int, str, int]:
        return self.image[axis], self.kernel_size[axis], self.strides[axis], self.padding, self.dilation[axis]

    @property
    def pads(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Pixels added (before, after) rows and columns."""
        return pads(*self._axis(0)), pads(*self._axis(1))

    @property
    def positions(self) -> tuple[int, int]:
        """Positions of the filter, (H', W'): the size of the output maps."""
        return output_size(*self._axis(0)), output_size(*self._axis(1))

    @property
    def taps(self) -> int:
        """Taps of one filter per input channel, kh * kw."""
        return self.kernel_size[0] * self.kernel_size[1]

    @property
    def connected(self) -> int:
        """(position, tap) pairs that meet a pixel rather than padding."""
        return connected_taps(*self._axis(0)) * connected_taps(*self._axis(1))

    def pixels(self, axis: int) -> np.ndarray:
        """The row (axis 0) or column (1) under each tap at each position, int [positions, taps]; -1 is padding."""
        size, kernel, stride, padding, dilation = self._axis(axis)
        seen = np.arange(self.positions[axis])[:, None] * stride + np.arange(kernel) * dilation - self.pads[axis][0]
        if padding == 'CIRCULAR':
            return seen % size
        return np.where((seen >= 0) & (seen < size), seen, -1)

    def mask(self) -> np.ndarray:
        """Which taps meet a pixel at which position, bool [H', W', kh, kw]."""
        rows, columns = self.pixels(0) >= 0, self.pixels(1) >= 0
        return rows[:, None, :, None] & columns[None, :, None, :]
