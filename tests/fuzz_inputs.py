"""Random command lines and configurations, right, nearly right and wrong, from a seeded `random.Random`."""

import string
from collections.abc import Mapping
from random import Random
from typing import Any

from cnn_research import config, filters, geometry, networks, schemes
from experiments import flags, tasks

RIGHT = {
    'arms': ['all', 'conv,local', 'conv', 'dense'],
    'canvas': ['16', '12x20', 'none', '24'],
    'cell': ['conv_gmp-seed0'],
    'channels': ['1', '3'],
    'data_parallel': ['1', '2'],
    'dataset': ['digits', 'digits/16', *tasks.GENERATED],
    'distributed': ['auto', 'localhost:1234,2,0'],
    'epochs': ['1', '8', '24'],
    'features': ['8', '4,8', '1,2,3'],
    'filter': [*filters.NAMED, '1,0,-1; 2,0,-2'],
    'hidden': ['0', '16', '8,8'],
    'image_size': ['28', '720x1280'],
    'kernel_size': ['3', '1', '3,5'],
    'learning_rate': ['0.01', '1e-3', '2'],
    'model': list(networks.NAMED),
    'most': ['128', '1000'],
    'padding': list(geometry.PADDINGS),
    'patience': ['1', '5'],
    'pools': ['1', '2', '2,1'],
    'sbatch': ['--partition=gpu --time=1:00:00', '-pgpu'],
    'sections': ['steps', 'layers, kernels'],
    'shift': ['0', '1'],
    'sigma': ['0.2', '1'],
    'strides': ['1', '2', '1,2'],
    'target': ['0.8'],
    'threads': ['1', '2,1'],
    'train_size': ['64', '1000'],
    'warmup': ['0', '0.1'],
    'weight_decay': ['0', '1e-4'],
    'workdir': ['w', 'runs/ü'],
    **{name: list(kind) for _, name, kind, _ in flags._TABLE if isinstance(kind, tuple)},
}
OTHERS = {'int': ['1', '2'], 'float': ['0.5', '3'], 'string': ['x'], 'bool': ['true', 'false', '1']}  # by the flag's type
WRONG = [
    '', ' ', '-1', '0', '1', '2.5', '1e3', '1e999', '-1e-9', 'nan', 'inf', '-inf', '9' * 20, '9' * 5000, '0x10', '1_0', '２８', 'None',
    'true', 'maybe', 'all', 'none', ',', '1,,2', '1,2,3,4', '3x', 'x3', '5x5x5', '99999', '4097', 'a b', 'ß→☃', '\udcff', 'a\0b', '\n',
    'x' * 5000, '../..', '/', '/dev/null/x', '~nobody/x', '--epochs', '-', '[1]', '{}', "'", '"; rm', '%s%n', '1;2', '1,nan', ';',
    'digits/0', 'edges/x',
]  # fmt: skip
JUNK = [
    '--',
    '-',
    '---',
    'digits',
    '',
    '=',
    '--=',
    '-=3',
    '\0',
    'ß',
    '--undefok=epochs',
    '--flagfile',
    '--flagfile=/none/here',
    '--help',
    '-h',
]


def nearly(random: Random, text: str) -> str:
    """The text with a character more, less or another, two swapped, or in another case."""
    at = random.randrange(len(text) + 1)
    other = random.choice(string.ascii_letters + string.digits + '_:,.-')
    return random.choice((
        text[:at] + text[at + 1 :], text[:at] + other + text[at:], text[:at] + other + text[at + 1 :],
        text[:at] + text[at : at + 2][::-1] + text[at + 2 :], text.swapcase(),
    ))  # fmt: skip


def command_line(random: Random, values: Mapping[str, Any], names: list[str], arms: list[str], flagfiles: list[str]) -> list[str]:
    """Up to six arguments of a command with these flags: of none, some or all it is left to chance whether they are right."""
    wild, line = random.choice((0.0, 0.0, 0.2, 1.0)), []
    for name in random.choices(names, k=random.randrange(7)):
        right = RIGHT.get(name, OTHERS[values[name].flag_type()])
        if name == 'arms' and arms:
            right = ['all', *arms, ','.join(random.choices(arms, k=2))]
        if random.random() < wild:
            line += _wild(random, name, right, flagfiles)
        elif values[name].boolean:
            line.append(random.choice((f'--{name}', f'--no{name}', f'--{name}=true')))
        else:
            value = random.choice(right)
            line += random.choice(([f'--{name}={value}'], [f'-{name}={value}'], [f'--{name}', value]))
    return line


