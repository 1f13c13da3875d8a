"""Prepares and verifies a data set: `python -m cnn_research.data NAME [--data_dir=DIR] [--raw_dir=DIR]`."""

import argparse
import sys
from collections.abc import Sequence

import numpy as np

from cnn_research import data
from cnn_research.data import sources
from cnn_research.errors import InputError


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, without the usage."""

    def error(self, message: str):
        raise InputError(f'{message}; see --help')


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; the exit status is 0, or 2 for bad input."""
    try:
        flags = _parser().parse_args(argv)
        dataset = data.load(flags.name, data_dir=flags.data_dir, raw_dir=flags.raw_dir)
        place = f'prepared in {sources.data_root(flags.data_dir)}, verified'
        if data.is_within(flags.name):
            place = 'embedded' if flags.name.startswith('digits') else 'generated'
    except InputError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    print(summary(dataset, place))
    return 0


def summary(dataset: data.Dataset, place: str) -> str:
    """What the set is and holds: a line for its place, its size, its hash and every class."""
    splits = {
        'train': dataset.train_labels,
        'validation': dataset.validation_labels,
        'test': dataset.test_labels,
    }
    if dataset.unseen_labels is not None:
        splits['unseen'] = dataset.unseen_labels
    height, width, channels = dataset.train_images.shape[1:]
    counts = np.stack([np.bincount(labels, minlength=len(dataset.class_names)) for labels in splits.values()], axis=1)
    rows = [
        ('class', *splits),
        *((name, *map(str, row)) for name, row in zip(dataset.class_names, counts, strict=True)),
    ]
    return '\n'.join(
        [
            f'{dataset.name}: {place}',
            f'images: {height} x {width} x {channels}, ' + ', '.join(f'{len(v)} {k}' for k, v in splits.items()),
            f'SHA-256: {dataset.sha256()[:16]}',
            *(f'{row[0]:<16}' + ''.join(f'{cell:>12}' for cell in row[1:]) for row in rows),
        ]
    )


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog='python -m cnn_research.data', description='Prepares and verifies a data set.', allow_abbrev=False)
    parser.add_argument('name', help=f'{", ".join(data.names())}, or the name of another prepared TFDS set')
    parser.add_argument('--data_dir', help='folder of prepared TFDS sets (default: the one of TFDS)')
    parser.add_argument('--raw_dir', help='folder of original files, read instead of the network')
    return parser


if __name__ == '__main__':
    sys.exit(main())
