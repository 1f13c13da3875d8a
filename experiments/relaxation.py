"""Does a dense network that starts as a trained convolution leave it, and is it better for it?

    python -m experiments.relaxation                                           digits, 5 seeds
    python -m experiments.relaxation --dataset=fashion_mnist --seeds=3         full Fashion-MNIST

After d'Ascoli et al. (2019): a convolutional network is trained for a time, then every stage is embedded into the dense layer that
makes the same maps, with the same outputs, and all its weights go on learning. Arms differ in that time, from none to all of the training;
a dense network from scratch stands beside them. The optimizer starts anew when the weights are freed, the schedule of the learning
rate goes on. After every epoch the test accuracy is recorded and the distance of the weights from the nearest convolution,
|w - Pw| / |w|.
"""

import dataclasses

from cnn_research import ablation, config
from experiments import runner


def relaxed(share: float) -> ablation.Relaxed:
    """A convolution that becomes a dense network after this share of the epochs."""
    return ablation.Relaxed(lambda model: model, share, 'dense')


def watched(base: config.Config) -> config.Config:
    """The base with test accuracy and distance recorded after every epoch."""
    return dataclasses.replace(base, train=dataclasses.replace(base.train, watch=True))


EXPERIMENT = ablation.Experiment(
    name='relaxation',
    question='Does a dense network that starts as a trained convolution leave it, and is it better for it?',
    arms={
        'conv': lambda model: model,
        'freed_at_0': relaxed(0),
        'freed_at_1_8': relaxed(1 / 8),
        'freed_at_1_4': relaxed(1 / 4),
        'freed_at_1_2': relaxed(1 / 2),
        'dense': lambda model: model.with_sharing('dense'),
    },
    compared_with={**dict.fromkeys(('freed_at_0', 'freed_at_1_8', 'freed_at_1_4', 'freed_at_1_2', 'dense'), 'conv')},
    small=watched(runner.digits(config.ModelConfig(features=(8, 16), head='flatten'))),
    full=watched(runner.full(config.ModelConfig(features=(8, 16), head='flatten'))),
)

if __name__ == '__main__':
    runner.main(EXPERIMENT, __doc__)
