"""Do all schemes start alike, and is a convolution exactly a local and a dense layer?

    python -m experiments.identities --dataset=fashion_mnist --raw_dir=RAW     1 minute on 2 cores
    python -m experiments.identities                                           the embedded digits, 1 minute

Two tables. The first: the standard deviation of the outputs of every scheme before training, over 20 initial draws, at positions where no
padding reaches, beside that of `flax.linen.Conv` and `flax.linen.ConvLocal`, for images of unit variance.

The second: convolutional networks with batch norm, SAME padding, a stride of 2 and a pool, under a flatten head and a global maximum, are
trained for an epoch and then turned into tiled, low-rank, local, masked dense and dense networks with the same outputs: the largest
difference of a logit on 1,000 test images (digits have 360), and how many predictions change.
"""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from absl import flags as absl_flags

from experiments import runner

FLAGS = absl_flags.FlagValues()
absl_flags.DEFINE_string('dataset', 'digits', 'as in the other experiments', flag_values=FLAGS)
absl_flags.DEFINE_string('data_dir', None, 'where TFDS keeps prepared data', flag_values=FLAGS)
absl_flags.DEFINE_string('raw_dir', None, 'folder of the original files', flag_values=FLAGS)
absl_flags.DEFINE_string('workdir', 'runs/identities', 'where the tables go as CSV', flag_values=FLAGS)

SCHEMES = (
    'shared', 'coordinates', 'tiled:2x2', 'tiled:4x4', 'low_rank:2', 'low_rank:4:row_column', 'low_rank:4:free', 'local',
    'masked_dense', 'dense',
)  # fmt: skip
LAYERS = ((3, 32, 16), (16, 32, 8), (64, 64, 6))  # channels, features, side of the image
CHAIN = ('tiled:2x2', 'local', 'masked_dense', 'dense')  # each from the one before
ALSO = ('low_rank:3', 'low_rank:3:row_column:free')  # from the convolution
TEST_IMAGES = 1000


def starts() -> tuple[tuple[str, ...], list[tuple]]:
    """Columns and rows of output deviations before training."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    from flax import linen as nn

    from cnn_research import layers

    def deviation(layer, x):
        def once(key):
            return layer.init_with_output(key, x)[0][:, 1:-1, 1:-1]

        return float(jnp.std(jax.jit(lambda keys: jax.lax.map(once, keys))(jax.random.split(jax.random.key(0), 20))))

    images = [np.random.default_rng(0).normal(size=(64, side, side, channels)).astype(np.float32) for channels, _, side in LAYERS]
    makers: dict[str, Callable[..., nn.Module]] = {'nn.Conv': nn.Conv, 'nn.ConvLocal': nn.ConvLocal}
    makers |= {name: functools.partial(layers.SpatialMap, scheme=name) for name in SCHEMES}
    columns = ('layer', *(f'{side} x {side} x {channels} to {features}' for channels, features, side in LAYERS))
    rows = [(name, *(deviation(make(features, (3, 3)), x) for x, (_, features, _) in zip(images, LAYERS))) for name, make in makers.items()]
    return columns, rows


def embeddings(dataset) -> tuple[tuple[str, ...], list[tuple]]:
    """Columns and rows of the largest logit difference and of changed predictions, for both heads."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from cnn_research import config, embedding, models, problem, train

    rows = []
    for head in ('flatten', 'gmp'):
        model = config.ModelConfig((8, 16), (3, 3), (2, 1), (1, 2), ('shared', 'shared'), 'SAME', 'batch', head)
        posed = problem.make(config.Config(model, config.DataConfig(dataset.name), config.TrainConfig(epochs=1)), dataset)
        arrays = problem.arrays(posed, dataset, seed=0)
        state = train.fit(posed, arrays, seed=0).state
        variables = {'params': state.params, 'batch_stats': state.batch_stats}
        x = jnp.asarray(dataset.test_images[:TEST_IMAGES], jnp.float32) * arrays.scale

        def logits(model, variables, x=x):
            return np.asarray(jax.jit(models.Network(model, posed.num_classes).apply)(variables, x))  # noqa: B023

        before, now = logits(model, variables), (model, variables)
        found = [(name, now := embedding.embed_model(*now, posed.image, name)) for name in CHAIN]
        found += [(name, embedding.embed_model(model, variables, posed.image, name)) for name in ALSO]
        for name, (other, embedded) in found:
            after = logits(other, embedded)
            changed = int(np.sum(after.argmax(1) != before.argmax(1)))
            rows.append((head, name, float(np.abs(after - before).max()), float(np.abs(before).max()), changed, len(x)))
    return ('head', 'embedded as', 'largest difference', 'largest logit', 'predictions changed', 'of'), rows


def asked() -> str:
    """The data set that the flags ask for; what is wrong with it only reading it can tell."""
    return FLAGS.dataset


def run(name: str) -> int:
    """Print and write both tables. Raises InputError for data that is not there, or whose dense network is larger than memory."""
    from cnn_research import data, files
    from cnn_research.report import table

    folder = Path(FLAGS.workdir)
    dataset = data.load(name, data_dir=FLAGS.data_dir, raw_dir=FLAGS.raw_dir)
    found = {}
    for file, title, make in (
        ('starts', 'Standard deviation of outputs before training', starts),
        ('embeddings', f'A convolutional network trained on {dataset.name}, embedded', lambda: embeddings(dataset)),
    ):
        found[file] = columns, rows = make()
        print(f'{title}\n{table.plain(columns, rows)}\n')
    with files.writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for file, (columns, rows) in found.items():
            table.write_plain_csv(folder / f'{file}.csv', columns, rows)
    print(f'{folder}/ holds starts.csv, embeddings.csv')
    return 0


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit."""
    runner.command('identities', __doc__, FLAGS, asked, run, argv)


if __name__ == '__main__':
    main()
