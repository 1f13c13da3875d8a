"""Does a filter that is shared over all positions find at new positions what it learned at old ones?"""

import dataclasses

from cnn_research import ablation, config
from experiments import runner


def arm(scheme: str, head: str) -> ablation.Change:
    """This sharing in every stage, and this head."""
    return lambda model: dataclasses.replace(model.with_sharing(scheme), head=head)


EXPERIMENT = ablation.Experiment(
    name='weight_sharing',
    question='What do shared filters buy over one filter per position and over dense layers, and what does the head do to it?',
    arms={
        'conv_flatten': arm('shared', 'flatten'),
        'conv_gmp': arm('shared', 'gmp'),
        'local_flatten': arm('local', 'flatten'),
        'local_gmp': arm('local', 'gmp'),
        'dense_flatten': arm('dense', 'flatten'),
        'dense_gmp': arm('dense', 'gmp'),
    },
    reference='conv_gmp',
    small=runner.digits(config.ModelConfig(features=(16, 32), head='flatten')),
    full=runner.full(config.ModelConfig(features=(8, 16), head='flatten')),
)

if __name__ == '__main__':
    runner.main(EXPERIMENT, __doc__)
