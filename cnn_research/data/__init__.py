"""Image classification data: an embedded set, three sets by name, any other set that TFDS has prepared, and generated tasks."""

from cnn_research.data import digits, edges, red_green, sources
from cnn_research.data.dataset import Dataset
from cnn_research.data.pins import NAMES
from cnn_research.errors import InputError

# Embedded or generated: they need neither network nor files, and read what follows their name and a slash.
_WITHIN = {'digits': digits.load, 'edges': edges.load, 'red_green': red_green.load}

__all__ = ['Dataset', 'is_within', 'load', 'names']


def names() -> tuple[str, ...]:
    """The sets that need no preparation by hand, the embedded one first."""
    return NAMES


def is_within(name: str) -> bool:
    """Whether the set is embedded or generated, and needs no files."""
    return name.partition('/')[0] in _WITHIN


def load(name: str, *, data_dir: str | None = None, raw_dir: str | None = None) -> Dataset:
    """Loads a data set, which is prepared first if it is not yet.

    `digits` is embedded, `edges` and `red_green` are generated; they use neither folder, and may be told more, as in
    digits/28 or edges/positions4, see their modules. The other sets are TFDS sets: those in `names()` are prepared
    from the original files in `raw_dir` or else from the network, and their content is compared with pinned hashes;
    any other one must be prepared already. TensorFlow is not needed.

    The training images of TFDS are cut into training and validation images by `dataset.cut_validation`. The test
    images are those of the split 'test' or, where a set has none, of its split 'validation'.

    Args:
      name: one of `names()`, or 'name', 'name/config' or 'name:version' of TFDS, optionally combined.
      data_dir: the folder of prepared TFDS sets. None: TFDS_DATA_DIR of the environment or ~/tensorflow_datasets.
      raw_dir: a folder with the original files, as RAW/fashion_mnist/*.gz, RAW/mnist/*.gz or
        RAW/cifar10/cifar-10-batches-bin/*.bin. They are verified even where the set is prepared already.

    Returns:
      The decoded set. It is cached under `data_dir`.

    Raises:
      InputError: an unknown or unsuitable set, files that are missing, damaged or others than the originals, or no
        way to get the data. The message is one line with what to do.
    """
    if is_within(name):
        if raw_dir is not None:
            raise InputError(f'{name} is not read from files: leave --raw_dir out')
        family, _, setting = name.partition('/')
        return _WITHIN[family](setting)
    return sources.load(name, data_dir, raw_dir)
