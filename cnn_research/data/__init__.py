"""Real image classification data: an embedded set, three sets by name, and any other set that TFDS has prepared."""

from cnn_research.data import digits, sources
from cnn_research.data.dataset import Dataset
from cnn_research.data.pins import ORIGINALS

__all__ = ['Dataset', 'load', 'names']


def names() -> tuple[str, ...]:
    """The sets that need no preparation by hand, the embedded one first."""
    return ('digits', *ORIGINALS)


def load(name: str, *, data_dir: str | None = None, raw_dir: str | None = None) -> Dataset:
    """Loads a data set, which is prepared first if it is not yet.

    `digits` is embedded and uses neither folder. The other sets are TFDS sets: the ones in `names()` are prepared
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
    return digits.load() if name == 'digits' else sources.load(name, data_dir, raw_dir)
