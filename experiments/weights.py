"""How many weights does a layer of each scheme need, at any image size?

    python -m experiments.weights --image_size=720x1280 --channels=3 --features=32 --kernel_size=3     under 3 seconds
    python -m experiments.weights --image_size=100 --channels=1 --features=1 --kernel_size=5
    python -m experiments.weights --model=lenet5

Exact counts; nothing is allocated. At 1280 x 720, 32 maps of 3 x 3 filters on RGB take 864 weights as a convolution, 796,262,400 as a
locally connected layer and 81,537,269,760,000 as a dense one, whose parameters alone are 326 TB. A unit on 100 x 100 pixels has 10,000
weights if it is dense and 25 if it sees 5 x 5. A bias per map comes on top.

`unit` is what one unit in the middle of one map has as inputs. `connections` leave out padding, `MACs` count it. Bytes are float32.
`masked_dense` stores the dense kernel, though only the weights under the filter are free.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from absl import flags as absl_flags

from cnn_research import config, cost, errors, files, geometry, networks, schemes
from cnn_research.report import table
from experiments import flags, runner

SCHEMES = ('shared', 'coordinates', 'tiled:2x2', 'low_rank:4', 'low_rank:4:row_column', 'local', 'masked_dense', 'dense')
SIDES = (8, 16, 32, 64, 128, 256, 512, 1024, 2048)  # of the figure; those that the kernel fits

FLAGS = absl_flags.FlagValues()
absl_flags.DEFINE_string('image_size', None, 'side of the image or HEIGHTxWIDTH (720x1280; of a model: its own)', flag_values=FLAGS)
absl_flags.DEFINE_integer('channels', None, 'channels of the image (3; of a model: its own)', flag_values=FLAGS)
absl_flags.DEFINE_integer('features', None, 'maps of the layer (32)', flag_values=FLAGS)
absl_flags.DEFINE_string('kernel_size', None, 'side of the filter or HEIGHTxWIDTH (3)', flag_values=FLAGS)
absl_flags.DEFINE_string('strides', None, 'stride of the filter, or HEIGHTxWIDTH (1)', flag_values=FLAGS)
absl_flags.DEFINE_string('padding', None, f'{" | ".join(geometry.PADDINGS)} (SAME)', flag_values=FLAGS)
absl_flags.DEFINE_string('model', None, f'count a whole network instead: {", ".join(networks.NAMED)}', flag_values=FLAGS)
absl_flags.DEFINE_string('workdir', 'runs/weights', 'where the table goes as CSV, and the figure', flag_values=FLAGS)
_LAYER = ('features', 'kernel_size', 'strides', 'padding')

LAYER_COLUMNS = ('scheme', 'unit', 'weights', 'connections', 'MACs', 'bytes', 'size')
MODEL_COLUMNS = ('layer', 'output', 'weights', 'connections', 'MACs', 'parameters', 'activations', 'Adam')


class Layer(NamedTuple):
    """A layer of so many maps."""

    geometry: geometry.Geometry
    channels: int
    features: int


def asked() -> Layer | networks.Network:
    """What the flags ask for: a layer, or a network at the image size that is counted. Raises InputError for what they cannot mean."""
    return _layer() if FLAGS.model is None else _network()


def _layer() -> Layer:
    channels, features = _given('channels', 3), _given('features', 32)
    with errors.gathered() as check:
        check(errors.positive, 'channels', channels)
        check(errors.positive, 'features', features)
        defaults = (('image_size', '720x1280'), ('kernel_size', '3'), ('strides', '1'))
        image, kernel_size, strides = (check(flags.size, name, _given(name, default)) for name, default in defaults)
        padding = _given('padding', 'SAME')
        check(errors.member, 'padding', padding, geometry.PADDINGS)
    return Layer(geometry.Geometry(image, kernel_size, strides, padding), channels, features)


def _network() -> networks.Network:
    with errors.gathered() as check:
        for name in _LAYER:
            fixed = f'{name} is fixed by --model: leave it out, or leave out --model'
            check(errors.require, FLAGS[name].value is None, fixed)
        network = check(networks.named, FLAGS.model, otherwise=networks.lenet5())
        height, width, channels = network.image
        size = check(flags.size, 'image_size', _given('image_size', f'{height}x{width}'), otherwise=(height, width))
        channels = _given('channels', channels)
        check(errors.positive, 'channels', channels)
    return network._replace(image=(*size, channels))


def _given(name: str, default: Any) -> Any:
    return default if FLAGS[name].value is None else FLAGS[name].value


def layer_rows(g: geometry.Geometry, channels: int, features: int) -> list[tuple]:
    """A row of `LAYER_COLUMNS` for every scheme that such a layer can have."""
    rows = []
    for name in SCHEMES:
        scheme = schemes.parse(name)
        try:
            row = cost.spatial_map(scheme, g, channels, features)
        except errors.InputError:  # a period longer than the positions
            continue
        dense = type(scheme) is schemes.Dense
        unit = channels * (g.image[0] * g.image[1] if dense else g.taps)
        rows.append((name, unit, row.weights, row.connections, row.macs, row.parameter_bytes, cost.human_bytes(row.parameter_bytes)))
    return rows


def model_rows(model: config.ModelConfig, image: cost.Shape, num_classes: int) -> list[tuple]:
    """A row of `MODEL_COLUMNS` for every layer, and the sum; bytes are for people."""
    layers = cost.layers(model, image, num_classes)
    counts = [
        (row.weights, row.connections, row.macs, row.parameter_bytes, row.activation_bytes, row.optimizer_bytes('adam')) for row in layers
    ]
    shown = [*((row.name, ' x '.join(map(str, row.output))) for row in layers), ('all', '')]
    counts.append(tuple(map(sum, zip(*counts))))  # type: ignore[arg-type]
    return [(*name, *numbers[:3], *map(cost.human_bytes, numbers[3:])) for name, numbers in zip(shown, counts)]


def figure(g: geometry.Geometry, channels: int, features: int, layer: str) -> str:
    """SVG of the weights of every scheme against the side of a square image."""
    from cnn_research.report import sizes, style

    lines: dict[str, list[tuple[int, int]]] = {}
    smallest = max(g.kernel_size)
    sides = [side for side in SIDES if side >= smallest]
    if len(sides) < 2:  # no line
        sides = [smallest * 2**i for i in range(4)]
    for side in sides:
        square = geometry.Geometry((side, side), g.kernel_size, g.strides, g.padding)
        for row in layer_rows(square, channels, features):
            if row[0] == 'masked_dense':  # as many as local
                continue
            lines.setdefault(row[0], []).append((side, row[2]))
    longest = len(sides)
    return style.figure_svg(sizes.weights_against_side({n: points for n, points in lines.items() if len(points) == longest}, layer))


def run(wanted: Layer | networks.Network) -> int:
    """Print and write the table of it. Raises InputError for a network whose kernels do not fit the images."""
    folder = Path(FLAGS.workdir)
    pictures: dict[str, str] = {}
    columns: tuple[str, ...]
    if isinstance(wanted, networks.Network):
        columns, rows = MODEL_COLUMNS, model_rows(wanted.model, wanted.image, wanted.num_classes)
        name, title = FLAGS.model, f'{FLAGS.model} ({wanted.source}) on images of {" x ".join(map(str, wanted.image))}'
    else:
        g, channels, features = wanted
        maps, inputs = (f'{n} {word}{"s" * (n > 1)}' for n, word in ((features, 'map'), (channels, 'channel')))
        what = f'{maps} of {g.kernel_size[0]} x {g.kernel_size[1]} filters on {inputs}'
        columns, rows = LAYER_COLUMNS, layer_rows(g, channels, features)
        name, title = 'weights', f'{what}, images of {g.image[0]} x {g.image[1]}, padding {g.padding}'
        pictures['weights'] = figure(g, channels, features, what)
    print(f'{title}\n{table.plain(columns, rows)}')
    with files.writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        table.write_plain_csv(folder / f'{name}.csv', columns, rows)
        for picture, svg in pictures.items():
            files.atomic_write_text(folder / f'{picture}.svg', svg)
    print(f'\n{folder}/ holds {", ".join([f"{name}.csv", *(f"{picture}.svg" for picture in pictures)])}')
    return 0


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit."""
    runner.command('weights', __doc__, FLAGS, asked, run, argv)


if __name__ == '__main__':
    main()
