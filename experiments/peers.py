"""What one would use instead, on the same work as `contenders`: Flax as its examples write it, and PyTorch."""

from typing import Any

import numpy as np

from cnn_research import config
from cnn_research.geometry import Geometry
from experiments import contenders
from experiments.timing import Run


def _flax(model: config.ModelConfig) -> tuple[Any, Any]:
    """A training as the examples of Flax write it: a compiled step, and its state."""
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
            return nn.Dense(contenders.CLASSES)(x)

    network = Network()
    params = network.init(jax.random.key(0), jnp.zeros((1, contenders.SIDE, contenders.SIDE, 1)))['params']
    state = train_state.TrainState.create(apply_fn=network.apply, params=params, tx=optax.sgd(1e-3, 0.9, nesterov=True))

    @jax.jit
    def step(state, images, labels):
        def loss(params):
            logits = state.apply_fn({'params': params}, images)
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

        value, grads = jax.value_and_grad(loss)(state.params)
        return state.apply_gradients(grads=grads), value

    return step, state


def flax_step(model: config.ModelConfig, batch_size: int, threads: int) -> Run:
    """Training steps of Flax, fed with a batch by the host each time."""
    import jax

    (step, state), (pixels, labels) = _flax(model), contenders.images()
    order = np.random.default_rng(0).permutation(contenders.IMAGES)

    def run(count: int) -> None:
        nonlocal state
        for i in range(count):
            chosen = order[i * batch_size % (contenders.IMAGES - batch_size) :][:batch_size]
            state, _ = step(state, pixels[chosen].astype(np.float32) / 255, labels[chosen])
        jax.block_until_ready(state)

    return run


def flax_compilation(model: config.ModelConfig, batch_size: int, threads: int) -> Run:
    """The step of Flax, traced and compiled anew."""
    import jax

    (step, state), (pixels, labels) = _flax(model), contenders.images()

    def run(count: int) -> None:
        for _ in range(count):
            jax.clear_caches()
            step.lower(state, pixels[:batch_size].astype(np.float32), labels[:batch_size]).compile()

    return run


def linen_local_layer(g: Geometry, images: int, channels: int, features: int, threads: int) -> Run:
    """`flax.linen.ConvLocal`, forward and backward, called as a compiled function each time (in a loop it is slower)."""
    import jax
    import jax.numpy as jnp
    from flax import linen as nn

    layer, x = nn.ConvLocal(features, g.kernel_size), jnp.asarray(contenders.normal(images, *g.image, channels))
    variables = layer.init(jax.random.key(0), x)
    cotangent = jnp.asarray(contenders.normal(images, *g.positions, features))
    both = jax.jit(lambda variables, x: jax.vjp(layer.apply, variables, x)[1](cotangent))

    def run(count: int) -> None:
        for _ in range(count):
            jax.block_until_ready(both(variables, x))

    return run


def torch_step(model: config.ModelConfig, batch_size: int, mode: str, threads: int) -> Run:
    """Training steps in PyTorch; `mode`: eager, eager channels-last, or compiled channels-last."""
    import torch
    from torch import nn

    torch.set_num_threads(threads)
    layers: list[nn.Module] = []
    channels, side = 1, contenders.SIDE
    for stage in model.stages():
        layers += [nn.Conv2d(channels, stage.features, stage.kernel_size, padding='same'), nn.ReLU(), nn.MaxPool2d(stage.pool)]
        channels, side = stage.features, side // stage.pool
    layers += [nn.Flatten()] if model.head == 'flatten' else [nn.AdaptiveMaxPool2d(1), nn.Flatten()]
    width = channels * side**2 if model.head == 'flatten' else channels
    for units in model.hidden:
        layers += [nn.Linear(width, units), nn.ReLU()]
        width = units
    form = torch.channels_last if 'channels-last' in mode else torch.contiguous_format
    network = nn.Sequential(*layers, nn.Linear(width, contenders.CLASSES)).to(memory_format=form)
    optimizer = torch.optim.SGD(network.parameters(), 1e-3, momentum=0.9, nesterov=True)

    def loss(x, y):
        return nn.functional.cross_entropy(network(x), y)

    loss = torch.compile(loss) if mode.startswith('compiled') else loss
    pixels, labels = (torch.from_numpy(array) for array in contenders.images())
    pixels, labels = pixels.permute(0, 3, 1, 2).contiguous(), labels.long()
    order = torch.randperm(contenders.IMAGES)

    def run(count: int) -> None:
        for i in range(count):
            chosen = order[i * batch_size % (contenders.IMAGES - batch_size) :][:batch_size]
            optimizer.zero_grad(set_to_none=True)
            loss((pixels[chosen].float() / 255).contiguous(memory_format=form), labels[chosen]).backward()
            optimizer.step()

    return run


def torch_layer(kind: str, g: Geometry, images: int, channels: int, features: int, threads: int) -> Run:
    """PyTorch, forward and backward: `conv2d` (channels-last), or `local` as unfold and a batched matrix product over positions."""
    import torch
    from torch.nn import functional

    torch.set_num_threads(threads)
    (kh, kw), ((low, high), (left, right)) = g.kernel_size, g.pads
    x = torch.from_numpy(contenders.normal(images, channels, *g.image)).requires_grad_()
    positions = g.positions[0] * g.positions[1]
    if kind == 'conv2d':
        x = x.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
        kernel = (
            torch.from_numpy(contenders.normal(features, channels, kh, kw)).contiguous(memory_format=torch.channels_last).requires_grad_()
        )
    else:
        kernel = torch.from_numpy(contenders.normal(positions, channels * kh * kw, features)).requires_grad_()
    cotangent = torch.from_numpy(contenders.normal(images, features, *g.positions))

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
