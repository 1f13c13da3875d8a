"""Networks of published papers as members of the family in `models.py`, with the images they were made for (imports no jax).

Neyshabur (2020) prints, in millions of weights on CIFAR-10, for S-CONV, S-LOCAL and S-FC 138, 147 and 256; for D-CONV, D-LOCAL and D-FC
1.45, 3.42 and 256. With a = 150 and 15 the exact counts of his architectures, batch norm included, are

    S-CONV 138,319,950   S-LOCAL 147,614,700   S-FC 256,248,300      D-CONV 1,449,225   D-LOCAL 11,717,190   D-FC 282,206,790

so four of the six agree and two cannot be right. The local layers of D hold 10.8 million weights at a = 15 before any dense layer; 3.42
would need a = 8 (3.44), with which D-CONV would have 0.42. The 256 of D-FC repeats S-FC's; a dense D has 282 at a = 15 and no
whole a gives 256.
"""

from collections.abc import Callable
from typing import NamedTuple

from cnn_research import errors
from cnn_research.config import ModelConfig
from cnn_research.cost import Shape


class Network(NamedTuple):
    """A published network: the model, the images (H, W, C) and classes it was made for, and where it stands."""

    model: ModelConfig
    image: Shape
    num_classes: int
    source: str


def lenet5() -> Network:
    """LeNet-5 as commonly built, 61,706 weights: 28 x 28 images on a canvas of 32 x 32, max pooling and ReLU."""
    model = ModelConfig((6, 16), (5, 5), (1, 1), (2, 2), ('shared',) * 2, 'VALID', hidden=(120, 84))
    return Network(model, (32, 32, 1), 10, 'as commonly built after LeCun et al. 1998, section II.B')


def neyshabur_s(sharing: str, a: int = 150) -> Network:
    """S-CONV, S-LOCAL, S-FC: one 9 x 9 map with stride 2, one hidden layer; batch norm and no biases."""
    model = ModelConfig((a,), (9,), (2,), (1,), (sharing,), 'SAME', 'batch', hidden=(24 * a,), biases='none')
    return Network(model, (32, 32, 3), 10, 'Neyshabur 2020')


def neyshabur_d(sharing: str, a: int = 15) -> Network:
    """D-CONV, D-LOCAL, D-FC: eight 3 x 3 maps, every second with stride 2, one hidden layer; batch norm and no biases."""
    widths = tuple(a * factor for factor in (1, 2, 2, 4, 4, 8, 8, 16))
    model = ModelConfig(widths, (3,) * 8, (1, 2) * 4, (1,) * 8, (sharing,) * 8, 'SAME', 'batch', hidden=(64 * a,), biases='none')
    return Network(model, (32, 32, 3), 10, 'Neyshabur 2020')


def ott_mnist(sharing: str) -> Network:
    """Three maps and a hidden layer, as compared with and without sharing on translated MNIST."""
    model = ModelConfig((32, 64, 128), (3, 3, 3), (2, 2, 1), (1,) * 3, (sharing,) * 3, 'SAME', hidden=(1024,))
    return Network(model, (28, 28, 1), 10, 'Ott et al. 2020')


def ott_cifar(sharing: str) -> Network:
    """Three wider maps and a hidden layer, as compared with and without sharing on CIFAR-10."""
    model = ModelConfig((64, 128, 256), (5, 5, 3), (2, 2, 1), (1,) * 3, (sharing,) * 3, 'SAME', hidden=(1024,))
    return Network(model, (32, 32, 3), 10, 'Ott et al. 2020')


NAMED: dict[str, Callable[[], Network]] = {
    'lenet5': lenet5,
    's_conv': lambda: neyshabur_s('shared'),
    's_local': lambda: neyshabur_s('local'),
    's_fc': lambda: neyshabur_s('dense'),
    'd_conv': lambda: neyshabur_d('shared'),
    'd_local': lambda: neyshabur_d('local'),
    'd_fc': lambda: neyshabur_d('dense'),
    'ott_mnist_conv': lambda: ott_mnist('shared'),
    'ott_mnist_local': lambda: ott_mnist('local'),
    'ott_cifar_conv': lambda: ott_cifar('shared'),
    'ott_cifar_local': lambda: ott_cifar('local'),
}


def named(name: str) -> Network:
    """The network of this name. Raises InputError that lists the known ones."""
    if name not in NAMED:
        raise errors.known('network', name, NAMED)
    return NAMED[name]()
