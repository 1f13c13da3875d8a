"""From a set's name to its folder of TFDS records, which is prepared first where that is possible, to a Dataset."""

import contextlib
import fcntl
import functools
import os
import pathlib
import re
from collections.abc import Iterator

import numpy as np

from cnn_research import cost
from cnn_research.data import cache, network, originals
from cnn_research.data.dataset import Dataset, Split, assemble, cut_validation
from cnn_research.data.pins import NAMES, ORIGINALS
from cnn_research.data.streamed import middle_square
from cnn_research.errors import InputError, known

TFDS_NAME = re.compile(r'[A-Za-z0-9_]+(/[A-Za-z0-9_][A-Za-z0-9_.\-]*)?(:[0-9.]+)?(@[1-9][0-9]{0,3})?')
_SHARE = 0.1  # of the memory of this machine that decoded images may take; larger sets are decoded as they are read


def load(name: str, data_dir: str | None, raw_dir: str | None) -> Dataset:
    """The Dataset of a TFDS name; see `cnn_research.data.load`."""
    if not TFDS_NAME.fullmatch(name) or '..' in name:
        raise InputError(f'{known("data set", name, NAMES)}, or a prepared TFDS set as name, name/config or name:1.0.0')
    root, (own, _, at) = data_root(data_dir), name.partition('@')
    side = int(at) if at else None
    try:
        prepared = prepare(own, root, raw_dir) if own in ORIGINALS else find(own, root, raw_dir)
        # The originals are small; to ask for the size of a set is to import all of TFDS.
        if (side or own not in ORIGINALS) and _is_large(prepared, side):
            if own in ORIGINALS:
                raise InputError(f'{name} takes more than a tenth of the memory that is here: choose a smaller side')
            splits, class_names = _opened(root, prepared, side)
        else:
            splits, class_names = cache.fetch(root, prepared, functools.partial(read_verified, prepared, side), at)
    except OSError as error:  # a folder that may not be read, a disk that fails
        raise InputError(f'cannot read {name} in {root}: {error}; check --data_dir') from error
    return assemble(name, *cut_validation(name, splits['train']), splits['test'], class_names)


def data_root(data_dir: str | None) -> pathlib.Path:
    """The folder of all prepared sets; without `data_dir` it is the one that TFDS uses by itself."""
    chosen = data_dir or os.environ.get('TFDS_DATA_DIR') or '~/tensorflow_datasets'
    if '://' in chosen:
        raise InputError(f'the data directory {chosen} is no local folder; pass a local folder as --data_dir')
    return pathlib.Path(os.path.expanduser(chosen)).absolute()  # never raises, unlike Path.expanduser


def prepare(name: str, root: pathlib.Path, raw_dir: str | None) -> pathlib.Path:
    """The folder of a set known by name under `root`, prepared from `raw_dir` or the network if it is not yet.

    Raises:
      InputError: the original files are bad, even where the set is prepared already; or there is neither a prepared
        set nor a way to get it.
    """
    original = ORIGINALS[name]
    folder = root / name / original.version
    if raw_dir is not None:
        originals.verify(original, raw_dir)
    if is_prepared(folder):
        return folder
    if raw_dir is None and not network.answers(original.url):
        raise InputError(
            f'{name} is not prepared in {root} and {original.url} does not answer: pass --raw_dir with the original '
            f'files, or run `python -m cnn_research.data {name}` on a machine with network and pass its --data_dir'
        )
    with lock(root, name):
        if not is_prepared(folder):  # another process may have prepared it meanwhile
            from cnn_research.data import builders

            builders.prepare(name, root, raw_dir)
    return folder


def find(name: str, root: pathlib.Path, raw_dir: str | None) -> pathlib.Path:
    """The folder of any other set that TFDS has prepared under `root`. Nothing is downloaded.

    Raises:
      InputError: TFDS does not know the set, or it is not prepared, or there is a `raw_dir`, which would not be read.
    """
    if raw_dir is not None:
        raise InputError(f'--raw_dir serves {", ".join(ORIGINALS)} only; prepare {name} with `tfds build {name}`')
    from cnn_research.data import builders

    folder = builders.open_named(name, root)
    if folder is None:
        raise InputError(f'{name} is not prepared in {root}: run `tfds build {name} --file_format=array_record --data_dir={root}`')
    return folder


def is_prepared(folder: pathlib.Path) -> bool:
    """Whether this is the folder of a prepared set, which TFDS puts in its place when it is complete.

    Raises:
      InputError: the folder is there without its description, so it was copied or removed in part.
    """
    if (folder / 'dataset_info.json').is_file():
        return True
    if folder.exists():
        raise InputError(f'{folder} is incomplete (it has no dataset_info.json); remove it and try again')
    return False


def _is_large(prepared: pathlib.Path, side: int | None) -> bool:
    from cnn_research.data import builders

    return builders.decoded_bytes(prepared, side) > _SHARE * cost.memory()


def _opened(root: pathlib.Path, prepared: pathlib.Path, side: int | None) -> cache.Content:
    """A set whose images are decoded as they are read. Labels are read once: that takes all records."""
    from cnn_research.data import builders

    labels = functools.partial(builders.read, prepared, side, decoded=False)
    splits, class_names = cache.fetch(root, prepared, labels, 'labels', cache.glance(prepared))
    images = builders.images(prepared, side)
    return {name: Split(images[name], split.labels) for name, split in splits.items()}, class_names


def read_verified(prepared: pathlib.Path, side: int | None = None) -> cache.Content:
    """The decoded splits and the class names of a prepared set; one of `ORIGINALS` is compared with its original files.

    side: of the middle square to which all images are scaled afterwards (None: they stay as they are).

    The folder tells which it is, not the name that it was asked for by: mnist and mnist:3.0.1 share a cache.

    Raises:
      InputError: the records are damaged, or are not the original images and labels.
    """
    from cnn_research.data import builders

    known = next((each for each in ORIGINALS.values() if prepared.parts[-2:] == (each.name, each.version)), None)
    if known is None:
        return builders.read(prepared, side)
    splits, class_names = builders.read(prepared)
    for split in splits:
        differing = originals.verify_records(known, split, splits[split])
        if differing is not None:
            raise InputError(
                f'{prepared} does not hold the original data (its {split} records do not reproduce {differing}); '
                f'remove the folder and prepare it again'
            )
    if class_names != known.class_names:
        raise InputError(f'{prepared} names other classes than {known.name} has; remove the folder and prepare it again')
    if side is not None:
        splits = {name: Split(np.stack([middle_square(image, side) for image in s.images]), s.labels) for name, s in splits.items()}
    return splits, class_names


@contextlib.contextmanager
def lock(root: pathlib.Path, name: str) -> Iterator[None]:
    """Lets one process at a time prepare a set under `root`; the others wait.

    Raises:
      InputError: `root` cannot be written.
    """
    path = root / cache.FOLDER / f'{name}.lock'
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open('a')
    except OSError as error:
        raise InputError(f'cannot write in {root}: {error.strerror}; pass another --data_dir') from error
    with file:  # closing it releases the lock
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