def _wild(random: Random, name: str, right: list[str], flagfiles: list[str]) -> list[str]:
    value, wrong = random.choice(right), random.choice(WRONG)
    return random.choice((
        [f'--{name}={wrong}'], [f'--{name}={wrong}'], [f'--{name}={nearly(random, value)}'], [f'--{name}={nearly(random, value)}'],
        [f'--{name}', wrong], [f'--{nearly(random, name)}={value}'], [f'--{nearly(random, name)}'], [f'--{name}'], [f'--no{name}'],
        [f'--no{name}={value}'], [f'--{name}={value}', f'--{name}={wrong}'], [random.choice(JUNK)], [wrong],
        [f'--flagfile={random.choice(flagfiles)}'],
    ))  # fmt: skip


def flagfile(random: Random) -> bytes:
    """What a flagfile may hold: flags, or any bytes."""
    if random.random() < 0.5:
        return random.randbytes(random.randrange(60))
    lines = [f'--{name}={random.choice(RIGHT[name] + WRONG)}' for name in random.choices(list(RIGHT), k=3)]
    return '\n'.join(lines).encode('utf-8', 'surrogateescape')


def a_config(random: Random) -> config.Config:
    """A configuration."""
    stages = random.randrange(4)
    sizes = [tuple(random.randint(1, 9) for _ in range(stages)) for _ in range(4)]
    sharing = tuple(random.choice(('tiled:2x1', 'low_rank:2', 'averaged:3', *schemes.KNOWN)) for _ in range(stages))
    sharing = tuple('local' if ':' in name and name[-1] not in '123' else name for name in sharing)  # patterns are no names
    chosen = {name: random.choice(known) for name, known in config._CHOICES.items()}
    model = config.ModelConfig(*sizes, sharing, hidden=tuple(random.randint(1, 99) for _ in range(random.randrange(3))), **chosen)
    canvas = random.choice((None, (random.randint(1, 99), random.randint(1, 99))))
    place = {name: random.choice(config.POSITIONS) for name in ('train_positions', 'unseen_positions')} if canvas else {}
    data = config.DataConfig(random.choice(('digits', '', 'ü\n')), random.choice((None, 64)), canvas, **place, probe=canvas is not None)
    epochs = random.randint(1, 99)
    relax = random.choice((None, random.randrange(epochs)))
    rates = {'learning_rate': random.choice((1, 1e-3, 1e-30, 1e29)), 'warmup': random.random(), 'weight_decay': random.choice((0, 0.1))}
    train = config.TrainConfig(epochs, **rates, relax_epoch=relax, flip=random.random() < 0.5, watch=random.random() < 0.5)
    return config.Config(model, data, train)


def a_value(random: Random, depth: int = 0) -> Any:
    """Any value that JSON has; Python's also reads NaN and Infinity, and a file may hold what Python does not write."""
    kind = random.randrange(14 if depth < 3 else 10)
    if kind == 13:
        nested: Any = 1
        for _ in range(random.choice((5, 2000))):
            nested = [nested]
        return nested
    if kind >= 10:
        return {random.choice(('model', 'epochs', '', 'é', 'x' * 300)): a_value(random, depth + 1) for _ in range(random.randrange(3))}
    if kind >= 8:
        return [a_value(random, depth + 1) for _ in range(random.randrange(4))]
    numbers = (
        random.randint(-3, 40),
        10 ** random.choice((9, 10, 400, 5000)),
        random.uniform(-2, 2),
        float('nan'),
        float('inf'),
        1e308,
        -0.0,
    )
    words = random.choice(WRONG), random.choice(('SAME', 'gap', 'dense', 'tiled:2x2', 'left', 'Adam')), '\ud800'
    return random.choice((None, True, False, *numbers, *words))


def mutated(random: Random, tree: Any, donor: Any) -> Any:
    """The tree with something replaced, dropped, added or swapped, or taken from the same place of another, at a random depth."""
    if not isinstance(tree, dict | list) or not tree or random.random() < 0.1:
        return random.choice((donor, a_value(random)))
    copy: Any = tree.copy()
    key, other = (random.choice(list(tree) if isinstance(tree, dict) else range(len(tree))) for _ in range(2))
    what = random.randrange(10)
    if what == 0:
        del copy[key]
    elif what == 1 and isinstance(tree, dict):
        copy[nearly(random, key)] = random.choice((tree[key], a_value(random)))
    elif what == 1:
        copy.insert(key, a_value(random))
    elif what == 2:
        copy[key], copy[other] = tree[other], tree[key]
    else:
        copy[key] = mutated(random, tree[key], donor[key] if isinstance(donor, dict) and key in donor else tree[key])
    return copy
