"""What does a filter make of an image, and where does it find its pattern?

    python -m experiments.feature_maps                                         a vertical edge filter on a digit
    python -m experiments.feature_maps --image=photo.jpg --filter=laplacian    any PNG or JPEG
    python -m experiments.feature_maps --filter='1,0,-1; 2,0,-2; 1,0,-1' --stride=2 --padding=VALID
    python -m experiments.feature_maps --run=runs/weight_sharing --cell=conv_gmp-seed0    what a network learned
    python -m experiments.feature_maps --compare                               the same edge at other places

The first three write `feature_map.png`, in which one step of the filter is multiplied and summed by hand, and `sliding.gif`, in which it
slides over the image. Named and typed filters look at the grey image, in [0, 1].

`--compare` trains one 3 x 3 filter with a global maximum and one dense unit over all 256 pixels to tell a vertical edge from a horizontal
one, at one place of noisy images, and shows both the edge at other places. The filter finds it anywhere, though noise costs it some points,
the unit only where it learned it, and better there, for it sees all of the edge at once. Accuracy in % by column of the edge, learned at
column 5, 5 seeds, 95 % t intervals, 8 seconds:

    unit                              3           5           7           9          11          13
    ───────────────────────────────────────────────────────────────────────────────────────────────
    3 x 3 filter, 9 weights  93.5 ± 5.6  93.6 ± 4.9  93.0 ± 5.3  93.2 ± 5.4  93.4 ± 5.1  93.9 ± 4.8
    dense unit, 256 weights  50.0 ± 0.0  99.9 ± 0.1  50.0 ± 0.0  50.0 ± 0.1  50.0 ± 0.1  50.0 ± 0.1
"""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np
from absl import flags as absl_flags

from cnn_research import config, cost, errors, files, filters, geometry, stats
from experiments import runner

SIDE, LENGTH = 16, 8  # of the images with an edge, and of the edge in them
COLUMNS = tuple(range(3, SIDE - 2, 2))  # where both bars of the edge have a pixel to spare
LEARNED = 1  # index in COLUMNS
NOISE = 0.3
STEPS, RATE, IMAGES = 400, 0.03, 512
UNITS = {'filter': '3 x 3 filter, 9 weights', 'unit': f'dense unit, {SIDE * SIDE} weights'}

FLAGS = absl_flags.FlagValues()
absl_flags.DEFINE_string('filter', 'vertical', f'{", ".join(filters.NAMED)}, or numbers such as 1,0,-1;1,0,-1;1,0,-1', flag_values=FLAGS)
absl_flags.DEFINE_string('image', None, 'a PNG or JPEG file to look at, instead of a sample', flag_values=FLAGS)
absl_flags.DEFINE_integer('sample', 0, 'number of the test image to look at', flag_values=FLAGS)
absl_flags.DEFINE_string('dataset', None, 'the data set that the sample is from (digits; with --run, its own)', flag_values=FLAGS)
absl_flags.DEFINE_string('data_dir', None, 'where TFDS keeps prepared data', flag_values=FLAGS)
absl_flags.DEFINE_string('raw_dir', None, 'folder of the original files', flag_values=FLAGS)
absl_flags.DEFINE_string('padding', 'SAME', ' | '.join(geometry.PADDINGS), flag_values=FLAGS)
absl_flags.DEFINE_integer('stride', 1, 'how far the filter moves at a time', flag_values=FLAGS)
absl_flags.DEFINE_integer('dilation', 1, 'distance between the pixels that the filter sees', flag_values=FLAGS)
absl_flags.DEFINE_string('run', None, 'folder of a run: show the filters that a cell of it learned', flag_values=FLAGS)
absl_flags.DEFINE_string('cell', None, 'which cell, such as conv_gmp-seed0', flag_values=FLAGS)
absl_flags.DEFINE_boolean('compare', False, 'a filter and a dense unit that learned an edge at one place', flag_values=FLAGS)
absl_flags.DEFINE_integer('seeds', 5, 'how many trainings --compare averages over', flag_values=FLAGS)
absl_flags.DEFINE_string('workdir', 'runs/feature_maps', 'where the pictures go', flag_values=FLAGS)


