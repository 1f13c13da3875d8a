"""What does a larger image cost a dense, a locally connected and a convolutional network?

    python -m experiments.image_size                  digits at sides 16, 28 and 56, one seed; steps timed up to 1280 x 720
    python -m experiments.image_size --arms=all       trained up to 224, where memory holds them

The same digits in two ways: on a larger black canvas, anywhere (`canvas`), or scaled up to its side (`scaled`). Networks: a plain dense
one with a hidden layer of 256 units; dense, locally connected and convolutional maps under a flatten head; convolutional maps under a
global maximum. Besides, training steps of each are timed at every side (batch 32, Adam, one thread, ten steps or three seconds), in a
process whose peak memory is measured; where what they need by counting (weights, gradients, optimizer, maps) exceeds three quarters of the
memory of the machine they are refused and drawn so.
One seed, 299 seconds. Where the digit may stand anywhere, what a global maximum over shared filters reads stays the same as the image
grows, with the same 262 weights; everything else loses, to chance at 56 x 56, for every position is one more thing to learn from the same
1,237 images. (The network is small, 2 and 8 maps, and reads no more than 58 %.) Scaled up it is the other way round: the others stay, and
3 x 3 filters see ever less of a digit. Test accuracy in %:

    network                     16    28    56        weights at 56
    ───────────────────────────────────────────────────────────────
    mlp, canvas               88.3  56.1  18.1              805,642
    dense, canvas             90.8  61.4  11.9           29,519,188
    local, canvas             61.9  19.7  12.8              185,044
    conv, canvas              63.3  53.1  11.9               15,862
    conv_gmp, canvas          57.5  57.8  57.2                  262
    mlp, scaled               97.8  98.3  98.1
    dense, scaled             98.1  97.2  94.2
    local, scaled             97.2  96.7  96.4
    conv, scaled              97.2  96.4  97.5
    conv_gmp, scaled          80.0  45.3  31.7

Two claims of the popular texts meet their limits. A plain dense network of 256 units on 1280 x 720 has 236 million weights, takes 4.4 GB,
and a step of 32 images 1.5 seconds: less than the small convolutional network there, 4.8 seconds, whose 262 weights are used 50 million
times for each image. Dense maps are out of reach soon: at 224 x 224 they would take 151 GB. Milliseconds a step, and peak memory:

    network             56 x 56            112 x 112            224 x 224          1280 x 720
    ──────────────────────────────────────────────────────────────────────────────────────────
    mlp              2.7   423 MB         11     484 MB        80    665 MB      1,470   4.4 GB
    dense            155   878 MB      2,650     7.4 GB        refused           refused
    local             13   464 MB         79     544 MB       362    700 MB      9,520   3.3 GB
    conv             9.6   493 MB         38     527 MB       191    599 MB      4,760   1.9 GB
    conv_gmp         9.3   489 MB         36     514 MB       187    592 MB      4,840   1.9 GB
"""

import dataclasses
from collections.abc import Callable

from cnn_research import ablation, config
from experiments import runner

SIDES = (16, 28, 56, 112, 224)
TRAINED = 56  # the largest side that is trained by default
TIMED = (*((side, side) for side in SIDES), (720, 1280))
_MAPS = config.ModelConfig(features=(2, 8))
NETWORKS = {
    'mlp': config.ModelConfig((), (), (), (), (), hidden=(256,)),
    'dense': _MAPS.with_sharing('dense'),
    'local': _MAPS.with_sharing('local'),
    'conv': _MAPS,
    'conv_gmp': dataclasses.replace(_MAPS, head='gmp'),
}
KINDS = ('canvas', 'scaled')


def seen(kind: str, side: int) -> Callable[[config.Config], config.Config]:
    """Digits on a canvas of this side, or scaled to it."""
    data = config.DataConfig('digits', canvas=(side, side), train_positions='any')
    if kind == 'scaled':
        data = config.DataConfig(f'digits/{side}')
    return lambda c: dataclasses.replace(c, data=dataclasses.replace(data, train_size=c.data.train_size))


def _arm(network: str, kind: str, side: int) -> ablation.Varied:
    return ablation.Varied(lambda model: NETWORKS[network], seen(kind, side))


_DATA = config.DataConfig('digits', canvas=(16, 16), train_positions='any')
BASE = config.Config(_MAPS, _DATA, config.TrainConfig(epochs=20, batch_size=64, learning_rate=1e-2))
EXPERIMENT = ablation.Experiment(
    name='image_size',
    question='What does a larger image cost a dense, a locally connected and a convolutional network?',
    arms={f'{network}_{kind}_{side}': _arm(network, kind, side) for side in SIDES for kind in KINDS for network in NETWORKS},
    compared_with={},
    small=BASE,
    owns=(*ablation.MODEL_FIELDS, 'dataset', 'canvas', 'train_positions', 'unseen_positions'),
    default=tuple(f'{network}_{kind}_{side}' for side in SIDES if side <= TRAINED for kind in KINDS for network in NETWORKS),
    seeds=1,
)


def say(book, dataset, rows, arms) -> tuple[str, list]:
    """Accuracy by side, and what a training step takes."""
    from experiments import sizes  # figures: imported when there is something to show

    return sizes.say(book, rows, NETWORKS, KINDS, SIDES, TIMED)


if __name__ == '__main__':
    runner.main(EXPERIMENT, __doc__, more=say)
