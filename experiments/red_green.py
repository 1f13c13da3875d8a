"""Does a convolutional network know where in the image something is? Red and green squares (Kayhan & van Gemert 2020, section 3.2).

    python -m experiments.red_green                 4 paddings, 2 initialisations
    python -m experiments.red_green --seeds=10      the paper's number of them

Which of two squares is the left one, red or green? In training the two classes stand in different rows, so that reading the row would do.
The dissimilar test has the same images with the rows exchanged: whoever reads what is left of what is right there too, whoever reads the
row is always wrong. Four convolutions and a global maximum: what they know of rows they know from the border. (Without padding the strides
leave out the last 7 rows and columns, in which some squares of class 1 are hidden: that is a border too.)

Network and training are the paper's: 3 x 3, 32, 32, 64 and 64 maps, strides 1, 2, 2, 2, no biases, ReLU, a global maximum and a dense
layer; Adadelta (rate 1, rho 0.9, epsilon 1e-6, weight decay 5e-5), batch 200, at most 50 epochs, until the validation loss has had no new
minimum for 8; the weights of that minimum are tested. Where this leaves a choice: as many images of each class; the order of images changes
with every epoch; weights start as in He et al. 2015; pixels are divided by their root mean square; all initialisations share the drawn
images.

10 initialisations (20 minutes on two cores). Accuracy in %, ±: standard deviation over initialisations:

    padding         n      similar  dissimilar
    ──────────────────────────────────────────
    valid          10  100.0 ± 0.0   0.2 ± 0.2
    same_zero      10   99.3 ± 0.2   9.5 ± 1.1
    same_circular  10   62.2 ± 0.8  62.2 ± 0.8
    full_zero      10   84.0 ± 0.5  84.0 ± 0.5

Without padding and with zeros at half the width the network reads the rows, and is wrong in nearly all dissimilar images; with circular
and full padding it cannot tell rows apart, and reads the same in both tests. That is what Kayhan and van Gemert report. Why circular and
full padding do not read all images was not looked into: their validation loss stops falling after 2 to 20 epochs.
"""

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from cnn_research import ablation, config, ledger
from experiments import runner

_STAGES = ((32, 32, 64, 64), (3,) * 4, (1, 2, 2, 2), (1,) * 4, ('shared',) * 4)
MODEL = config.ModelConfig(*_STAGES, padding='VALID', head='gmp', biases='classes')
TRAIN = config.TrainConfig(
    epochs=50, batch_size=200, optimizer='adadelta', learning_rate=1.0, schedule='constant', warmup=0.0, weight_decay=5e-5, patience=8
)
BASE = config.Config(MODEL, config.DataConfig('red_green'), TRAIN)
ARMS = {'valid': 'VALID', 'same_zero': 'HALF', 'same_circular': 'CIRCULAR', 'full_zero': 'FULL'}


def _padded(padding: str) -> ablation.Change:
    return lambda model: dataclasses.replace(model, padding=padding)


EXPERIMENT = ablation.Experiment(
    name='red_green',
    question='Does a convolutional network know where in the image something is?',
    arms={name: _padded(padding) for name, padding in ARMS.items()},
    compared_with={name: 'valid' for name in ARMS if name != 'valid'},
    small=BASE,
    measure='unseen_accuracy',
    owns=('padding',),
    seeds=2,
)


def say(book: ledger.Ledger, dataset: Any, rows: Sequence[Mapping[str, Any]], arms: Sequence[str]) -> tuple[str, list]:
    """The paper's table: mean and standard deviation of both tests by padding."""
    from cnn_research.report import table  # imported when there is something to show

    lines = []
    for arm in arms:
        done = [row for row in rows if row['arm'] == arm and row['status'] == 'ok']
        if done:
            scores = [[100 * row[f'{test}_accuracy'] for row in done] for test in ('similar', 'dissimilar')]
            deviations = [f' ± {statistics.stdev(score):.1f}' if len(score) > 1 else '' for score in scores]
            lines.append((arm, len(done), *(f'{statistics.fmean(score):.1f}{spread}' for score, spread in zip(scores, deviations))))
    shown = table.plain(('padding', 'n', 'similar', 'dissimilar'), lines) if lines else ''
    return f'{shown}\naccuracy in %; ±: standard deviation over initialisations', []


if __name__ == '__main__':
    runner.main(EXPERIMENT, __doc__, more=say)
