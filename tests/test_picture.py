"""Pictures of the user's own: every kind that is read, and every kind that is refused in one line."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from cnn_research import errors
from cnn_research.data import picture

GREY = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
COLOUR = np.random.default_rng(0).integers(0, 256, (3, 4, 3), np.uint8)


def saved(path, array, kind='PNG', **fields):
    """A file with these pixels."""
    image = array if isinstance(array, Image.Image) else Image.fromarray(array)
    image.save(path, kind, **fields)
    return path


def test_grey_and_colour_come_back_as_they_are(tmp_path):
    grey, colour = picture.load(saved(tmp_path / 'g', GREY)), picture.load(saved(tmp_path / 'c', COLOUR))
    assert grey.shape == (3, 4, 1) and grey.dtype == colour.dtype == np.uint8
    np.testing.assert_array_equal(grey[..., 0], GREY)
    np.testing.assert_array_equal(colour, COLOUR)
    near = picture.load(saved(tmp_path / 'j', np.full((8, 8, 3), 90, np.uint8), 'JPEG'))
    assert np.abs(near.astype(int) - 90).max() <= 2


def test_sixteen_bits_one_bit_and_palettes_are_read(tmp_path):
    sixteen = picture.load(saved(tmp_path / 's', GREY.astype(np.uint16) * 257))
    np.testing.assert_array_equal(sixteen[..., 0], GREY)
    bits = picture.load(saved(tmp_path / 'b', Image.fromarray(GREY > 100)))
    np.testing.assert_array_equal(bits[..., 0], np.where(GREY > 100, 255, 0))
    palette = Image.fromarray(COLOUR).quantize(12)
    np.testing.assert_array_equal(picture.load(saved(tmp_path / 'p', palette)), np.asarray(palette.convert('RGB')))


@pytest.mark.parametrize('mode', ['RGBA', 'LA'])
def test_what_is_transparent_is_laid_on_white(tmp_path, mode):
    alpha = np.array([[0, 255, 128, 0]] * 3, np.uint8)
    image = Image.fromarray(COLOUR if mode == 'RGBA' else GREY).convert(mode)
    image.putalpha(Image.fromarray(alpha))
    read, solid = picture.load(saved(tmp_path / 'a', image)), np.asarray(image.convert('RGB')).astype(int)
    assert read.shape == (3, 4, 3)
    np.testing.assert_array_equal(read[:, 0], 255)
    np.testing.assert_array_equal(read[:, 1], solid[:, 1])
    assert np.abs(read[:, 2] - (solid[:, 2] + 255) / 2).max() <= 1.5


@pytest.mark.parametrize('orientation', range(1, 10))
def test_a_camera_that_was_turned_is_turned_back(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    array = np.zeros((16, 32, 3), np.uint8)
    array[:8, :16], array[8:, :16] = 255, 120
    path = saved(tmp_path / 'e', array, 'JPEG', exif=exif, quality=95)
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    np.testing.assert_array_equal(picture.load(path), expected)


def test_a_camera_that_adds_a_small_copy_is_no_animation(tmp_path):
    path = tmp_path / 'm.jpg'
    Image.fromarray(COLOUR).save(path, 'MPO', save_all=True, append_images=[Image.fromarray(COLOUR[:2, :2])])
    with Image.open(path) as image:
        assert image.n_frames == 2
    assert picture.load(path).shape == (3, 4, 3)


def test_a_grey_that_stands_for_nothing_is_white(tmp_path):
    read = picture.load(saved(tmp_path / 't', GREY, transparency=int(GREY[1, 1])))
    assert read.shape == (3, 4, 3) and read[1, 1].tolist() == [255] * 3 and read[0, 0].tolist() == [0] * 3


def header(width, height):
    """A PNG that claims a size and holds no pixel."""

    def chunk(kind, content):
        return struct.pack('>I', len(content)) + kind + content + struct.pack('>I', zlib.crc32(kind + content))

    head = chunk(b'IHDR', struct.pack('>IIBBBBB', width, height, 8, 0, 0, 0, 0))
    return b'\x89PNG\r\n\x1a\n' + head + chunk(b'IDAT', zlib.compress(b'')) + chunk(b'IEND', b'')


def animated():
    data = io.BytesIO()
    frames = [Image.fromarray(GREY), Image.fromarray(255 - GREY)]
    frames[0].save(data, 'PNG', save_all=True, append_images=frames[1:])
    return data.getvalue()


def gif():
    data = io.BytesIO()
    Image.fromarray(GREY).save(data, 'GIF')
    return data.getvalue()


def truncated():
    data = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(data, 'PNG')
    return data.getvalue()[:2000]


@pytest.mark.parametrize(('content', 'words'), [
    (b'a text', 'neither a PNG nor a JPEG'), (b'', 'neither a PNG nor a JPEG'), (gif(), 'neither a PNG nor a JPEG'),
    (animated(), 'is an animation'), (truncated(), 'cannot read the picture'), (header(12_000, 9_000), 'make it smaller first'),
    (header(60_000, 60_000), 'make it smaller first'), (header(4, 3), 'cannot read the picture'),
], ids=['text', 'empty', 'gif', 'animated', 'truncated', '108 megapixels', '3.6 gigapixels', 'no pixels'])  # fmt: skip
def test_what_cannot_be_looked_at_is_refused_in_one_line(tmp_path, content, words):
    path = tmp_path / 'file'
    path.write_bytes(content)
    with pytest.raises(errors.InputError, match=words) as e:
        picture.load(path)
    assert '\n' not in str(e.value)


def test_every_flipped_bit_of_a_png_is_noticed_or_changes_nothing(tmp_path):
    path = saved(tmp_path / 'p', np.tile(np.arange(0, 120, 3, dtype=np.uint8)[:, None], (1, 40)))
    content, expected = path.read_bytes(), picture.load(path)
    noticed = 0
    for bit in range(8 * len(content)):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            np.testing.assert_array_equal(picture.load(path), expected)
        except errors.InputError:
            noticed += 1
    assert noticed > 0.85 * 8 * len(content)


def test_no_file_and_a_folder_are_refused(tmp_path):
    for path in (tmp_path / 'none.png', tmp_path):
        with pytest.raises(errors.InputError, match='cannot read the picture'):
            picture.load(path)


def test_grey_is_the_luma():
    colours = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]], np.uint8)
    assert picture.grey(colours)[0, :, 0].tolist() == [76, 150, 29, 255]
    assert picture.grey(GREY[..., None]) is not None and picture.grey(GREY[..., None]).shape == (3, 4, 1)
