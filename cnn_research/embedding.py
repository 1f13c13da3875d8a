"""Exact embeddings along the axis of sharing, and the least-squares way back.

Each scheme contains those before it: shared in tiled in locally connected in masked dense in dense; shared in low-rank in locally
connected; period t in a multiple of t; k x k in a larger kernel. `embed` and `enlarge` keep every output of a layer, `embed_model` and
`enlarge_model` those of a whole network in evaluation mode. Where there is no containment they raise, and `projection.project`
gives the nearest there is.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnn_research import config, cost, errors, schemes, sharing
from cnn_research.geometry import Geometry

Params = Mapping[str, jax.Array]


def embed(
    params: Params, source: schemes.Scheme, target: schemes.Scheme, g: Geometry, key: jax.Array | None = None
) -> dict[str, jax.Array]:
    """The parameters with which a layer of scheme `target` makes the maps of one of scheme `source`; a bias goes along.

    A low-rank target gets K equal kernels and random mixtures, drawn with `key` (None: key 0), which sum to one at every position: its
    kernels differ after one step of training. Coordinates become a bias per position, [H', W', F], in any other scheme. Whether a dense
    kernel is local is read off its numbers, so that embedding cannot be compiled.

    Raises:
      InputError: `target` does not contain `source` or cannot have this layer, the parameters belong to another geometry, a dense
        kernel has weights outside the filter, or the result is larger than the memory of this machine. The message says what there is
        instead.
    """
    channels, features = check(params, source, g)
    cost.check_layer_fits(target.name, target.shapes(g, channels, features), params['kernel'].dtype.itemsize)
    if source == target:
        return dict(params)
    bias = {'bias': params['bias']} if 'bias' in params else {}
    if isinstance(source, schemes.Coordinates):
        bias = {'bias': bias.get('bias', 0) + sharing.coordinate_bias(g, params)[0]}
        source = schemes.Shared()
    elif source == schemes.Tiled((1, 1)):
        params, source = {'kernel': params['kernel'][0, 0]}, schemes.Shared()
    _check_contained(params, source, target, g)
    if source == target:
        return {'kernel': params['kernel'], **bias}
    if type(target) is schemes.Dense and type(source) is schemes.MaskedDense:
        return {'kernel': params['kernel'] * sharing.locality_mask(g), **bias}
    if isinstance(target, schemes.LowRank):
        if isinstance(source, schemes.LowRank):
            mixture = sharing.mixture(source, params) if target.free else sharing.scores(source, params)
            return {'kernel': params['kernel'], 'mixture': mixture, **bias}
        return {**_mixed(params['kernel'], target, g, jax.random.key(0) if key is None else key), **bias}
    if isinstance(target, schemes.Coordinates):
        kernel = params['kernel']
        return {'kernel': kernel, 'coordinates': jnp.zeros((*kernel.shape[:2], 2, kernel.shape[3]), kernel.dtype), **bias}
    kernel = sharing.expand(source, g, params)
    if isinstance(target, schemes.Tiled):
        kernel = kernel[: target.period[0], : target.period[1]]
    elif isinstance(target, schemes.Dense):
        kernel = sharing.matrix(g, kernel)
    return {'kernel': kernel, **bias}


def check(params: Params, scheme: schemes.Scheme, g: Geometry) -> tuple[int, int]:
    """Channels and features. Raises InputError unless the parameters are those of a layer of this scheme and geometry."""
    if 'kernel' not in params:
        raise errors.InputError(f'a {scheme.name} layer has a kernel, got the parameters {", ".join(params)}')
    shape = params['kernel'].shape
    if len(shape) < 4:
        raise errors.InputError(f'a {scheme.name} layer has a kernel of at least four axes, got shape {shape}')
    channels, features = shape[2 if isinstance(scheme, schemes.Dense) else -2], shape[-1]
    expected = scheme.shapes(g, channels, features)
    found = {name: leaf.shape for name, leaf in params.items() if name != 'bias'}
    if found != expected:
        size = f'{g.image[0]} x {g.image[1]}'
        text = f'no {scheme.name} layer with filters of {g.kernel_size[0]} x {g.kernel_size[1]} on images of {size} has the parameters'
        raise errors.InputError(f'{text} {found}, it would have {expected}: give the image size that the layer was made for')
    if 'bias' in params and params['bias'].shape not in ((features,), (*g.positions, features)):
        raise errors.InputError(f'a bias is {(features,)} or {(*g.positions, features)} here, got shape {params["bias"].shape}')
    return channels, features


def _check_contained(params: Params, source: schemes.Scheme, target: schemes.Scheme, g: Geometry) -> None:
    local_like = isinstance(target, schemes.Local | schemes.Dense)
    if source == target or isinstance(source, schemes.Shared):
        return
    refused = f'no embedding of {source.name} into {target.name}'
    if isinstance(source, schemes.Tiled) and isinstance(target, schemes.Tiled):
        if all(new % old == 0 for new, old in zip(target.period, source.period)):
            return
        raise errors.InputError(f'{refused}: the new period must be a multiple of the old one')
    if isinstance(source, schemes.LowRank) and isinstance(target, schemes.LowRank):
        freer = target.free or not source.free
        if target.rank == source.rank and not target.row_column and freer:
            return
    if type(source) is schemes.Dense and local_like:
        squares = np.square(np.asarray(params['kernel'], np.float64))
        outside = np.sum(np.where(np.asarray(sharing.locality_mask(g)), 0, squares))
        if not outside:
            return
        refused += f', for {100 * outside / np.sum(squares):.3g} % of its squared weights lie outside the filter'
    elif local_like:
        return
    raise errors.InputError(f'{refused}: projection.project() gives the nearest {_projected(target)} layer')


def _projected(target: schemes.Scheme) -> str:
    """The name of the scheme that `projection.project` has for this one."""
    if isinstance(target, schemes.LowRank):
        return schemes.LowRank(target.rank, free=True).name
    return 'shared' if isinstance(target, schemes.Coordinates) else target.name


def _mixed(kernel: jax.Array, scheme: schemes.LowRank, g: Geometry, key: jax.Array) -> dict[str, jax.Array]:
    """K copies of a shared kernel and random mixtures that sum to one at every position."""
    shapes = scheme.shapes(g, kernel.shape[2], kernel.shape[3])
    names = [name for name in shapes if name != 'kernel']
    mixtures = {}
    for i, name in enumerate(names):
        draw = jax.random.normal(jax.random.fold_in(key, i), shapes[name], kernel.dtype)
        # softmax: any numbers sum to one afterwards; free: each part sums to its share of one
        mixtures[name] = jax.nn.softmax(draw, axis=-1) / len(names) if scheme.free else draw
    return {'kernel': jnp.broadcast_to(kernel, shapes['kernel']), **mixtures}


def enlarge(params: Params, scheme: schemes.Scheme, g: Geometry, kernel_size: tuple[int, int]) -> dict[str, jax.Array]:
    """The parameters with which a layer with larger filters makes the same maps: zeros around each kernel, where the padding puts them.

    Raises:
      InputError: padding VALID or FULL (the maps change size), a smaller or a too large kernel, or taps that do not fall on the new ones.
    """
    check(params, scheme, g)
    if g.padding in ('VALID', 'FULL'):
        raise errors.InputError(f'a larger kernel makes maps of another size under {g.padding} padding: SAME, CIRCULAR and HALF keep it')
    new = dataclasses.replace(g, kernel_size=kernel_size)
    for old, now in zip(g.kernel_size, kernel_size):
        if now < old:
            raise errors.InputError(f'a kernel of {now} does not contain one of {old}')
    if type(scheme) is schemes.Dense:
        return dict(params)  # every weight is there already
    if isinstance(scheme, schemes.MaskedDense):
        return {**params, 'kernel': params['kernel'] * sharing.locality_mask(g)}
    around = []
    for axis in (0, 1):
        moved, dilation = new.pads[axis][0] - g.pads[axis][0], g.dilation[axis]
        before, more = moved // dilation, kernel_size[axis] - g.kernel_size[axis]
        if moved % dilation or not 0 <= before <= more:
            sizes = f'a kernel of {kernel_size[axis]} has no taps where those of {g.kernel_size[axis]} lie'
            raise errors.InputError(f'{sizes}: choose another size')
        around.append((before, more - before))

    def larger(kernel):  # taps are the axes -4 and -3
        return jnp.pad(kernel, [(0, 0)] * (kernel.ndim - 4) + [*around, (0, 0), (0, 0)])

    return {name: larger(leaf) if name in ('kernel', 'coordinates') else leaf for name, leaf in params.items()}


def embed_model(
    model: config.ModelConfig, variables: Mapping[str, Any], image: cost.Shape, sharing_: str | Sequence[str], key: jax.Array | None = None
) -> tuple[config.ModelConfig, dict[str, Any]]:
    """The network with other sharing that gives the same logits in evaluation mode: (model, variables), for images (H, W, C).

    sharing_: one scheme for all stages, or one each. Norm, pooling, head and dense layers keep their parameters and statistics. The
    optimizer's state belongs to the old parameters: start it anew.

    Raises:
      InputError: as `embed`; the stage is named.
    """
    names = (sharing_,) * len(model.sharing) if isinstance(sharing_, str) else tuple(sharing_)
    new = dataclasses.replace(model, sharing=names)
    params = dict(variables['params'])
    key = jax.random.key(0) if key is None else key
    for i, (old, now) in enumerate(zip(cost.stages(model, image), cost.stages(new, image))):
        if isinstance(old.scheme, schemes.Coordinates) and now.scheme != old.scheme:
            raise errors.InputError(f'{old.name}: its coordinates are a bias per position, which networks lack: embed() the layer')
        try:
            params[old.name] = embed(params[old.name], old.scheme, now.scheme, old.geometry, jax.random.fold_in(key, i))
        except errors.InputError as e:
            raise errors.InputError(f'{old.name}: {e}') from None
    return new, {**variables, 'params': params}


def enlarge_model(
    model: config.ModelConfig, variables: Mapping[str, Any], image: cost.Shape, kernel_sizes: Sequence[int]
) -> tuple[config.ModelConfig, dict[str, Any]]:
    """The network with larger filters (one side per stage) that gives the same logits in evaluation mode. Raises as `enlarge`."""
    new = dataclasses.replace(model, kernel_sizes=tuple(kernel_sizes))
    params = dict(variables['params'])
    for old, side in zip(cost.stages(model, image), new.kernel_sizes):
        params[old.name] = enlarge(params[old.name], old.scheme, old.geometry, (side, side))
    return new, {**variables, 'params': params}