_SLIDING = ('filter', 'padding', 'stride', 'dilation')
_SAMPLE = ('sample', 'dataset', 'data_dir', 'raw_dir')
_BELONGS_TO = {'seeds': 'compare', 'cell': 'run'}
_MEANS_NOTHING_WITH = {
    None: tuple(_BELONGS_TO),
    'run': (*_SLIDING, 'seeds'),
    'compare': (*_SLIDING, 'run', 'cell', 'image', *_SAMPLE),
}


def looked_at(dataset: str) -> tuple[np.ndarray, str]:
    """The image uint8 [H, W, C] that the flags ask for, else one of this data set, and what it is."""
    from cnn_research import data
    from cnn_research.data import picture

    if FLAGS.image is not None:
        return picture.load(FLAGS.image), Path(FLAGS.image).name
    dataset = dataset if FLAGS.dataset is None else FLAGS.dataset
    images = data.load(dataset, data_dir=FLAGS.data_dir, raw_dir=FLAGS.raw_dir).test_images
    if not 0 <= FLAGS.sample < len(images):
        raise errors.InputError(f'sample must be from 0 to {len(images) - 1}, got {FLAGS.sample}')
    return images[FLAGS.sample], f'test image {FLAGS.sample} of {dataset}'


def slide() -> dict[str, bytes]:
    """The files of a filter that slides over an image."""
    import jax.numpy as jnp

    from cnn_research import direct
    from cnn_research.data import picture
    from cnn_research.report import sliding, style

    kernel = filters.parse(FLAGS.filter)
    image, name = looked_at('digits')
    pixels = picture.grey(image)[..., 0].astype(np.float32) / 255
    height, width = pixels.shape
    g = geometry.Geometry((height, width), kernel.shape, (FLAGS.stride,) * 2, FLAGS.padding, (FLAGS.dilation,) * 2)
    # One forward pass: XLA's own convolution lays out no patches, of which a photograph has many.
    response = np.asarray(direct.by_xla(jnp.asarray(pixels)[None, ..., None], jnp.asarray(kernel)[..., None, None], g))[0, ..., 0]
    at = row, column = strongest(response, g)
    least, most = (float(value.round(5)) + 0.0 for value in (response.min(), response.max()))
    print(f'{FLAGS.filter} on {name}: a map of {response.shape[0]} x {response.shape[1]} from {least:.3g} to {most:.3g}')
    print(f'at row {row}, column {column}: the sum of {kernel.size} products is {response[at]:.4g}')
    figure = sliding.sliding(pixels, kernel, response, g, at, f'{FLAGS.filter} on {name}')
    return {
        'feature_map.png': style.figure_png(figure),
        'sliding.gif': sliding.animation(pixels, response, g, abs(float(response[at])) or 1.0),
    }


def strongest(response: np.ndarray, g: geometry.Geometry) -> tuple[int, int]:
    """The position of the largest magnitude in the map [H', W'], among those that see no padding if there are any."""
    inside = np.array([[True]])
    for axis in (0, 1):
        first = np.arange(g.positions[axis]) * g.strides[axis] - g.pads[axis][0]
        whole = (first >= 0) & (first + (g.kernel_size[axis] - 1) * g.dilation[axis] < g.image[axis])
        inside = inside & (whole[:, None] if axis == 0 else whole)
    row, column = np.unravel_index(np.where(inside | ~inside.any(), np.abs(response), -1).argmax(), response.shape)
    return int(row), int(column)


