"""Every snippet of the README runs as it stands."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import flags

from cnn_research import config, cost, models, schemes, sharing
from experiments import image_size, runner, weight_sharing

README = Path(__file__).parent.parent.joinpath('README.md').read_text('utf-8')


def snippet(word):
    """The one python block with this word."""
    (found,) = [block for block in re.findall(r'```python\n(.*?)```', README, re.DOTALL) if word in block]
    return found


RATES = (50e9, 8 * 50e9, 30e12, 8 * 30e12, 64 * 30e12)  # of a core, eight, a GPU, eight, 64: multiplications and additions per second
SETS = {
    'Fashion-MNIST': ('fashion_mnist', (28, 28, 1), 10, 55_000),
    'CIFAR-10': ('cifar10', (32, 32, 3), 10, 45_000),
    'ImageNet at 64 x 64': ('imagenet2012@64', (64, 64, 3), 1000, 1_276_167),
}


def shown(seconds):
    for name, unit in (('days', 86400), ('h', 3600), ('min', 60), ('s', 1)):
        if seconds >= 2 * unit:
            return f'{seconds / unit:.0f} {name}'
    return 'under 2 s'


def test_what_is_predicted_follows_from_the_counts():
    for title, (name, image, classes, images) in SETS.items():
        experiment = weight_sharing.EXPERIMENT
        configs = experiment.resolve(
            experiment.base(name), lambda of, image=image, classes=classes: (image, classes), list(experiment.arms)
        )
        work = [runner._work(c, image, classes) for c in configs.values()]
        operations = 5 * sum(2 * 3 * macs * images * c.train.epochs for (macs, _), c in zip(work, configs.values()))
        times = ' | '.join(shown(operations / rate) for rate in RATES)
        assert f'| {title} | {times} | {cost.human_bytes(max(need for _, need in work))} |\n' in README
        if name == 'fashion_mnist':
            assert f'predicted are {operations * 3 / 5 / (2 * RATES[0]) / 60:.0f}.' in README
    need = cost.training_bytes(image_size.NETWORKS['dense'], (224, 224, 1), 10, image_size.BASE.train)
    assert 'Dense maps at 224 x 224 take 151 GB' in README and cost.human_bytes(need) == '151 GB'


def test_an_arm_of_ones_own():
    arms = eval('{' + snippet('local_then_conv') + '}')
    assert arms['local_then_conv'](config.ModelConfig()).sharing == ('local', 'shared')


def test_a_layer_in_a_foreign_model():
    names = {'__name__': 'mine'}
    exec(snippet('class Mine'), names)
    x = jnp.ones((2, 12, 12, 3))
    y, variables = jax.jit(names['Mine']().init_with_output)(jax.random.key(0), x)
    assert y.shape == (2, 10)
    shapes = {layer: params['kernel'].shape for layer, params in variables['params'].items()}
    assert shapes['TiledConv_0'] == (2, 2, 3, 3, 3, 16) and shapes['LocallyConnected_0'] == (4, 4, 3, 3, 32, 32)


def test_a_scheme_of_ones_own(monkeypatch):
    monkeypatch.setattr(schemes, 'KNOWN', dict(schemes.KNOWN))
    monkeypatch.setattr(sharing, 'RULES', dict(sharing.RULES))
    exec(snippet('class Depthwise'), {'__name__': 'mine'})
    model = config.ModelConfig(features=(4, 8)).with_sharing('depthwise', 0)
    network, x = models.Network(model, 10), jnp.ones((2, 8, 8, 3))
    variables = network.init(jax.random.key(0), x)
    assert network.apply(variables, x).shape == (2, 10)
    stage = variables['params']['stage_0']
    assert {name: leaf.shape for name, leaf in stage.items()} == {'spatial': (3, 3, 3, 1), 'mixing': (3, 4), 'bias': (4,)}
    assert cost.layers(model, (8, 8, 3), 10)[0].weights == 27 + 12 + 4


def test_a_data_set_of_ones_own(capsys):
    rng = np.random.default_rng(0)
    names = {}
    for split, number in (('train', 256), ('validation', 16), ('test', 32)):
        labels = rng.integers(0, 2, number).astype(np.int32)
        images = rng.integers(0, 90, (number, 8, 8, 1)).astype(np.uint8)
        images[labels == 1, 3] = 255  # dogs have a stripe
        names |= {f'{split}_images': images, f'{split}_labels': labels}
    exec(snippet("Dataset('mine'"), names)
    assert "'accuracy': 1.0" in capsys.readouterr().out


@pytest.mark.slow
def test_a_finished_cell_predicts(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in list(flags.FLAGS):
        flags.FLAGS[name].using_default_value or flags.FLAGS[name].unparse()
    args = ['x', '--arms=conv_gmp', '--seeds=1', '--epochs=1', '--train_size=64', '--workers=1']
    with pytest.raises(SystemExit, match='0'):
        runner.main(weight_sharing.EXPERIMENT, weight_sharing.__doc__, args)
    capsys.readouterr()
    exec(snippet('load_cell'), {})
    assert re.fullmatch(r'\[\d\]\n', capsys.readouterr().out)


def test_a_model_of_ones_own_is_measured(capsys):
    exec(snippet('measure.layers'), {'__name__': 'mine'})
    circular, strided = capsys.readouterr().out.splitlines()
    assert circular.startswith('layers_0 Equivariance(interior=') and strided.startswith('layers_2 ')
    assert float(circular.split('border=')[1].split(')')[0]) < 1e-6 < 1e-2 < float(strided.split('border=')[1].split(')')[0])
