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

The dynamic signal, sigma 0.2, 10 trainings at every number of examples, 38 minutes on two cores (--quick, five other sizes: 5 minutes):

    patches  dimension         shared             local                      dense       local / shared        dense / local
    ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────
    8               16      at most 4     43 (39 to 47)     1,605 (1,316 to 1,957)              above 7  37.7 (30.2 to 47.0)
    16               8     6 (4 to 9)   103 (85 to 126)     3,863 (3,546 to 4,209)  15.9 (10.7 to 23.8)  37.4 (30.1 to 46.4)
    16              16     8 (7 to 8)  151 (134 to 170)  12,097 (10,367 to 14,115)  20.1 (17.1 to 23.6)  80.2 (66.0 to 97.5)
    16              24   11 (8 to 14)  209 (164 to 266)  23,552 (19,270 to 27,923)  18.5 (13.2 to 25.9)    113 (83.9 to 152)
    16              32  15 (12 to 18)  249 (223 to 279)  32,027 (29,850 to 34,364)  16.8 (13.2 to 21.3)     129 (113 to 147)
    24              16   12 (8 to 16)  328 (299 to 360)  27,926 (26,696 to 29,212)  28.3 (20.7 to 38.7)  85.1 (76.7 to 94.4)
    32              16  20 (16 to 26)  587 (531 to 649)  60,211 (57,413 to 63,145)  28.7 (22.5 to 36.6)    103 (91.8 to 115)

    model                   against  exponent          95 %  points  censored                      claims
    ─────────────────────────────────────────────────────────────────────────────────────────────────────
    shared  patches of dimension 16      1.42  0.86 to 1.98       4         1                 k + d: 0.49
    shared  dimension of 16 patches      0.59  0.31 to 0.88       4         0                 k + d: 0.49
    local   patches of dimension 16      1.89  1.80 to 1.97       4         0  k d: 1.00; k (k + d): 1.49
    local   dimension of 16 patches      0.64  0.48 to 0.80       4         0  k d: 1.00; k (k + d): 0.49
    dense   patches of dimension 16      2.59  2.45 to 2.73       4         0                 k^2 d: 2.00
    dense   dimension of 16 patches      1.55  1.48 to 1.63       4         0                 k^2 d: 1.00

The order is that of theory, and each step down the axis costs the more, the more patches there are. The exponents are others: all three
models grow faster with the patches than their formulas do on the same sizes, and dense ones with the dimension too. For dense networks
that agrees with a lower bound. For the others it is more than the upper bounds, k + d and k (k + d), allow; these hold up to constants
and logarithms, for large sizes, and 4 to 600 examples at a fixed accuracy are not there yet. It is no want of steps: with fewer of them
shared and local filters had the same exponents, and dense layers higher ones (3.15 and 1.69).
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
