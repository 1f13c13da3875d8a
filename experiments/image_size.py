"""What does a larger image cost a dense, a locally connected and a convolutional network?

    python -m experiments.image_size                  digits at sides 16, 28 and 56, one seed; steps timed up to 1280 x 720
    python -m experiments.image_size --arms=all       trained up to 224, where memory holds them

The same digits in two ways: on a larger black canvas, anywhere (`canvas`), or scaled up to its side (`scaled`). Networks: a plain dense
one with a hidden layer of 256 units; dense, locally connected and convolutional maps under a flatten head; convolutional maps under a
global maximum. Besides, training steps of each are timed at every side (batch 32, Adam, one thread, ten steps or four seconds), in a
process whose peak memory is measured; where what they need by counting (weights, gradients, optimizer, maps) exceeds three quarters of the
memory of the machine they are refused and drawn so."""

import dataclasses
from collections.abc import Callable

from cnn_research import ablation, config
from experiments import runner

SIDES = (16, 28, 56, 112, 224)
TRAINED = 56  # the largest side that is trained by default
TIMED = (*((side, side) for side in SIDES), (720, 1280))
_MAPS = config.ModelConfig(features=(4, 8))
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
BASE = config.Config(_MAPS, _DATA, config.TrainConfig(epochs=8, batch_size=128, learning_rate=3e-3))
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
