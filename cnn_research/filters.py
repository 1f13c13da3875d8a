"""Filters that people made, by name, and filters that are typed (imports no jax)."""

import numpy as np

from cnn_research import errors

LARGEST = 31  # rows or columns of a typed filter
MOST = 1_000_000  # magnitude of its numbers

# Rows from top to bottom. Cross-correlated, as a convolution layer does it: a bright left and a dark right answer `vertical` with a
# positive number.
NAMED: dict[str, tuple[tuple[float, ...], ...]] = {
    'vertical': ((1, 0, -1), (1, 0, -1), (1, 0, -1)),
    'horizontal': ((1, 1, 1), (0, 0, 0), (-1, -1, -1)),
    'diagonal': ((0, 1, 1), (-1, 0, 1), (-1, -1, 0)),
    'sobel_vertical': ((1, 0, -1), (2, 0, -2), (1, 0, -1)),  # Sobel and Feldman 1968
    'sobel_horizontal': ((1, 2, 1), (0, 0, 0), (-1, -2, -1)),
    'prewitt_vertical': ((1, 0, -1), (1, 0, -1), (1, 0, -1)),  # Prewitt 1970: the same numbers as `vertical`
    'prewitt_horizontal': ((1, 1, 1), (0, 0, 0), (-1, -1, -1)),
    'laplacian': ((0, 1, 0), (1, -4, 1), (0, 1, 0)),
    'blur': ((1 / 9, 1 / 9, 1 / 9),) * 3,
}


def parse(text: str) -> np.ndarray:
    """A filter float32 [kh, kw] by name, or from rows separated by semicolons and numbers by commas: '1,0,-1; 2,0,-2; 1,0,-1'.

    Raises:
      InputError: neither a known name nor such numbers, rows of different length, more than `LARGEST` of them.
    """
    if text in NAMED:
        return np.asarray(NAMED[text], np.float32)
    if ',' not in text and ';' not in text:
        raise errors.known('filter', text, [*NAMED, "or numbers such as '1,0,-1; 1,0,-1; 1,0,-1'"])
    try:
        rows = [[float(number) for number in row.split(',')] for row in text.split(';')]
    except ValueError:
        raise errors.InputError(f'a filter is numbers with commas between them and semicolons between rows, got {text!r}') from None
    sizes = {len(row) for row in rows}
    if len(sizes) > 1 or max(len(rows), *sizes) > LARGEST:
        raise errors.InputError(f'the rows of a filter are equally long, and at most {LARGEST} by {LARGEST}; got {text!r}')
    if not all(abs(number) <= MOST for row in rows for number in row):
        raise errors.InputError(f'the numbers of a filter are finite and at most {MOST:,}, got {text!r}')
    return np.asarray(rows, np.float32)
