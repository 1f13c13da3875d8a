"""What `experiments.benchmark` times: this engine, Flax as its examples write it, and PyTorch, on the same work.

Every function makes a run: called with a count, it does the work so often and waits for it. Images are noise, of the sizes of
Fashion-MNIST: no time depends on what they show. All train with Nesterov momentum 0.9 on batches drawn from uint8 images in memory.
"""

from typing import Any

import numpy as np

from cnn_research import config, schemes
from cnn_research.geometry import Geometry
from experiments.timing import Run

IMAGES = 4096
SIDE = 28
CLASSES = 10


def images() -> tuple[np.ndarray, np.ndarray]:
    """Noise: uint8 [N, 28, 28, 1] and labels int32 [N]."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (IMAGES, SIDE, SIDE, 1), np.uint8), rng.integers(0, CLASSES, IMAGES, np.int32)


def normal(*shape: int) -> np.ndarray:
    """Float32 normal numbers."""
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def engine_step(model: config.ModelConfig, batch_size: int, threads: int) -> Run:
    """Training steps of this engine: a chunk of steps as one compiled program."""
    import jax

    from cnn_research import engine, problem

    c = config.Config(
        model, config.DataConfig('fashion_mnist'), config.TrainConfig(batch_size=batch_size, optimizer='sgd', learning_rate=1e-3)
    )
    posed = problem.Problem(c, (SIDE, SIDE, 1), CLASSES, IMAGES, IMAGES)
    programs, setting, seed = engine.programs(posed.program), posed.setting, np.uint32(0)
    pool = problem.Examples(*images(), None)
    scale, draw = np.full(1, 1 / 255, np.float32), np.arange(IMAGES, dtype=np.int32)
    data = jax.device_put(problem.Arrays(pool, draw, None, None, None, None, None, scale))
    order, state = programs.order(setting, seed, np.int32(0)), programs.init(seed)

    def run(count: int) -> None:
        nonlocal state
        while count:
            steps = min(count, posed.steps_per_epoch)
            state, _ = programs.chunk(setting, state, data, seed, order, np.int32(0), np.int32(steps))
            count -= steps
        jax.block_until_ready(state)

    return run


def flax_step(model: config.ModelConfig, batch_size: int, threads: int) -> Run:
    """Training steps as the examples of Flax write them: a compiled step, fed with a batch by the host each time."""
    import jax
    import jax.numpy as jnp
    import optax
    from flax import linen as nn
    from flax.training import train_state

    class Network(nn.Module):
        @nn.compact
        def __call__(self, x):
            for stage in model.stages():
                x = nn.relu(nn.Conv(stage.features, (stage.kernel_size,) * 2)(x))
                x = nn.max_pool(x, (stage.pool,) * 2, (stage.pool,) * 2)
            x = x.reshape(len(x), -1) if model.head == 'flatten' else x.max((1, 2))
            for width in model.hidden:
                x = nn.relu(nn.Dense(width)(x))
            return nn.Dense(CLASSES)(x)

    network, (pixels, labels) = Network(), images()
    params = network.init(jax.random.key(0), jnp.zeros((1, SIDE, SIDE, 1)))['params']
    state = train_state.TrainState.create(apply_fn=network.apply, params=params, tx=optax.sgd(1e-3, 0.9, nesterov=True))

    @jax.jit
    def step(state, images, labels):
        def loss(params):
            logits = state.apply_fn({'params': params}, images)
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

        value, grads = jax.value_and_grad(loss)(state.params)
        return state.apply_gradients(grads=grads), value

    order = np.random.default_rng(0).permutation(IMAGES)

    def run(count: int) -> None:
        nonlocal state
        for i in range(count):
            chosen = order[i * batch_size % (IMAGES - batch_size) :][:batch_size]
            state, _ = step(state, pixels[chosen].astype(np.float32) / 255, labels[chosen])
        jax.block_until_ready(state)

    return run


def torch_step(model: config.ModelConfig, batch_size: int, mode: str, threads: int) -> Run:
    """Training steps in PyTorch; `mode`: eager, eager channels-last, or compiled channels-last."""
    import torch
    from torch import nn

    torch.set_num_threads(threads)
    layers: list[nn.Module] = []
    channels, side = 1, SIDE
    for stage in model.stages():
        layers += [nn.Conv2d(channels, stage.features, stage.kernel_size, padding='same'), nn.ReLU(), nn.MaxPool2d(stage.pool)]
        channels, side = stage.features, side // stage.pool
    layers += [nn.Flatten()] if model.head == 'flatten' else [nn.AdaptiveMaxPool2d(1), nn.Flatten()]
    width = channels * side**2 if model.head == 'flatten' else channels
    for units in model.hidden:
        layers += [nn.Linear(width, units), nn.ReLU()]
        width = units
    form = torch.channels_last if 'channels-last' in mode else torch.contiguous_format
    network = nn.Sequential(*layers, nn.Linear(width, CLASSES)).to(memory_format=form)
    optimizer = torch.optim.SGD(network.parameters(), 1e-3, momentum=0.9, nesterov=True)

    def loss(x, y):
        return nn.functional.cross_entropy(network(x), y)

    loss = torch.compile(loss) if mode.startswith('compiled') else loss
    pixels, labels = (torch.from_numpy(array) for array in images())
    pixels, labels = pixels.permute(0, 3, 1, 2).contiguous(), labels.long()
    order = torch.randperm(IMAGES)

    def run(count: int) -> None:
        for i in range(count):
            chosen = order[i * batch_size % (IMAGES - batch_size) :][:batch_size]
            optimizer.zero_grad(set_to_none=True)
            loss((pixels[chosen].float() / 255).contiguous(memory_format=form), labels[chosen]).backward()
            optimizer.step()

    return run


def _in_a_loop(function: Any, *arguments: Any) -> Run:
    """Forward and backward of `function`, as often as asked in one compiled loop in which nothing can be left out."""
    import jax
    import jax.numpy as jnp

    cotangent = jnp.asarray(normal(*jax.eval_shape(function, *arguments).shape))

    @jax.jit
    def loop(count, cotangent, arguments):
        def body(_, carry):
            cotangent, arguments = carry
            y, back = jax.vjp(function, *arguments)
            return jax.tree.map(lambda a, b: a + 1e-9 * b, (cotangent, arguments), (y, back(cotangent)))

        return jax.lax.fori_loop(0, count, body, (cotangent, arguments))

    arguments = jax.tree.map(jnp.asarray, arguments)
    return lambda count: jax.block_until_ready(loop(np.int32(count), cotangent, arguments))


def own_layer(scheme: str, g: Geometry, images: int, channels: int, features: int, threads: int) -> Run:
    """A layer of any scheme, forward and backward, in a compiled loop as in the engine."""
    from cnn_research import sharing

    parsed = schemes.parse(scheme)
    params = {name: normal(*shape) for name, shape in parsed.shapes(g, channels, features).items()}
    return _in_a_loop(lambda params, x: sharing.apply(parsed, g, params, x), params, normal(images, *g.image, channels))


def convolution(way: str, g: Geometry, images: int, channels: int, features: int, threads: int) -> Run:
    """A convolution by one of `lowering.WAYS`, forward and backward, in a compiled loop as in the engine."""
    from cnn_research import lowering

    x, kernel = normal(images, *g.image, channels), normal(*g.kernel_size, channels, features)
    return _in_a_loop(lambda x, kernel: lowering.WAYS[way](x, kernel, g), x, kernel)


def linen_local_layer(g: Geometry, images: int, channels: int, features: int, threads: int) -> Run:
    """`flax.linen.ConvLocal`, forward and backward, called as a compiled function each time (in a loop it is slower)."""
    import jax
    import jax.numpy as jnp
    from flax import linen as nn

    layer, x = nn.ConvLocal(features, g.kernel_size), jnp.asarray(normal(images, *g.image, channels))
    variables = layer.init(jax.random.key(0), x)
    cotangent = jnp.asarray(normal(images, *g.positions, features))
    both = jax.jit(lambda variables, x: jax.vjp(layer.apply, variables, x)[1](cotangent))

    def run(count: int) -> None:
        for _ in range(count):
            jax.block_until_ready(both(variables, x))

    return run


def torch_layer(kind: str, g: Geometry, images: int, channels: int, features: int, threads: int) -> Run:
    """PyTorch, forward and backward: `conv2d` (channels-last), or `local` as unfold and a batched matrix product over positions."""
    import torch
    from torch.nn import functional

    torch.set_num_threads(threads)
    (kh, kw), ((low, high), (left, right)) = g.kernel_size, g.pads
    x = torch.from_numpy(normal(images, channels, *g.image)).requires_grad_()
    positions = g.positions[0] * g.positions[1]
    if kind == 'conv2d':
        x = x.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
        kernel = torch.from_numpy(normal(features, channels, kh, kw)).contiguous(memory_format=torch.channels_last).requires_grad_()
    else:
        kernel = torch.from_numpy(normal(positions, channels * kh * kw, features)).requires_grad_()
    cotangent = torch.from_numpy(normal(images, features, *g.positions))

    def forward():
        padded = functional.pad(x, (left, right, low, high)) if (low, left) != (high, right) else x
        padding = 0 if padded is not x else (low, left)
        if kind == 'conv2d':
            return functional.conv2d(padded, kernel, padding=padding)
        seen = functional.unfold(padded, (kh, kw), padding=padding)  # [N, C * kh * kw, positions]
        return torch.bmm(seen.permute(2, 0, 1), kernel).permute(1, 2, 0).reshape(cotangent.shape)

    def run(count: int) -> None:
        for _ in range(count):
            x.grad = kernel.grad = None
            forward().backward(cotangent)

    return run


def matrix_product(threads: int, size: int = 1024) -> Run:
    """A product of two size x size matrices: the peak that others are measured by."""
    import jax
    import jax.numpy as jnp

    a = jnp.asarray(normal(size, size)) / size**0.5
    loop = jax.jit(lambda count, a: jax.lax.fori_loop(0, count, lambda _, b: jnp.matmul(a, b, precision='highest'), a))
    return lambda count: jax.block_until_ready(loop(np.int32(count), a))