def learned() -> dict[str, bytes]:
    """The files of the filters of a finished cell."""
    from cnn_research import trained
    from cnn_research.data import picture
    from cnn_research.report import figures, style

    cell = trained.load_cell(FLAGS.run, FLAGS.cell)
    channels = cell.scale.shape[-1]
    if not cell.model.config.sharing or channels not in (1, 3):
        raise errors.InputError(f'{FLAGS.cell} has no filters on grey or RGB images')
    image, name = looked_at(cell.row['dataset'])
    if FLAGS.image is None:
        image = _on_canvas(image, config.Config.from_json(cell.row['config']).data)
    image = picture.grey(image) if channels == 1 else np.broadcast_to(image, (*image.shape[:2], 3))
    if not _fits(cell, image):
        raise errors.InputError(f'the first layer of {FLAGS.cell} is tied to the size of its images, which {name} has not')
    weights, maps = cell.first_layer(image)
    example = figures.FilterExample(FLAGS.cell, weights, image / 255, maps.transpose(2, 0, 1), f'on {name}')
    return {'filters.png': style.figure_png(figures.first_filters([example]))}


def _on_canvas(image: np.ndarray, placed: config.DataConfig) -> np.ndarray:
    """The image [h, w, C] at the first position where training put images, or as it is where there is no canvas."""
    from cnn_research import images
    from cnn_research.data import canvas

    if placed.canvas is None or placed.train_positions is None:
        return image
    corner = canvas.positions(placed.train_positions, image.shape[:2], placed.canvas)[:1]
    return np.asarray(images.place(image[None], corner, placed.canvas)[0])


def _fits(cell, image: np.ndarray) -> bool:
    """Whether the parameters of the first layer are those of a layer on such images."""
    stage = next(cost.stages(cell.model.config, image.shape))
    shapes = stage.scheme.shapes(stage.geometry, image.shape[2], stage.stage.features)
    return all(cell.variables['params']['stage_0'][name].shape == shape for name, shape in shapes.items())


