"""Pads, output sizes and connected taps against those of `flax.linen.Conv`, those of lax, and counting one by one."""

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from jax import lax

from cnn_research import errors, geometry

SIZES, KERNELS, STRIDES = st.integers(1, 13), st.integers(1, 7), st.integers(1, 3)
PADDINGS = st.sampled_from(geometry.PADDINGS)
few = settings(max_examples=40, deadline=None, derandomize=True)
many = settings(max_examples=300, deadline=None, derandomize=True)


def linen_output_size(size, kernel, stride, padding):
    """The length of what nn.Conv makes of `size` pixels."""
    pads = {'FULL': [(kernel - 1, kernel - 1)], 'HALF': [((kernel - 1) // 2, kernel // 2)]}.get(padding, padding)
    conv = nn.Conv(1, (kernel,), (stride,), pads)
    output, _ = jax.eval_shape(conv.init_with_output, jax.random.key(0), jnp.zeros((1, size, 1)))
    return output.shape[1]


def seen_pixels(size, kernel, stride, padding):
    """For each position the pixels under the filter, None for padding; counted out tap by tap."""
    low, high = geometry.pads(size, kernel, stride, padding)
    line = [None] * low + list(range(size)) + [None] * high
    if padding == 'CIRCULAR':
        line = [(i - low) % size for i in range(len(line))]
    return [line[start : start + kernel] for start in range(0, len(line) - kernel + 1, stride)]


@few
@given(SIZES, KERNELS, STRIDES, PADDINGS)
def test_output_size_is_that_of_linen_conv(size, kernel, stride, padding):
    assume(kernel <= size)
    expected = linen_output_size(size, kernel, stride, padding)
    assert geometry.output_size(size, kernel, stride, padding) == expected


@many
@given(SIZES, KERNELS, STRIDES)
def test_same_pads_are_those_of_lax(size, kernel, stride):
    assume(kernel <= size)
    assert geometry.pads(size, kernel, stride, 'SAME') == lax.padtype_to_pads((size,), (kernel,), (stride,), 'SAME')[0]


@pytest.mark.parametrize('kernel', [1, 2, 3, 4, 5])
@pytest.mark.parametrize('stride', [1, 2])
def test_pads_of_the_other_paddings(kernel, stride):
    assert geometry.pads(8, kernel, stride, 'VALID') == (0, 0)
    assert geometry.pads(8, kernel, stride, 'FULL') == (kernel - 1, kernel - 1)
    assert geometry.pads(8, kernel, stride, 'HALF') == geometry.pads(8, kernel, stride, 'CIRCULAR')
    low, high = geometry.pads(8, kernel, stride, 'CIRCULAR')
    assert low + high == kernel - 1 and high - low in (0, 1)


@many
@given(SIZES, KERNELS)
def test_output_sizes_at_stride_1(size, kernel):
    assume(kernel <= size)
    sizes = {padding: geometry.output_size(size, kernel, 1, padding) for padding in geometry.PADDINGS}
    assert sizes == {'VALID': size - kernel + 1, 'SAME': size, 'CIRCULAR': size, 'FULL': size + kernel - 1, 'HALF': size}


@many
@given(SIZES, KERNELS, STRIDES, PADDINGS)
def test_connected_taps_are_the_pixels_seen(size, kernel, stride, padding):
    assume(kernel <= size)
    seen = seen_pixels(size, kernel, stride, padding)
    assert geometry.output_size(size, kernel, stride, padding) == len(seen)
    taps = sum(pixel is not None for pixels in seen for pixel in pixels)
    assert geometry.connected_taps(size, kernel, stride, padding) == taps


@many
@given(SIZES, KERNELS)
def test_full_lets_every_tap_meet_every_pixel(size, kernel):
    assume(kernel <= size)
    met = [(tap, pixel) for pixels in seen_pixels(size, kernel, 1, 'FULL') for tap, pixel in enumerate(pixels)]
    met = [pair for pair in met if pair[1] is not None]
    assert sorted(met) == [(tap, pixel) for tap in range(kernel) for pixel in range(size)]


@pytest.mark.parametrize('padding', geometry.PADDINGS)
def test_a_kernel_larger_than_its_input_is_refused(padding):
    assert geometry.output_size(4, 4, 1, padding) >= 1
    for function in (geometry.pads, geometry.output_size, geometry.connected_taps):
        with pytest.raises(errors.InputError, match='kernel of 5 is larger than its input of 4'):
            function(4, 5, 1, padding)


@pytest.mark.parametrize('field', ['image', 'kernel_size', 'strides', 'dilation'])
def test_a_geometry_without_extent_is_refused(field):
    fields = {'image': (4, 4), 'kernel_size': (2, 2), 'strides': (1, 1), 'dilation': (1, 1)}
    for value in (0, -1):
        with pytest.raises(errors.InputError, match=f'{field} must be above zero'):
            geometry.Geometry(**fields | {field: (1, value)})


def test_an_unknown_padding_lists_the_known():
    with pytest.raises(errors.InputError, match="'same': did you mean 'SAME'. known: VALID, SAME, CIRCULAR, FULL, HALF"):
        geometry.pads(8, 3, 1, 'same')
