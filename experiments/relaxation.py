"""Does a dense network that starts as a trained convolution leave it, and is it better for it?

    python -m experiments.relaxation                                           digits, 5 seeds: 1.6 minutes on 2 cores
    python -m experiments.relaxation --dataset=fashion_mnist --seeds=3         52 minutes on 2 cores

After d'Ascoli et al. (2019): a convolutional network is trained for a time, then every stage is embedded into the dense layer that
makes the same maps, with the same outputs, and all its weights go on learning. Arms differ in that time, from none to all of the training;
a dense network from scratch stands beside them. The optimizer starts anew when the weights are freed, the schedule of the learning
rate goes on. After every epoch the test accuracy is recorded and the distance of the weights from the nearest convolution,
|w - Pw| / |w|.

Digits on a 16 x 16 canvas, 24 epochs, 95 % t intervals: the freed networks leave the convolution, but not for what a dense network finds
by itself. Their mean distance ends at 0.62 when freed at once, 0.40, 0.20 and 0.05 when freed after a quarter, half and three quarters of
the epochs; the dense network from scratch stays at 0.998 throughout. They read no worse than the convolution where they were trained, and
lose what little it transfers, the less the later they were freed. Right after the weights are freed the accuracy falls for some epochs
(from 93 to 73 % when freed half-way), for Adam starts anew at the schedule's rate.

    arm           n    weights       MACs  test accuracy        unseen  difference    to   train  seconds
    ─────────────────────────────────────────────────────────────────────────────────────────────────────
    conv          5      3,818     94,720   95.6 % ± 1.7  22.2 % ± 1.4     –              95.4 %      2.0
    freed_at_0    5  1,051,170  1,051,136   96.6 % ± 1.2  12.2 % ± 2.0  +1.0 ± 1.8  conv  97.3 %      9.4
    freed_at_1_4  5  1,051,170  1,051,136   96.7 % ± 1.3  12.2 % ± 1.7  +1.1 ± 2.4  conv  97.1 %      6.7
    freed_at_1_2  5  1,051,170  1,051,136   96.4 % ± 1.0  15.7 % ± 3.2  +0.8 ± 2.1  conv  96.3 %      4.2
    freed_at_3_4  5  1,051,170  1,051,136   95.4 % ± 1.0  21.6 % ± 2.3  -0.2 ± 1.0  conv  95.9 %      2.9
    dense         5  1,051,170  1,051,136   96.8 % ± 0.6  12.4 % ± 1.7  +1.2 ± 1.4  conv  96.5 %      5.9

Full Fashion-MNIST at its own size, 3 seeds, freed after 0, 2, 4 and 6 of 8 epochs: here too freeing is worth less than a point either way.
All networks end at 89.4 to 90.1 %; the convolution does it with a thousandth of the weights and fits the training images less. (Two of five
intervals leave out zero, both below it: freed at once 0.08 ± 0.06 points less, after a quarter 0.5 ± 0.4.) The later the weights are
freed the nearer they stay: the distance ends at 0.56, 0.41, 0.23 and 0.07, most of it gone in the first epoch, with a loss of 1 to 4 points
that takes up to three epochs to win back. D'Ascoli et al. report on CIFAR-10 that networks freed at a good time overtake the convolution;
nothing of that is seen here, in 8 epochs of Adam.

    arm           n    weights       MACs  test accuracy  difference    to   train  seconds
    ───────────────────────────────────────────────────────────────────────────────────────
    conv          3      9,098    290,080   89.9 % ± 0.3     –              92.3 %     69.5
    freed_at_0    3  9,842,370  9,842,336   89.8 % ± 0.3  -0.1 ± 0.1  conv  93.9 %    540.8
    freed_at_1_4  3  9,842,370  9,842,336   89.4 % ± 0.2  -0.5 ± 0.4  conv  93.4 %    432.6
    freed_at_1_2  3  9,842,370  9,842,336   89.8 % ± 0.9  -0.1 ± 0.8  conv  93.9 %    309.6
    freed_at_3_4  3  9,842,370  9,842,336   90.1 % ± 0.4  +0.2 ± 0.3  conv  94.0 %    201.3
    dense         3  9,842,370  9,842,336   89.7 % ± 0.2  -0.2 ± 0.5  conv  93.9 %    523.9
"""

import dataclasses

from cnn_research import ablation, config
from experiments import runner


def relaxed(share: float) -> ablation.Relaxed:
    """A convolution that becomes a dense network after this share of the epochs."""
    return ablation.Relaxed(lambda model: model, share, 'dense')


def watched(base: config.Config, epochs: int = 8) -> config.Config:
    """The base with test accuracy and distance recorded after every epoch; the epochs a multiple of 4, for the shares of the arms."""
    return dataclasses.replace(base, train=dataclasses.replace(base.train, epochs=epochs, watch=True))


EXPERIMENT = ablation.Experiment(
    name='relaxation',
    question='Does a dense network that starts as a trained convolution leave it, and is it better for it?',
    arms={
        'conv': lambda model: model,
        'freed_at_0': relaxed(0),
        'freed_at_1_4': relaxed(1 / 4),
        'freed_at_1_2': relaxed(1 / 2),
        'freed_at_3_4': relaxed(3 / 4),
        'dense': lambda model: model.with_sharing('dense'),
    },
    compared_with={**dict.fromkeys(('freed_at_0', 'freed_at_1_4', 'freed_at_1_2', 'freed_at_3_4', 'dense'), 'conv')},
    small=watched(runner.digits(config.ModelConfig(features=(8, 16), head='flatten')), epochs=24),
    full=watched(runner.full(config.ModelConfig(features=(8, 16), head='flatten'), learning_rate=3e-3)),
)

if __name__ == '__main__':
    runner.main(EXPERIMENT, __doc__)
