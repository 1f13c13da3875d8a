"""How many examples does sharing save, and how does that grow with the task?

    python -m experiments.sample_efficiency                               digits: accuracy by number of training images
    python -m experiments.sample_efficiency --dataset=fashion_mnist       or mnist, cifar10, any prepared TFDS set
    python -m experiments.sample_efficiency --dataset=dynamic_signal      a signal in a random patch (Lahoti et al. 2024)
    python -m experiments.sample_efficiency --dataset=static_signal       a signal that always stands in the first patch
    python -m experiments.sample_efficiency --dataset=norm_comparison     which of two channels is larger (Li, Zhang and Arora 2021)
    python -m experiments.sample_efficiency --dataset=norm_comparison/cifar10
    python -m experiments.sample_efficiency --dataset=shared_rank         filters of rank 1, 2, 5, from 20 examples (Zhou et al. 2021)

Images. Networks of two stages, 8 and 16 maps, that differ in their sharing alone, on n training images of a nested draw that is balanced
over classes. Four settings (rate, weight decay) are tried by one training each on validation data for every network and n up to 10,000; the
last are taken for what is above. The validation images, 200 of digits and 5,000 of the large sets, are not counted, and what that choice
leaves to chance is in no interval. The images needed for an accuracy are read from a rising curve through the means, along which the error
is a power of n from one n to the next.

Signals. An example is k patches of d numbers, all of them noise of standard deviation sigma; one patch holds a signal of length 1 or its
negative besides, and which of the two is asked. Learners have one hidden layer of soft thresholds: one filter for all patches (shared), one
for each (local), or k units that see all patches (dense), and follow the logistic loss by plain stochastic gradient descent from a Gaussian
start. Norms. Convolutions and dense layers, by plain gradient descent and by Adam, on normal noise of D inputs, or on the red and green of
photographs.

The examples needed for those are found by a search: n is doubled until the mean accuracy on fresh examples (photographs: the test images)
passes the target, and more n are tried around that. Every training has examples, start and batches of its own: batches of 64, 4,000 of them
at least and 16 passes over the examples. All are made in several settings, as many for every learner; those count that do best in five
trainings of their own (photographs: on validation images), at every n, and the intervals hold what that choice leaves to chance. A count
that was not reached within `--most` examples stays open ("more than"), in the tables, the figure and the exponents.
"""

from collections.abc import Sequence
from typing import NoReturn

from absl import flags as absl_flags

from cnn_research import errors
from experiments import runner

SIGNALS, NORM, RANK = ('dynamic_signal', 'static_signal'), 'norm_comparison', 'shared_rank'
FLAGS = absl_flags.FlagValues()
absl_flags.DEFINE_string(
    'dataset', 'digits', f'{" | ".join(SIGNALS)} | {NORM}[/cifar10] | {RANK}, or a data set of images', flag_values=FLAGS
)
absl_flags.DEFINE_string('arms', None, 'networks, of images: conv,tiled,low_rank,local,dense (conv,local,dense)', flag_values=FLAGS)
absl_flags.DEFINE_float('sigma', None, 'deviation of the noise, of signals, of length 1 (0.2), and of shared_rank (0)', flag_values=FLAGS)
absl_flags.DEFINE_float('target', None, 'the accuracy to be reached, of signals (0.95) and norms (0.9)', flag_values=FLAGS)
absl_flags.DEFINE_integer(
    'seeds',
    None,
    'trainings at every number of examples (10; images: 5, above 30,000 images 3; --quick: 4), or tasks (50)',
    flag_values=FLAGS,
)
absl_flags.DEFINE_integer('most', None, 'the most examples that are tried, of signals and norms (131,072)', flag_values=FLAGS)
absl_flags.DEFINE_boolean('quick', False, 'small sizes, of signals and norms', flag_values=FLAGS)
absl_flags.DEFINE_string('data_dir', None, 'where TFDS keeps prepared data (TFDS_DATA_DIR or ~/tensorflow_datasets)', flag_values=FLAGS)
absl_flags.DEFINE_string('raw_dir', None, 'folder of the original files: prepare from there, without network', flag_values=FLAGS)
absl_flags.DEFINE_integer('workers', None, 'processes (one per core on a CPU, one on an accelerator)', flag_values=FLAGS)
absl_flags.DEFINE_string(
    'workdir', None, 'folder of results; the same command again resumes (runs/sample_efficiency/DATASET)', flag_values=FLAGS
)
_SEARCH = ('target', 'most', 'quick')
_OWN = {'sigma', 'arms', 'data_dir', 'raw_dir', *_SEARCH}  # flags that not all tasks have


def job() -> int:
    """What the flags ask for, its tables and figure; the exit status. Raises InputError before anything is written."""
    task = FLAGS.dataset
    if FLAGS.seeds is not None:
        errors.whole('seeds', FLAGS.seeds, 2)
    if FLAGS.workers is not None:
        errors.positive('workers', FLAGS.workers)
    if FLAGS.sigma is not None and not 0 <= FLAGS.sigma <= 100:
        raise errors.InputError(f'sigma must be from 0 to 100, got {FLAGS.sigma}')
    if task in SIGNALS:
        kind, own = 'searches', {'sigma', *_SEARCH}
    elif task == NORM:
        kind, own = 'searches', {*_SEARCH}
    elif task.startswith(f'{NORM}/'):
        kind, own = 'searches', {*_SEARCH, 'data_dir', 'raw_dir'}
    elif task == RANK:
        kind, own = 'ranks', {'sigma'}
    else:
        kind, own = 'images', {'arms', 'data_dir', 'raw_dir'}
    for name in sorted(_OWN - own):
        if FLAGS[name].present:
            raise errors.InputError(f'{task} has no use for --{name}: leave it out')
    from experiments import samples  # numpy, scipy and jax: imported when there is something to do

    return {'searches': samples.searches, 'ranks': samples.ranks, 'images': samples.images}[kind](FLAGS)


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Exit with 0 done, 1 a cell failed, 2 bad input, 128 + n on signal n."""
    runner.command('sample_efficiency', __doc__, FLAGS, job, argv)


if __name__ == '__main__':
    main()
