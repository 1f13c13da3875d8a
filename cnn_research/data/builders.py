"""Everything that touches TFDS: preparing the sets known by name, opening any prepared set, and reading its records.

TFDS writes array_record files and reads them without TensorFlow. Importing this module imports TFDS, which takes
about a second: the other modules import it where they need it.
"""

import contextlib
import io
import logging
import os
import pathlib
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import PIL.Image
import tensorflow_datasets as tfds
from array_record.python import array_record_data_source
from tensorflow_datasets.core import read_only_builder
from tensorflow_datasets.core.download import downloader
from tensorflow_datasets.image_classification import cifar, mnist

from cnn_research.data import originals
from cnn_research.data.dataset import Split
from cnn_research.data.pins import NAMES, ORIGINALS, OriginalSet
from cnn_research.data.streamed import Streamed, middle_square
from cnn_research.errors import InputError, known

DOWNLOAD_RETRIES = 2
DOWNLOAD_TIMEOUT = 10  # seconds without an answer or a byte
READ_BATCH = 1024  # records


class _FromOriginals:
    """Mixin that prepares the official TFDS set from verified original files, without TensorFlow.

    Name, version, features and keys are the official ones, so the official class opens what this one prepares.
    """

    name: str

    def __init__(self, *, raw_dir: str | None, **kwargs):
        self._raw_dir = raw_dir
        super().__init__(**kwargs)

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict:
        known = ORIGINALS[self.name]
        read = _downloaded(known, dl_manager) if self._raw_dir is None else originals.reader(known, self._raw_dir)
        return {name: self._generate_examples(name, originals.decode(known, name, read)) for name in ('train', 'test')}

    def _generate_examples(self, split_name: str, split: Split) -> Iterator[tuple[int, dict]]:
        for index, (image, label) in enumerate(zip(split.images, split.labels, strict=True)):
            # TFDS encodes arrays with TensorFlow, but PIL images with PIL.
            picture = PIL.Image.fromarray(np.ascontiguousarray(image.squeeze()))
            yield index, self._example(f'{split_name}_{index:05d}', picture, int(label))

    def _example(self, identity: str, picture: PIL.Image.Image, label: int) -> dict:
        del identity  # only CIFAR-10 has one
        return {'image': picture, 'label': label}


class _Mnist(_FromOriginals, mnist.MNIST, skip_registration=True):  # type: ignore[call-arg]
    name = 'mnist'


class _FashionMnist(_FromOriginals, mnist.FashionMNIST, skip_registration=True):  # type: ignore[call-arg]
    name = 'fashion_mnist'


class _Cifar10(_FromOriginals, cifar.Cifar10, skip_registration=True):  # type: ignore[call-arg]
    name = 'cifar10'

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict:
        # The official class reads them from a file of the archive that a folder of original files may lack.
        self.info.features['label'].names = list(ORIGINALS[self.name].class_names)
        return super()._split_generators(dl_manager)

    def _example(self, identity: str, picture: PIL.Image.Image, label: int) -> dict:
        return {'id': identity, 'image': picture, 'label': label}


BUILDERS = {builder.name: builder for builder in (_Mnist, _FashionMnist, _Cifar10)}


def prepare(name: str, root: pathlib.Path, raw_dir: str | None) -> None:
    """Prepares a set known by name under `root` from the files in `raw_dir` or, without it, from the network.

    TFDS writes to a folder with another name and renames it at the end: an interrupted preparation leaves no set.

    Raises:
      InputError: the files are not the original ones, cannot be downloaded, or `root` cannot be written.
    """
    config = tfds.download.DownloadConfig(try_download_gcs=False)
    try:
        with _tidy(), _impatient():
            builder = BUILDERS[name](raw_dir=raw_dir, data_dir=root)
            builder.download_and_prepare(download_config=config, file_format='array_record')
    except InputError:
        raise
    except Exception as error:  # requests, TFDS and the file system each have their own
        raise InputError(f'cannot prepare {name} in {root}: {one_line(error)}') from error


