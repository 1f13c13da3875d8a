"""The sets known by name: their TFDS version, where their original files come from, and what those must hold."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Original:
    """An original file. Size (bytes) and SHA-256 are those of its content, decompressed where it is a .gz file.

    The compressed files are not pinned: Debian's differ from the published ones in the gzip header alone.
    """

    file: str
    split: str
    size: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class OriginalSet:
    """The original files of a set, in the order in which TFDS numbers their examples.

    `version` is that of the TFDS set; `url` is the archive, or the address under which the files lie; `folders` are
    the places under a folder of original files where they may lie; `format` is a key of `formats.FORMATS`;
    `class_names` are those of TFDS, which no original file holds.
    """

    name: str
    version: str
    url: str
    folders: tuple[str, ...]
    format: str
    class_names: tuple[str, ...]
    files: tuple[Original, ...]

    def of(self, split: str) -> list[Original]:
        """The files of one split."""
        return [original for original in self.files if original.split == split]


def _mnist_files(*content_sha256: str) -> tuple[Original, ...]:
    layout = (
        ('train-images-idx3-ubyte.gz', 'train', 47_040_016),
        ('train-labels-idx1-ubyte.gz', 'train', 60_008),
        ('t10k-images-idx3-ubyte.gz', 'test', 7_840_016),
        ('t10k-labels-idx1-ubyte.gz', 'test', 10_008),
    )
    return tuple(Original(*entry, sha256) for entry, sha256 in zip(layout, content_sha256, strict=True))


def _cifar_files(*content_sha256: str) -> tuple[Original, ...]:
    layout = [(f'data_batch_{number}.bin', 'train') for number in range(1, 6)] + [('test_batch.bin', 'test')]
    return tuple(Original(*entry, 30_730_000, sha256) for entry, sha256 in zip(layout, content_sha256, strict=True))


ORIGINALS: dict[str, OriginalSet] = {
    'fashion_mnist': OriginalSet(
        name='fashion_mnist',
        version='3.0.1',
        url='http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/',
        folders=('fashion_mnist', 'fashion-mnist'),  # the second is Debian's
        format='idx',
        class_names=('T-shirt/top', 'Trouser', 'Pullover', 'Dress', 'Coat', 'Sandal', 'Shirt', 'Sneaker', 'Bag', 'Ankle boot'),
        files=_mnist_files(
            'c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888',
            'bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9',
            '5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b',
            '0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34',
        ),
    ),
    'mnist': OriginalSet(
        name='mnist',
        version='3.0.1',
        url='https://storage.googleapis.com/cvdf-datasets/mnist/',
        folders=('mnist',),
        format='idx',
        class_names=tuple('0123456789'),
        files=_mnist_files(
            'ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db',
            '65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5',
            '0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7',
            'ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2',
        ),
    ),
    'cifar10': OriginalSet(
        name='cifar10',
        version='3.0.2',
        url='https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz',
        folders=('cifar10/cifar-10-batches-bin', 'cifar-10-batches-bin'),
        format='cifar',
        class_names=('airplane', 'automobile', 'bird', 'cat', 'deer', 'dog', 'frog', 'horse', 'ship', 'truck'),
        files=_cifar_files(
            'cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5',
            'a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed',
            'bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67',
            '014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48',
            '755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add',
            '8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b',
        ),
    ),
}

# All that are known by name, the embedded one first; the last two are generated.
NAMES = ('digits', *ORIGINALS, 'edges', 'red_green')
