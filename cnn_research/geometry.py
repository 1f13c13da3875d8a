"""Where a filter lies on an image: padding and output sizes in exact integers (imports no jax).

The conventions are those of `flax.linen.Conv` where it has the padding (VALID, SAME, CIRCULAR); FULL pads by k - 1 on both sides, so
that every tap of the filter meets every pixel (Kayhan & van Gemert, CVPR 2020, section 3).
"""

from cnn_research import errors

PADDINGS = ('VALID', 'SAME', 'CIRCULAR', 'FULL')


def pads(size: int, kernel: int, stride: int, padding: str) -> tuple[int, int]:
    """Pixels added before and after one axis of `size` pixels. Raises InputError for an unknown padding or a kernel that does not fit."""
    if kernel > size:
        raise errors.InputError(f'a kernel of {kernel} is larger than its input of {size} pixels: use a smaller kernel or a larger canvas')
    if padding == 'VALID':
        return 0, 0
    if padding == 'FULL':
        return kernel - 1, kernel - 1
    if padding == 'CIRCULAR':
        return (kernel - 1) // 2, kernel // 2
    if padding == 'SAME':
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        return total // 2, total - total // 2
    raise errors.known('padding', padding, PADDINGS)


def output_size(size: int, kernel: int, stride: int, padding: str) -> int:
    """Positions of the filter along one axis."""
    low, high = pads(size, kernel, stride, padding)
    return (size + low + high - kernel) // stride + 1


def connected_taps(size: int, kernel: int, stride: int, padding: str) -> int:
    """(position, tap) pairs along one axis that meet a pixel rather than padding; wrapped pixels (CIRCULAR) are pixels."""
    low, _ = pads(size, kernel, stride, padding)
    positions = output_size(size, kernel, stride, padding)
    if padding == 'CIRCULAR':
        return positions * kernel
    starts = range(-low, -low + positions * stride, stride)
    return sum(min(start + kernel, size) - max(start, 0) for start in starts)
