"""Training on several devices: a mesh of three axes, and the programs of `engine` laid out on it.

    seed    seeds, each trained as if it were alone: nothing passes between them
    data    the images of a batch: what is summed over a batch is summed over these devices too
    model   the parameters of large layers, with what the optimizer keeps of them

What is computed is the same on every mesh, but for the order of sums. States in files know nothing of meshes: `fetch` makes them whole,
`place` puts them on any other. On several hosts every process calls all of this alike, in the same order.
"""

import functools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from cnn_research import engine
from cnn_research.layout import Layout
from cnn_research.problem import Arrays, Program

AXES = ('seed', 'data', 'model')
_LARGE = 2**20  # numbers in an array that is split along `model`; what is smaller is sent sooner than it is shared out


def make(sizes: Layout, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh of the first devices, of those of all hosts by default."""
    devices, kinds = jax.devices() if devices is None else devices, (AxisType.Auto,) * len(AXES)
    number = math.prod(sizes)
    if number == len(devices):  # laid out for the ways between them
        return jax.make_mesh(sizes, AXES, axis_types=kinds, devices=devices)
    return Mesh(np.array(devices[:number]).reshape(sizes), AXES, axis_types=kinds)  # a part of a TPU need not be a box


def of(tree: Any) -> Mesh | None:
    """The mesh that the arrays of a tree are on; None: a single device."""
    shardings = (leaf.sharding for leaf in jax.tree.leaves(tree) if isinstance(leaf, jax.Array))
    meshes = (sharding.mesh for sharding in shardings if isinstance(sharding, NamedSharding))
    return next((mesh for mesh in meshes if isinstance(mesh, Mesh)), None)


def place(mesh: Mesh | None, tree: Any, several: bool = False) -> Any:
    """A state, or a part of one, laid out on the mesh (None: on one device); with `several`, the first axis is that of seeds."""
    return jax.tree.map(jnp.asarray, tree) if mesh is None else jax.tree.map(_put, tree, shardings(mesh, tree, several))


def readers(mesh: Mesh | None) -> int:
    """Among how many groups of devices examples are dealt out: those that split large layers work on the same ones."""
    return 1 if mesh is None else mesh.shape['seed'] * mesh.shape['data']


def rows(mesh: Mesh | None, tree: Any) -> Any:
    """Examples [N, ...] dealt out to the devices; N must be a multiple of `readers`. None: as they are."""
    return tree if mesh is None else _put_all(tree, NamedSharding(mesh, PartitionSpec(('seed', 'data'))))


def _put(leaf: Any, sharding: NamedSharding) -> jax.Array:
    """An array on the devices. Of several processes that hold the same one each gives its own devices their part.

    (`jax.device_put` would gather it whole from all of them, to compare.)
    """
    if jax.process_count() == 1 or (isinstance(leaf, jax.Array) and not leaf.is_fully_addressable):
        return jax.device_put(leaf, sharding)
    whole = np.asarray(leaf)
    return jax.make_array_from_callback(whole.shape, sharding, lambda index: whole[index])


def _put_all(tree: Any, sharding: NamedSharding) -> Any:
    return jax.tree.map(lambda leaf: _put(leaf, sharding), tree)


def resident(mesh: Mesh, data: Arrays, several: bool) -> Arrays:
    """What training reads, on every device that will read it."""
    specs = {name: _seeds(mesh, several and name in engine.OWN) for name in Arrays._fields}
    return Arrays(*(_put_all(each, specs[name]) for name, each in data._asdict().items()))


def place_batches(mesh: Mesh | None, own: np.ndarray) -> jax.Array:
    """Batches [K, B, ...], of several processes each with its `own_rows`, on the devices that share every batch."""
    if mesh is None:
        return jnp.asarray(own)
    return jax.make_array_from_process_local_data(NamedSharding(mesh, PartitionSpec(None, 'data')), own)


def own_rows(mesh: Mesh | None, batch_size: int) -> np.ndarray:
    """Which rows of a batch the devices of this process compute."""
    rows = np.arange(batch_size)
    if mesh is None:
        return rows
    slices = NamedSharding(mesh, PartitionSpec('data')).addressable_devices_indices_map((batch_size,)).values()
    return np.unique(np.concatenate([rows[index] for index in slices if index is not None]))


def stack(trees: Sequence[Any]) -> Any:
    """Trees of several seeds as one whose leaves have the seeds as their first axis; one alone stays as it is."""
    if len(trees) == 1:
        return trees[0]
    return jax.tree.map(lambda *leaves: (jnp if isinstance(leaves[0], jax.Array) else np).stack(leaves), *trees)


def apart(tree: Any, number: int) -> Iterator[Any]:
    """The inverse of `stack`, each on the mesh of all; one after the other, for all of them might not fit there."""
    if number == 1:
        yield tree
        return
    on = of(tree)
    for i in range(number):
        yield place(on, jax.tree.map(lambda leaf, i=i: leaf[i], tree))


def fetch(tree: Any) -> Any:
    """The tree in host memory, as numpy arrays, in every process."""

    def whole(leaf: Any) -> np.ndarray:
        there = isinstance(leaf, jax.Array) and not (leaf.is_fully_addressable or leaf.is_fully_replicated)
        return np.asarray(multihost_utils.process_allgather(leaf, tiled=True) if there else leaf)

    return jax.tree.map(whole, tree)


def shardings(mesh: Mesh, tree: Any, several: bool) -> Any:
    """Where the arrays of a state go: seeds along `seed`, large arrays split along `model`, the rest on every device."""

    def of_leaf(leaf: Any) -> NamedSharding:
        shape = leaf.shape[1:] if several else leaf.shape
        return NamedSharding(mesh, PartitionSpec(*(('seed',) if several else ()), *_split(shape, mesh.shape['model'])))

    return jax.tree.map(of_leaf, tree)


def _split(shape: tuple[int, ...], parts: int) -> tuple[str | None, ...]:
    """The axes of a large array along which it is cut: the longest that can be cut evenly, of those equally long the first.

    (Products take several axes as one, and what is cut along the first of them stays so; along another it would be gathered whole.)
    """
    sides = [side if side % parts == 0 else 0 for side in shape]
    if parts == 1 or not any(sides) or math.prod(shape) < _LARGE:
        return ()
    return tuple('model' if i == sides.index(max(sides)) else None for i in range(len(shape)))


def _seeds(mesh: Mesh, several: bool) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec('seed') if several else PartitionSpec())


@functools.cache
def programs(program: Program, mesh: Mesh, several: bool) -> engine.Programs:
    """`engine.together`, or with one seed `engine.programs`, on a mesh. `evaluate` and `logits` run where their arguments are."""
    bind = functools.partial
    init, order = bind(engine.init, program), bind(engine.epoch_order, program)
    batch = NamedSharding(mesh, PartitionSpec('data'))
    steps: Any = bind(engine.chunk, program, spread=lambda chosen: jax.lax.with_sharding_constraint(chosen, batch))
    one = jax.eval_shape(init, np.uint32(0))
    if several:
        init, order, steps = jax.vmap(init), jax.vmap(order, (None, 0, None)), _side_by_side(steps, mesh)
        one = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((0, *leaf.shape), leaf.dtype), one)
    state, by_seed = shardings(mesh, one, several), _seeds(mesh, several)
    return engine.programs(program)._replace(
        init=jax.jit(init, out_shardings=state, compiler_options=engine.once()),
        order=jax.jit(order, out_shardings=by_seed, compiler_options=engine.once()),
        chunk=jax.jit(steps, donate_argnums=(1,), out_shardings=(state, by_seed)),
    )


def _side_by_side(steps: Any, mesh: Mesh) -> Any:
    """`engine.chunk` of several seeds, dealt out along `seed`; where each device has one, that is computed as if it were alone.

    (Under `vmap` convolutions become grouped ones, which are slower, and a partitioner may gather what it cannot cut.)
    """

    def local(*args: Any) -> Any:
        if len(args[1].step) > 1:
            return jax.vmap(steps, engine.CHUNK_AXES)(*args)
        alone = (_apply(arg, axes, lambda leaf: leaf[0]) for arg, axes in zip(args, engine.CHUNK_AXES))
        return jax.tree.map(lambda leaf: leaf[None], steps(*alone))

    specs = jax.tree.map(
        lambda axis: PartitionSpec() if axis is None else PartitionSpec('seed'), engine.CHUNK_AXES, is_leaf=lambda axis: axis is None
    )
    return jax.shard_map(local, mesh=mesh, in_specs=specs, out_specs=PartitionSpec('seed'), axis_names={'seed'}, check_vma=False)


def _apply(arg: Any, axes: Any, function: Any) -> Any:
    """The function on the leaves of an argument that have an axis of seeds."""
    if isinstance(axes, Arrays):
        return Arrays(*(_apply(own, axis, function) for own, axis in zip(arg, axes)))
    return arg if axes is None else jax.tree.map(function, arg)