def edges(rng: np.random.Generator, count: int, column: int) -> tuple[np.ndarray, np.ndarray]:
    """Noisy images float32 [count, 16, 16, 1], half with a vertical edge before `column`, half with a horizontal one; labels [count].

    Both are a bright and a dark bar of two pixels by eight that touch, at any height; the bright one comes first.
    """
    labels = np.arange(count) % 2
    images = 0.5 + NOISE * rng.normal(size=(count, SIDE, SIDE, 1))
    tops = rng.integers(0, SIDE - LENGTH + 1, count)
    for image, label, top in zip(images, labels, tops):
        left = min(max(0, column - LENGTH // 2), SIDE - LENGTH)
        bars = (slice(top, top + LENGTH), slice(column - 2, column)), (slice(top, top + LENGTH), slice(column, column + 2))
        if not label:
            middle = top + LENGTH // 2
            bars = (slice(middle - 2, middle), slice(left, left + LENGTH)), (slice(middle, middle + 2), slice(left, left + LENGTH))
        image[bars[0]] += 0.5
        image[bars[1]] -= 0.5
    return images.astype(np.float32), labels.astype(np.int32)


@functools.cache
def learner(kind: str):
    """(logits, compiled training) of 'filter' or 'unit'; the training takes start parameters, images and labels."""
    import jax
    import jax.numpy as jnp
    import optax

    from cnn_research import ops

    def logits(p, x):
        if kind == 'filter':
            return p['scale'] * jnp.max(ops.shared(x, p['kernel'], padding='VALID'), axis=(1, 2, 3)) + p['bias']
        return jnp.einsum('nhwc,hwc->n', x, p['kernel'], precision='highest') + p['bias']

    moves = optax.adam(RATE)

    def train(p, x, labels):
        def loss(p):
            return jnp.mean(optax.sigmoid_binary_cross_entropy(logits(p, x), labels))

        def step(carry, _):
            updates, state = moves.update(jax.grad(loss)(carry[0]), carry[1])
            return (optax.apply_updates(carry[0], updates), state), None

        return jax.lax.scan(step, (p, moves.init(p)), length=STEPS)[0][0]

    return jax.jit(logits), jax.jit(train)


def accuracies(seed: int) -> dict[str, np.ndarray]:
    """Accuracy at every column of a filter and of a dense unit, trained alike at one of them: name -> [columns]."""
    rng = np.random.default_rng(seed)
    examples = edges(rng, IMAGES, COLUMNS[LEARNED])
    tests = [edges(rng, 1000, column) for column in COLUMNS]
    one, zero = np.float32(1), np.float32(0)
    starts = {
        'filter': {'kernel': rng.normal(size=(3, 3, 1, 1)).astype(np.float32) / 3, 'scale': one, 'bias': zero},
        'unit': {'kernel': rng.normal(size=(SIDE, SIDE, 1)).astype(np.float32) / SIDE, 'bias': zero},
    }
    result = {}
    for kind, start in starts.items():
        logits, train = learner(kind)
        p = train(start, *examples)
        result[UNITS[kind]] = np.array([np.mean((np.asarray(logits(p, images)) > 0) == labels) for images, labels in tests])
    return result


def compare() -> dict[str, bytes]:
    """The files of the comparison; the table is printed."""
    from cnn_research.report import sliding, style, table

    found = [accuracies(seed) for seed in range(FLAGS.seeds)]
    rows, lines = [], {}
    for name in found[0]:
        values = np.array([one[name] for one in found])
        lines[name] = values.mean(axis=0)
        rows.append((name, *(table.interval(stats.mean_interval(column)) for column in values.T)))
    print(f'accuracy (%) by column of the edge, learned at column {COLUMNS[LEARNED]}, {FLAGS.seeds} seeds; 50 is chance')
    print(table.plain(('unit', *map(str, COLUMNS)), rows))
    images = np.stack([edges(np.random.default_rng(column), 2, column)[0][1, ..., 0] for column in COLUMNS])
    subtitle = f'vertical against horizontal edge in noise, learned in column {COLUMNS[LEARNED]}; mean of n = {FLAGS.seeds} seeds'
    figure = sliding.anywhere(np.clip(images, 0, 1), np.array(COLUMNS), lines, LEARNED, subtitle)
    return {'anywhere.svg': style.figure_svg(figure).encode()}


def asked() -> str | None:
    """Which question the flags ask: 'compare', 'run', or None, of a filter that slides. Raises InputError for what they cannot mean."""
    question = 'compare' if FLAGS.compare else 'run' if FLAGS.run is not None else None
    with errors.gathered() as check:
        for name in _MEANS_NOTHING_WITH[question]:
            beside = f'with --{question}' if question else f'without --{_BELONGS_TO[name]}'
            check(errors.require, not FLAGS[name].present, f'{name} means nothing {beside}: leave it out')
        for name in _SAMPLE if FLAGS.image is not None and question != 'compare' else ():
            check(errors.require, not FLAGS[name].present, f'{name} means nothing with --image: leave it out')
        for name in ('stride', 'dilation', 'seeds'):
            check(errors.positive, name, FLAGS[name].value)
        check(errors.whole, 'sample', FLAGS.sample, 0)
        check(errors.member, 'padding', FLAGS.padding, geometry.PADDINGS)
        check(filters.parse, FLAGS.filter)
        check(errors.require, question != 'run' or FLAGS.cell is not None, 'run needs --cell too, such as --cell=conv_gmp-seed0')
    return question


def run(question: str | None) -> int:
    """Make the pictures that answer it. Raises InputError for images and cells that are not there, or do not suit."""
    pictures = {'compare': compare, 'run': learned, None: slide}[question]()
    folder = Path(FLAGS.workdir)
    with files.writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in pictures.items():
            files.atomic_write_bytes(folder / name, content)
    print(f'\n{folder}/ holds {", ".join(pictures)}')
    return 0


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit."""
    runner.command('feature_maps', __doc__, FLAGS, asked, run, argv)


if __name__ == '__main__':
    main()
