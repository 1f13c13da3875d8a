"""Does moving the training images make up for weights that are not shared? (Ott et al. 2020, section on translated MNIST)

    python -m experiments.augmentation                              digits, 2 networks, 6 amounts, 5 seeds
    python -m experiments.augmentation --dataset=mnist --seeds=3

A convolutional network and the same one with a filter per position ("free convolution"), both under a flatten head, are trained on images
in the middle of a canvas, moved along both axes by up to a share p of its side, p = 0, 0.1, 0.2, 0.3, 0.5, 0.99. They are tested at
positions all over the canvas (`anywhere`). Canvas 40 x 40, batch 256 and rate 1e-3 are the paper's; it fills what an image leaves with the
nearest pixel, which is black here too, for so is the border of the canvas. Where it leaves a choice, or was not at hand: Adam with a cosine
schedule, 8 epochs, two stages of 8 and 16 maps with 3 x 3 filters and max pools, and a test at a grid of positions that keep the image
whole. An image that is moved out of the canvas loses what is outside.

Digits, 8 x 8 on a 12 x 12 canvas, 90 seconds, 95 % t intervals, in %. With the moves that the canvas has room for (p = 0.2: 2 pixels) the
free network nearly catches up: 95.7 against 97.3 % anywhere, from 22 against 40 % without moves; that is what Ott et al. report. Larger
moves cut digits off, and cost the free network much more.

    arm       unseen    anywhere  consistency    circular
    ─────────────────────────────────────────────────────
    conv_0         –  39.7 ± 5.1   28.5 ± 2.8  19.2 ± 1.8
    conv_10        –  75.6 ± 1.3   62.6 ± 2.3  22.7 ± 4.0
    conv_20        –  97.3 ± 0.8   96.1 ± 0.7  26.0 ± 3.8
    conv_30        –  96.7 ± 1.7   95.9 ± 2.4  30.9 ± 3.8
    conv_50        –  90.5 ± 6.3   88.4 ± 8.0  57.6 ± 9.2
    conv_99        –  59.4 ± 8.4   58.0 ± 9.1  38.6 ± 7.3
    local_0        –  22.2 ± 0.3   26.8 ± 3.2  25.4 ± 4.6
    local_10       –  57.9 ± 1.3   40.1 ± 1.4  18.7 ± 1.8
    local_20       –  95.7 ± 0.3   94.2 ± 0.7  24.6 ± 1.2
    local_30       –  93.4 ± 0.6   91.7 ± 1.4  23.4 ± 2.1
    local_50       –  69.5 ± 2.8   61.4 ± 4.2  32.8 ± 3.5
    local_99       –  32.1 ± 3.9   29.9 ± 4.7  21.2 ± 2.1
"""

import dataclasses
from collections.abc import Callable

from cnn_research import ablation, config, errors
from experiments import runner

SHARES = (0, 0.1, 0.2, 0.3, 0.5, 0.99)
NETWORKS = {'conv': 'shared', 'local': 'local'}


def moved(share: float) -> Callable[[config.Config], config.Config]:
    """Training images are moved by up to this share of the canvas."""

    def changed(c: config.Config) -> config.Config:
        if c.data.canvas is None:
            raise errors.InputError('augmentation moves images on a canvas: give one')
        side = min(c.data.canvas)
        return dataclasses.replace(c, train=dataclasses.replace(c.train, shift=int(share * side)))

    return changed


def _arm(sharing: str, share: float) -> ablation.Varied:
    return ablation.Varied(lambda model: model.with_sharing(sharing), moved(share))


def _name(network: str, share: float) -> str:
    return f'{network}_{round(100 * share)}'


def middle(base: config.Config, canvas: tuple[int, int], **train) -> config.Config:
    """The base with images in the middle of this canvas, tested all over it."""
    data = dataclasses.replace(base.data, canvas=canvas, train_positions='center', unseen_positions=None, probe=True)
    return dataclasses.replace(base, data=data, train=dataclasses.replace(base.train, **train))


EXPERIMENT = ablation.Experiment(
    name='augmentation',
    question='Does moving the training images make up for weights that are not shared?',
    arms={_name(network, share): _arm(sharing, share) for network, sharing in NETWORKS.items() for share in SHARES},
    compared_with={_name('local', share): _name('conv', share) for share in SHARES},
    small=middle(runner.digits(config.ModelConfig(features=(16, 32))), canvas=(12, 12)),
    measure='anywhere_accuracy',
    owns=('sharing', 'shift'),
    full=middle(runner.full(config.ModelConfig(features=(8, 16)), learning_rate=1e-3), canvas=(40, 40), batch_size=256),
)


def say(book, dataset, rows, arms) -> tuple[str, list]:
    """Accuracy all over the canvas by how far training images were moved."""
    from experiments import effects  # figures: imported when there is something to show

    curves = {network: [_name(network, share) for share in SHARES] for network in NETWORKS}
    return effects.by_amount(rows, arms, curves, SHARES, 1 / len(dataset.class_names))


if __name__ == '__main__':
    runner.main(EXPERIMENT, __doc__, more=say)
