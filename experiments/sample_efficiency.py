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

The static signal, on the same sizes (9 minutes 28): where the patch is known, 4 examples are enough for local filters and dense networks.
The shared filter, which cannot leave the other patches out, takes 4 (8 patches of 16) to 22 (32 of 16), as many as when it is random.

The norm comparison on normal noise, target 90 %, 10 trainings at every number, by the number D of inputs, two images of side 3 to 6 (65
minutes; theory: D^2 at least for dense layers by plain gradient descent, a constant for convolutions):

    model                              18 inputs                       32                         50                         72
    ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────
    conv_quadratic_sgd          328 (284 to 378)         427 (388 to 470)           449 (408 to 493)           483 (407 to 573)
    conv_quadratic_adam         370 (301 to 449)         382 (340 to 429)           448 (410 to 489)           435 (393 to 481)
    conv_relu_sgd           1,228 (921 to 1,605)   3,141 (2,787 to 3,540)     4,027 (2,978 to 5,446)    8,113 (5,751 to 11,444)
    conv_relu_adam          1,109 (961 to 1,279)     1,163 (937 to 1,443)     1,460 (1,243 to 1,714)     1,605 (1,368 to 1,882)
    dense_quadratic_sgd         840 (782 to 894)   2,756 (2,121 to 3,581)     6,007 (5,801 to 6,220)  13,024 (12,689 to 13,367)
    dense_quadratic_adam        792 (745 to 841)   2,419 (2,289 to 2,558)     5,904 (5,706 to 6,109)  12,187 (11,720 to 12,673)
    dense_relu_sgd        2,458 (2,222 to 2,718)   7,921 (6,933 to 9,050)  26,232 (22,456 to 30,644)  60,656 (49,064 to 74,986)
    dense_relu_adam       2,389 (2,175 to 2,625)  8,975 (7,287 to 11,054)  23,170 (18,690 to 28,724)  57,192 (45,296 to 70,466)

    model                 exponent of D          95 %     claims
    ────────────────────────────────────────────────────────────
    conv_quadratic_sgd             0.27  0.14 to 0.40    1: 0.00
    conv_quadratic_adam            0.14  0.00 to 0.28          –
    conv_relu_sgd                  1.28  1.02 to 1.55    1: 0.00
    conv_relu_adam                 0.28  0.15 to 0.42          –
    dense_quadratic_sgd            1.96  1.90 to 2.01  D^2: 2.00
    dense_quadratic_adam           1.97  1.93 to 2.02          –
    dense_relu_sgd                 2.34  2.21 to 2.47  D^2: 2.00
    dense_relu_adam                2.27  2.13 to 2.41          –

Dense layers with quadratic activation meet the bound of theory, and Adam, which is exempt from it, needs as many. At 18 inputs that is 2.6
(2.2 to 3.0) times what the convolution needs, at 72 inputs 27 (23 to 32) times. Convolutions grow, slowly, where theory has a constant;
with ReLU and plain gradient descent they grow with D itself, and with Adam not, so that there it is the optimizer that pays.

Filters of rank r, 50 tasks each (97 seconds; --sigma=0.5: 100): expected squared error in % of the variance of the outputs.

    scheme      rank 1, no noise         rank 2         rank 5   rank 1, noise 0.5         rank 2          rank 5
    ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
    shared           0.00 ± 0.00   25.42 ± 4.96   47.11 ± 6.42         0.03 ± 0.01   25.45 ± 4.97    47.19 ± 6.42
    tiled:2x1        0.00 ± 0.00   25.22 ± 4.96   46.44 ± 6.33         0.06 ± 0.02   25.30 ± 4.97    46.59 ± 6.35
    tiled:4x1        0.00 ± 0.00   24.66 ± 4.87   45.21 ± 6.22         0.11 ± 0.02   24.83 ± 4.89    45.47 ± 6.25
    low_rank:2       0.00 ± 0.00    0.00 ± 0.00   15.52 ± 2.49         0.72 ± 0.19    1.02 ± 0.18    17.38 ± 2.70
    low_rank:5       0.00 ± 0.00    0.00 ± 0.00    0.00 ± 0.00         1.97 ± 0.55    2.90 ± 0.60     5.24 ± 0.90
    local            0.00 ± 0.00    0.00 ± 0.00    0.00 ± 0.00         2.46 ± 0.59    3.33 ± 0.62     5.60 ± 0.99
    dense            100.1 ± 1.9     98.8 ± 1.7     96.0 ± 1.3         105.4 ± 1.4    106.3 ± 1.0     108.9 ± 1.6

