"""In how many places must a network see a vertical edge before it finds it everywhere?

    python -m experiments.edge_anywhere                                          8 networks, 4 numbers of places, 5 seeds
    python -m experiments.edge_anywhere --dataset=edges/noise0.3-clutter20       more noise, more clutter

Is there a vertical edge, or another one, or none? Edges stand at 1, 4, 16 or all 81 places of a 16 x 16 image in training, in 2,000
images, and are tested at all. The networks: a single 3 x 3 filter with a global maximum; a convolutional network with a global maximum,
the same with adaptive polyphase sampling in place of max pools, and with a flatten head; the first of these with filters that repeat, with
mixtures of filters, and with a filter per position; and a dense network. The dense one also gets what is said to help it, at 4 places:
`copies`, nine of every image, moved to other places, or as many more `images` at the same places; both make 20,000. Each network has the
learning rate that was best for it on validation images (`--tune`).

2,000 images, 140 seconds, 5 seeds. Accuracy (%) over all 81 places by the number of places in training, ±: half the 95 % t interval:

    network                  1            4           16           81
    ─────────────────────────────────────────────────────────────────
    one_filter     77.7 ± 31.4  87.1 ± 25.8  87.1 ± 25.8  77.7 ± 31.4
    cnn             71.8 ± 1.9   90.8 ± 3.7   99.2 ± 0.4   99.7 ± 0.1
    cnn_polyphase   98.8 ± 1.7   99.3 ± 1.0   99.7 ± 0.3   99.8 ± 0.1
    cnn_flatten     57.1 ± 2.5   76.8 ± 3.4   96.8 ± 2.4   98.7 ± 1.6
    tiled           59.4 ± 0.7   89.5 ± 4.1   96.7 ± 1.7   99.4 ± 0.3
    low_rank        61.6 ± 6.3   83.0 ± 6.6   97.3 ± 2.0   99.7 ± 0.1
    local           54.8 ± 0.2   63.9 ± 0.8   82.3 ± 0.6   97.2 ± 0.6
    dense           54.9 ± 0.1   57.9 ± 0.8   66.9 ± 5.6   80.4 ± 9.7
    dense, copies            –   99.0 ± 0.1            –            –
    dense, images            –   62.3 ± 0.7            –            –

Sharing alone does not find the edge anywhere: a convolutional network that saw it at one place finds it where its two pools fall alike
(every other row and column, twice) and misses it elsewhere (72 %). With adaptive polyphase sampling in place of the pools, as many weights
and nothing else changed, one place is enough (98.8 %). The less is shared the more places are needed: 16 for a flatten head, repeated
filters and mixtures, nearly all for a filter per position; the dense network has not learned it from 81. Copies that are moved make up for
it (99.0 %), ten times the images at the same places do not (62 %). The single filter is the same at every place; in 3 or 4 of 5 seeds it
reads 96 %, and its cosine with Sobel's filter is 0.6 to 0.7; in the others it starts the wrong way round and stays at chance."""

import dataclasses
from collections.abc import Callable

from cnn_research import ablation, config
from cnn_research.data import edges
from experiments import runner

Change = Callable[[config.Config], config.Config]
PLACES = (1, 4, 16, 81)
REMEDIED = 4  # places at which the dense network gets its remedies
_CNN = config.ModelConfig(features=(8, 16), padding='VALID', head='gmp')
NETWORKS = {
    'one_filter': config.ModelConfig((1,), (3,), (1,), (1,), ('shared',), padding='VALID', head='gmp'),
    'cnn': _CNN,
    'cnn_polyphase': dataclasses.replace(_CNN, downsampling='polyphase'),
    'cnn_flatten': dataclasses.replace(_CNN, head='flatten'),
    'tiled': _CNN.with_sharing('tiled:2x2'),
    'low_rank': _CNN.with_sharing('low_rank:4'),
    'local': _CNN.with_sharing('local'),
    'dense': config.ModelConfig((), (), (), (), (), padding='VALID', hidden=(64,)),
}

# The best on validation images (`--tune`), over all numbers of places.
RATES = dict.fromkeys(NETWORKS, 3e-2) | {'cnn_polyphase': 1e-2, 'low_rank': 1e-2, 'dense': 3e-3}


def told(**fields) -> Change:
    """The change that tells the task this."""

    def changed(c: config.Config) -> config.Config:
        setting = dataclasses.replace(edges.parse(c.data.dataset.partition('/')[2]), **fields)
        return dataclasses.replace(c, data=dataclasses.replace(c.data, dataset=edges.name(setting)))

    return changed


def _arm(network: str, also: Change, rate: float | None = None) -> ablation.Varied:
    def changed(c: config.Config) -> config.Config:
        return also(dataclasses.replace(c, train=dataclasses.replace(c.train, learning_rate=rate or RATES[network])))

    return ablation.Varied(lambda model: NETWORKS[network], changed)


ARMS = {f'{network}_{count}': _arm(network, told(positions=count)) for network in NETWORKS for count in PLACES}
ARMS[f'dense_{REMEDIED}_copies'] = _arm('dense', told(positions=REMEDIED, copies=9), rate=1e-3)
ARMS[f'dense_{REMEDIED}_images'] = _arm('dense', told(positions=REMEDIED, images=20_000))
BASE = config.Config(_CNN, config.DataConfig('edges'), config.TrainConfig(epochs=20, batch_size=64, learning_rate=1e-2))
EXPERIMENT = ablation.Experiment(
    name='edge_anywhere',
    question='In how many places must a network see a vertical edge before it finds it everywhere?',
    arms=ARMS,
    compared_with={},
    small=BASE,
    measure='unseen_accuracy',
    owns=(*ablation.MODEL_FIELDS, 'learning_rate', 'train_size', 'canvas', 'train_positions', 'unseen_positions', 'shift'),
    seeds=5,
)


def say(book, dataset, rows, arms) -> tuple[str, list]:
    """What is printed and drawn besides the table."""
    from experiments import edge_answers  # figures: imported when there is something to show

    return edge_answers.say(book, rows, arms, list(NETWORKS), PLACES, REMEDIED)


if __name__ == '__main__':
    runner.main(EXPERIMENT, __doc__, more=say)
