"""A picture of the user's own, from a PNG or JPEG file, checked before it is decoded."""

import os
import warnings

import numpy as np

from cnn_research import errors

FORMATS = ('PNG', 'JPEG')
MOST_PIXELS = 50_000_000
_ORIENTATION = 0x0112  # of EXIF


def load(path: str | os.PathLike[str]) -> np.ndarray:
    """The picture as uint8 [H, W, 1] if it is grey, else RGB [H, W, 3], upright as its camera meant it.

    16 bits of grey become 8; what is transparent is laid on white, but for 16 bits.

    Raises:
      InputError: no such file, no PNG or JPEG, an animation, more than `MOST_PIXELS`, or a damaged file.
    """
    from PIL import Image  # only who looks at pictures needs it

    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', Image.DecompressionBombWarning)  # refused below, by our own measure
            with open(path, 'rb') as file, Image.open(file, formats=FORMATS) as picture:
                width, height = picture.size
                if width * height > MOST_PIXELS:
                    raise errors.InputError(f'{path} has {width} x {height} pixels, more than {MOST_PIXELS:,}: make it smaller first')
                if picture.format == 'PNG' and getattr(picture, 'n_frames', 1) > 1:  # a camera's JPEG may hold a small copy besides
                    raise errors.InputError(f'{path} is an animation: give one picture')
                picture.verify()  # the checksums of a PNG, most of which decoding skips; a JPEG has none
                file.seek(0)
                with Image.open(file, formats=FORMATS) as verified:
                    return _upright(_eight_bits(verified), verified.getexif().get(_ORIENTATION, 1))
    except Image.UnidentifiedImageError:
        raise errors.InputError(f'{path} is neither a PNG nor a JPEG picture') from None
    except Image.DecompressionBombError:
        raise errors.InputError(f'{path} has more than {MOST_PIXELS:,} pixels: make it smaller first') from None
    except errors.InputError:
        raise
    except Exception as e:  # decoders meet damage in many ways
        reason = e.strerror if isinstance(e, OSError) and e.strerror else 'it is damaged'
        raise errors.InputError(f'cannot read the picture {path}: {reason}') from None


def _upright(image: np.ndarray, orientation: int) -> np.ndarray:
    """An image turned and mirrored as the EXIF orientation 1 to 8 says; others mean nothing."""
    if orientation in (5, 6, 7, 8):
        image = image.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return np.ascontiguousarray(image)


def _eight_bits(picture) -> np.ndarray:
    """A PIL picture of any mode as uint8 grey or RGB."""
    from PIL import Image

    if picture.mode.startswith('I'):  # 16 bits, grey
        return (np.asarray(picture).astype(np.uint32) // 257).astype(np.uint8)[..., None]
    if picture.mode in ('1', 'L') and not picture.has_transparency_data:
        return np.asarray(picture.convert('L'))[..., None]
    if picture.has_transparency_data:
        picture = picture.convert('RGBA')
        picture = Image.alpha_composite(Image.new('RGBA', picture.size, 'white'), picture)
    return np.asarray(picture.convert('RGB'))


def grey(image: np.ndarray) -> np.ndarray:
    """An image uint8 [H, W, 1 or 3] as its luma uint8 [H, W, 1] (ITU-R BT.601)."""
    if image.shape[2] == 1:
        return image
    return np.rint(image @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)[..., None]