Every scheme learns what it can express, but for the dense layer, whose 4,760 weights 20 examples of 68 outputs do not fix; with noise, the
fewer weights of those that suffice, the better.

Fashion-MNIST, flatten heads, 5 seeds, of all images 3 (76 minutes):

    training images        conv       local       dense
    ───────────────────────────────────────────────────
    10               48.3 ± 5.1  46.1 ± 6.6  45.5 ± 8.4
    30               60.7 ± 1.9  58.3 ± 5.7  57.5 ± 6.5
    100              68.5 ± 4.1  71.2 ± 1.6  70.7 ± 1.7
    300              77.3 ± 0.6  77.7 ± 0.9  77.3 ± 0.7
    1,000            82.6 ± 0.5  82.1 ± 0.4  82.2 ± 0.6
    3,000            86.1 ± 0.7  84.8 ± 0.2  84.9 ± 0.3
    10,000           87.6 ± 0.3  87.1 ± 0.1  86.9 ± 0.3
    30,000           89.7 ± 0.4  89.7 ± 0.2  88.9 ± 0.3
    55,000           90.5 ± 0.7  91.1 ± 0.4  89.9 ± 0.3

    accuracy                       conv                      local                      dense        local / conv        dense / conv
    ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────
    50 %                   11 (8 to 16)               14 (9 to 21)               15 (8 to 26)     1.2 (0.71 to 2)   1.3 (0.67 to 2.5)
    60 %                  28 (23 to 34)              34 (22 to 53)              37 (23 to 59)     1.2 (0.76 to 2)   1.3 (0.78 to 2.2)
    70 %                118 (79 to 177)             87 (72 to 106)             93 (76 to 114)  0.74 (0.47 to 1.2)   0.79 (0.5 to 1.2)
    75 %               218 (186 to 255)           183 (157 to 215)           199 (170 to 232)  0.84 (0.67 to 1.1)  0.91 (0.73 to 1.1)
    80 %               537 (483 to 596)           541 (475 to 618)           566 (495 to 647)     1 (0.85 to 1.2)   1.1 (0.89 to 1.3)
    85 %         2,086 (1,706 to 2,550)     3,294 (2,913 to 3,725)     3,228 (2,748 to 3,792)      1.6 (1.2 to 2)      1.5 (1.2 to 2)
    87.5 %      9,169 (7,231 to 11,626)  11,479 (11,057 to 11,918)  13,680 (12,112 to 15,452)   1.3 (0.98 to 1.6)    1.5 (1.1 to 1.9)
    90 %      37,268 (23,229 to 59,790)  33,725 (30,246 to 37,603)           more than 55,000    0.9 (0.56 to 1.5)         above 0.92

So sharing saves a third of the images where some thousands are to be had, 1.6 (1.2 to 2.0) times as many for 85 % with local filters and
1.5 (1.2 to 2.0) with dense layers, and nothing that 5 seeds tell from chance below 1,000 or, against local filters, at 90 %. On digits, all
8 x 8 and in the middle (72 seconds), it costs images: for 90 % the convolution takes 120 (99 to 147), local filters 0.67 (0.5 to 0.9) and
dense layers 0.73 (0.6 to 0.9) times as many. Pictures that stand in their places are not the tasks above: there is nowhere else to be.
"""

from collections.abc import Sequence
from typing import Any, NoReturn

from absl import flags as absl_flags

from experiments import runner, tasks

FLAGS = absl_flags.FlagValues()
absl_flags.DEFINE_string(
    'dataset', 'digits', f'{" | ".join(tasks.SIGNALS)} | {tasks.NORM}[/cifar10] | {tasks.RANK}, or a data set of images', flag_values=FLAGS
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
absl_flags.DEFINE_boolean('retry', False, 'run cells once more that failed', flag_values=FLAGS)
absl_flags.DEFINE_string(
    'workdir', None, 'folder of results; the same command again resumes (runs/sample_efficiency/DATASET)', flag_values=FLAGS
)


def asked() -> tuple[str, dict[str, Any]]:
    """What the flags ask for, see `tasks.asked`."""
    return tasks.asked(FLAGS)


def job(wanted: tuple[str, dict[str, Any]]) -> int:
    """What the flags ask for, its tables and figure; the exit status. Raises InputError before anything is written."""
    from experiments import samples  # numpy, scipy and jax: imported when there is something to do

    what, told = wanted
    return getattr(samples, what)(FLAGS, **told)


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Exit with 0 done, 1 a cell failed, 2 bad input, 128 + n on signal n."""
    runner.command('sample_efficiency', __doc__, FLAGS, asked, job, argv)


if __name__ == '__main__':
    main()