def open_named(name: str, root: pathlib.Path) -> pathlib.Path | None:
    """The folder of a prepared set under `root`, by TFDS's 'name', 'name/config', 'name:version' or all three.

    Returns:
      None where TFDS knows the set but it is not prepared.

    Raises:
      InputError: TFDS does not know the set, or cannot open it.
    """
    try:
        with _tidy():
            with contextlib.suppress(tfds.core.DatasetNotFoundError):
                return pathlib.Path(read_only_builder.builder_from_files(name, data_dir=root).data_dir)
            tfds.builder(name, data_dir=root)  # there are no files; does TFDS know the name?
    except tfds.core.DatasetNotFoundError as error:
        also = f'and any image classification set that TFDS has prepared in {root}'
        raise InputError(f'{known("data set", name, NAMES)}, {also}') from error
    except Exception as error:  # an unknown config or version, a damaged folder, a builder that needs TensorFlow
        raise InputError(f'TFDS cannot open {name} in {root}: {one_line(error)}') from error
    return None


def decoded_bytes(folder: pathlib.Path, side: int | None) -> int:
    """What the images of a prepared set take, decoded. Raises InputError as `read` does."""
    with _reading(folder) as builder:
        image, _ = _supervised_keys(builder.info, side)
        height, width, channels = builder.info.features[image].shape
        pixels = side * side if side else height * width
        return sum(split.num_examples for split in builder.info.splits.values()) * pixels * channels


def read(folder: pathlib.Path, side: int | None = None, decoded: bool = True) -> tuple[dict[str, Split], tuple[str, ...]]:
    """The splits 'train' and 'test' of a prepared set in the order of TFDS, and the names of the classes.

    side: of the middle square to which all images are scaled (None: they stay as they are, and must have one size). decoded: whether
    images are wanted; without them they have no pixels.

    The set's own validation split is the test split where it has no test split; otherwise it is not used.

    Raises:
      InputError: the set is damaged, is not an image classification set with images of one size, or has no labels
        or no second split, or was prepared in a format that only TensorFlow reads.
    """
    with _reading(folder) as builder:
        keys = _supervised_keys(builder.info, side)
        splits = {name: _read_split(builder, split, *keys, side, decoded) for name, split in _splits(builder)}
        return splits, tuple(builder.info.features[keys[1]].names)


def images(folder: pathlib.Path, side: int | None) -> dict[str, Streamed]:
    """The images of the splits that `read` gives, decoded when they are asked for. Raises InputError as `read` does."""
    with _reading(folder) as builder:
        key, _ = _supervised_keys(builder.info, side)
        return {name: Streamed(_source(builder, split), key, side) for name, split in _splits(builder)}


def _splits(builder: tfds.core.DatasetBuilder) -> tuple[tuple[str, str], tuple[str, str]]:
    """What is used for training and for tests, and the name that it has in the set."""
    names = builder.info.splits
    test = next((name for name in ('test', 'validation') if name in names), None)
    if test is None or 'train' not in names:
        raise InputError(f'{builder.data_dir} has the splits {", ".join(names)}; train and test are needed')
    return ('train', 'train'), ('test', test)


def _source(builder: tfds.core.DatasetBuilder, split: str, decoders: dict | None = None) -> Any:
    """The records of a split, which are all there."""
    source = builder.as_data_source(split=split, file_format='array_record', decoders=decoders)
    _check_files(builder.info, split, len(source))
    return source


@contextlib.contextmanager
def _reading(folder: pathlib.Path) -> Iterator[tfds.core.DatasetBuilder]:
    """The builder of a prepared set, whose errors become InputErrors."""
    try:
        with _tidy():
            builder = tfds.builder_from_directory(folder)
            yield builder
    except InputError:
        raise
    except NotImplementedError as error:
        raise InputError(
            f'{folder} was prepared as {builder.info.file_format.value}, which needs TensorFlow to be read; '
            f'prepare the set as array_record in another --data_dir'
        ) from error
    except Exception as error:  # array_record, PIL and TFDS each have their own
        raise InputError(f'damaged data in {folder}: {one_line(error)}; remove the folder and prepare again') from error


def one_line(error: Exception) -> str:
    """The error's class and the beginning of its message on one line."""
    return f'{type(error).__name__}: {" ".join(str(error).split())}'[:300]


def _downloaded(known: OriginalSet, dl_manager: tfds.download.DownloadManager) -> originals.Reader:
    # TFDS compares a fresh download with its recorded checksum but trusts a file that it finds in its folder of
    # downloads, so the reader hashes what is read, fresh or not.
    if known.url.endswith('.tar.gz'):
        archive = pathlib.Path(dl_manager.download(known.url))
        folder = pathlib.PurePosixPath(known.folders[0]).name
        return lambda original: originals.read_member(archive, f'{folder}/{original.file}', original)
    paths = dl_manager.download({original.file: known.url + original.file for original in known.files})
    return lambda original: originals.read_file(pathlib.Path(paths[original.file]), original)


