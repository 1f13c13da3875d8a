"""What `experiments.benchmark` times of this project, and what it measures the machine by; others on the same work are in `peers`.

Every function makes a run: called with a count, it does the work so often and waits for it. Images are noise, of the sizes of
Fashion-MNIST: no time depends on what they show. All train with Nesterov momentum 0.9 on batches drawn from uint8 images in memory.
"""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from cnn_research import config, schemes
from cnn_research.geometry import Geometry
from experiments.timing import Run

IMAGES = 4096
SIDE = 28
CLASSES = 10
PRODUCT = 1024  # side of the matrices
COPIED = 2**27  # bytes


def images() -> tuple[np.ndarray, np.ndarray]:
    """Noise: uint8 [N, 28, 28, 1] and labels int32 [N]."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (IMAGES, SIDE, SIDE, 1), np.uint8), rng.integers(0, CLASSES, IMAGES, np.int32)


def normal(*shape: int) -> np.ndarray:
    """Float32 normal numbers."""
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def _engine(model: config.ModelConfig, batch_size: int, seeds: int = 1) -> tuple[Any, Any, Any, Any]:
    """A training by this engine: its programs, its state, the other arguments of a chunk from its first step on, its problem."""
    import jax
    import jax.numpy as jnp

    from cnn_research import engine, problem

    c = config.Config(
        model, config.DataConfig('fashion_mnist'), config.TrainConfig(batch_size=batch_size, optimizer='sgd', learning_rate=1e-3)
    )
    posed = problem.Problem(c, (SIDE, SIDE, 1), CLASSES, IMAGES, IMAGES)
    pool = problem.Examples(*images(), None)
    own: list[Any] = [np.full(1, 1 / 255, np.float32), np.arange(IMAGES, dtype=np.int32), np.uint32(0)]
    programs, nothing = engine.programs(posed.program), engine.NOTHING
    if seeds > 1:
        programs = engine.together(posed.program)
        own, nothing = jax.tree.map(lambda value: np.stack([value] * seeds), (own, nothing))
    scale, draw, seed = own
    data = jax.tree.map(jnp.asarray, problem.Arrays(pool, draw, None, None, None, None, None, scale))
    order = programs.order(posed.setting, seed, np.int32(0))
    return programs, programs.init(seed), (posed.setting, (nothing, data, seed, order)), posed


def engine_step(model: config.ModelConfig, batch_size: int, threads: int, seeds: int = 1) -> Run:
    """Training steps of this engine: a chunk of steps as one compiled program, of one seed or of several."""
    import jax

    programs, state, (setting, others), posed = _engine(model, batch_size, seeds)

    def run(count: int) -> None:
        nonlocal state
        while count:
            steps = min(count, posed.steps_per_epoch)
            state, _ = programs.chunk(setting, state, *others, np.int32(0), np.int32(steps))
            count -= steps
        jax.block_until_ready(state)

    return run


def streamed_step(model: config.ModelConfig, batch_size: int, threads: int, encoded: bool = False) -> Run:
    """The same steps on batches that are brought to the device, from an array or from images that are decoded as they are read."""
    import jax

    from cnn_research import feeds
    from cnn_research.data.streamed import Streamed

    programs, state, (setting, (nothing, data, seed, order)), posed = _engine(model, batch_size)
    pixels, labels = images()
    pool = data.pool._replace(images=Streamed(_Encoded(pixels), 'image') if encoded else pixels, labels=labels)
    feed = feeds.ReadFeed(data._replace(pool=pool), None)

    def run(count: int) -> None:
        nonlocal state
        while count:
            steps = min(count, posed.steps_per_epoch, feed.most)
            feed.begin(posed, order, 0)
            state, _ = programs.chunk(setting, state, nothing, feed.next(steps), seed, order, np.int32(0), np.int32(steps))
            count -= steps
        jax.block_until_ready(state)

    return run


class _Encoded(Sequence[Any]):
    """Images as PNG, decoded when they are asked for, as those of a file of records."""

    def __init__(self, pixels: np.ndarray):
        from PIL import Image

        self._files = []
        for each in pixels:
            file = io.BytesIO()
            Image.fromarray(each[..., 0]).save(file, 'PNG')
            self._files.append(file.getvalue())

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: Any) -> Any:
        from PIL import Image

        return {'image': np.asarray(Image.open(io.BytesIO(self._files[index])))[..., None]}


def engine_compilation(model: config.ModelConfig, batch_size: int, threads: int) -> Run:
    """The program of a chunk, traced and compiled anew."""
    import jax

    programs, state, (setting, others), _ = _engine(model, batch_size)

    def run(count: int) -> None:
        for _ in range(count):
            jax.clear_caches()
            programs.chunk.lower(setting, state, *others, np.int32(0), np.int32(1)).compile()

    return run


def kept_compilation(model: config.ModelConfig, batch_size: int, threads: int) -> Run:
    """The same where the program is kept on disk (`compiled.py`), in the folder of the user."""
    from cnn_research import compiled

    if compiled.keep() is None:
        raise OSError('no folder for compiled programs')
    return engine_compilation(model, batch_size, threads)


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


def matrix_product(threads: int, size: int = PRODUCT) -> Run:
    """A product of two size x size matrices: the peak that others are measured by."""
    import jax
    import jax.numpy as jnp

    a = jnp.asarray(normal(size, size)) / size**0.5
    loop = jax.jit(lambda count, a: jax.lax.fori_loop(0, count, lambda _, b: jnp.matmul(a, b, precision='highest'), a))
    return lambda count: jax.block_until_ready(loop(np.int32(count), a))


def copying(threads: int, size: int = COPIED) -> Run:
    """An array read and another one written: the bandwidth of memory that others are measured by."""
    import jax
    import jax.numpy as jnp

    x = jnp.ones(size // 4)
    loop = jax.jit(lambda count, x: jax.lax.fori_loop(0, count, lambda _, x: x * 1.0001, x))
    return lambda count: jax.block_until_ready(loop(np.int32(count), x))