def _supervised_keys(info: tfds.core.DatasetInfo, side: int | None) -> tuple[str, str]:
    keys = info.supervised_keys
    kinds = (tfds.features.Image, tfds.features.ClassLabel)
    if not (isinstance(keys, tuple) and len(keys) == 2 and all(
        isinstance(key, str) and isinstance(info.features[key], kind) for key, kind in zip(keys, kinds, strict=True)
    )):  # fmt: skip
        raise InputError(f'{info.full_name} is not an image classification set: its supervised keys are {keys}')
    image = info.features[keys[0]]
    if None in image.shape[:2] and side is None:
        hint = f'give a side to which their middle squares are scaled, as in {info.name}@64'
        raise InputError(f'the images of {info.full_name} have different sizes {image.shape}; one size is needed: {hint}')
    if image.shape[2] is None:
        raise InputError(f'the images of {info.full_name} have different numbers of channels; one is needed')
    if image.np_dtype != np.uint8:
        raise InputError(f'the images of {info.full_name} are {np.dtype(image.np_dtype)}; uint8 is needed')
    return keys


def _read_split(builder: tfds.core.DatasetBuilder, split: str, image_key: str, label_key: str, side: int | None, decoded: bool) -> Split:
    source = _source(builder, split, None if decoded else {image_key: tfds.decode.SkipDecoding()})
    labels = np.empty(len(source), np.int32)
    height, width, channels = builder.info.features[image_key].shape
    images = np.empty((len(source), side or height or 0, side or width or 0, channels if decoded else 0), np.uint8)
    for start in range(0, len(source), READ_BATCH):
        stop = min(start + READ_BATCH, len(source))
        for index, example in enumerate(source.__getitems__(range(start, stop)), start):
            labels[index] = example[label_key]
            if decoded:
                image = example[image_key] if side is None else middle_square(example[image_key], side)
                if image.shape != images.shape[1:]:  # NumPy would stretch some of them
                    raise InputError(f'image {index} of {builder.info.full_name} is {image.shape}, not {images.shape[1:]}')
                images[index] = image
    if len(labels) == 0 or labels.min() < 0:
        raise InputError(f'the {split} split of {builder.info.full_name} has no labels')
    if labels.max() >= len(builder.info.features[label_key].names):
        raise InputError(f'the {split} split of {builder.info.full_name} has the label {labels.max()}, for which there is no class')
    return Split(images, labels)


def _check_files(info: tfds.core.DatasetInfo, split: str, described: int) -> None:
    """Raises InputError unless the files of records lie in the set's folder and hold as many as its description says.

    TFDS goes wherever the description points, and leaves out what is beyond the number.
    """
    files = [os.fspath(path) for path in info.splits[split].filepaths]
    if {os.path.dirname(file) for file in files} != {os.fspath(info.data_dir)}:
        raise InputError(f'{info.data_dir} describes {split} records outside of it; remove the folder and prepare again')
    held = len(array_record_data_source.ArrayRecordDataSource(files))
    if held != described:
        raise InputError(f'{info.data_dir} describes {described} {split} records and holds {held}; remove the folder and prepare again')


@contextlib.contextmanager
def _tidy() -> Iterator[None]:
    """Keeps TFDS's notes off the output; its progress bars are shown on a terminal only."""
    absl = logging.getLogger('absl')
    level = absl.level
    absl.setLevel(logging.ERROR)  # 'OpenCV is not installed', 'has no dataset_info.json', ...
    tfds.display_progress_bar(sys.stderr.isatty())
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        absl.setLevel(level)
        tfds.display_progress_bar(True)


@contextlib.contextmanager
def _impatient() -> Iterator[None]:
    """Makes TFDS's downloader give up soon: by itself it waits for ever for an answer and tries ten times."""
    open_url, retries = downloader._open_url, downloader.MAX_RETRIES
    downloader._open_url = lambda url, **kwargs: open_url(url, timeout=DOWNLOAD_TIMEOUT, **kwargs)
    downloader.MAX_RETRIES = DOWNLOAD_RETRIES
    try:
        yield
    finally:
        downloader._open_url, downloader.MAX_RETRIES = open_url, retries
