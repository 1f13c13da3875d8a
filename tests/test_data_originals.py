"""Every kind of damage to the original files is noticed, and the message names the file. No TFDS is involved."""

import gzip
import hashlib
import io
import tarfile
import tracemalloc

import numpy as np
import pytest
from test_data_formats import small_set

from cnn_research import data
from cnn_research.data import originals
from cnn_research.data.pins import ORIGINALS, Original
from cnn_research.errors import InputError

NAMES = tuple(ORIGINALS)


@pytest.fixture
def raw(tmp_path, monkeypatch):
    """A folder with small original files of all sets, which take the place of the known ones."""
    for name in NAMES:
        monkeypatch.setitem(ORIGINALS, name, small_set(name, tmp_path))
    return tmp_path


def refused(name, raw):
    """The message with which the original files are refused: one line."""
    with pytest.raises(InputError) as caught:
        data.load(name, data_dir=str(raw / 'data'), raw_dir=str(raw))
    assert not (raw / 'data').exists()
    message = str(caught.value)
    assert '\n' not in message
    return message


def path_of(name, raw, number=0):
    known = ORIGINALS[name]
    return raw / known.folders[0] / known.files[number].file


def change(path, edit):
    """Edits the content of a file, which stays compressed where it is."""
    opener = gzip.open if path.suffix == '.gz' else open
    with opener(path, 'rb') as file:
        content = bytearray(file.read())
    content = edit(content) or content
    with opener(path, 'wb') as file:
        file.write(content)


@pytest.mark.parametrize('name', NAMES)
def test_undamaged_files_are_accepted_in_every_layout(name, raw):
    known = ORIGINALS[name]
    originals.verify(known, str(raw))
    for folder in known.folders[1:]:
        (raw / known.folders[0]).rename(raw / folder)
        originals.verify(known, str(raw))


def test_compression_does_not_matter(raw):
    path = path_of('mnist', raw)
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()), compresslevel=1, mtime=7))
    originals.verify(ORIGINALS['mnist'], str(raw))


@pytest.mark.parametrize('name, number', [(name, i) for name in NAMES for i in range(len(ORIGINALS[name].files))])
def test_every_file_is_checked(name, number, raw):
    path = path_of(name, raw, number)

    def flip_last_bit(content):
        content[-1] ^= 1

    change(path, flip_last_bit)
    message = refused(name, raw)
    assert f'wrong content in original file {path}: found SHA-256' in message and 'fetch it again' in message
    path.unlink()
    assert f'original file missing: {path}' in refused(name, raw)


@pytest.mark.parametrize('name', NAMES)
def test_missing_folder(name, raw):
    (raw / ORIGINALS[name].folders[0]).rename(raw / 'elsewhere')
    message = refused(name, raw)
    assert all(str(raw / folder) in message for folder in ORIGINALS[name].folders) and '--raw_dir' in message


@pytest.mark.parametrize('name', NAMES)
def test_content_that_is_too_short_or_too_long(name, raw):
    path = path_of(name, raw)
    size = ORIGINALS[name].files[0].size
    change(path, lambda content: content[:-3])
    assert f'{path}: found {size - 3} bytes' in refused(name, raw)
    change(path, lambda content: content + b'1234')
    assert f'{path}: found more than {size} bytes' in refused(name, raw)


@pytest.mark.parametrize('keep', [0, 1, 30, -9, -1])
def test_truncated_gzip_file(keep, raw):
    path = path_of('fashion_mnist', raw)
    path.write_bytes(path.read_bytes()[:keep])
    assert str(path) in refused('fashion_mnist', raw)


@pytest.mark.parametrize('content', [b'no gzip at all', b'<html>404</html>' * 99])
def test_no_gzip_file(content, raw):
    path = path_of('mnist', raw, 1)
    path.write_bytes(content)
    assert f'cannot read original file {path}: Not a gzipped file' in refused('mnist', raw)


def test_damaged_compressed_data(raw):
    path = path_of('mnist', raw)
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 64] = bytes(64)
    path.write_bytes(content)
    assert str(path) in refused('mnist', raw)


@pytest.mark.parametrize('name, first, second', [('mnist', 0, 2), ('mnist', 1, 3), ('cifar10', 0, 5), ('cifar10', 1, 2)])
def test_swapped_files_are_recognised(name, first, second, raw):
    one, other = path_of(name, raw, first), path_of(name, raw, second)
    one_content, other_content = one.read_bytes(), other.read_bytes()
    one.write_bytes(other_content)
    other.write_bytes(one_content)
    message = refused(name, raw)
    assert str(one) in message
    if ORIGINALS[name].files[first].size >= ORIGINALS[name].files[second].size:
        assert f'found the content of {other.name} of {name}' in message
    else:
        assert 'found more than' in message


def test_images_in_place_of_labels(raw):
    path_of('mnist', raw, 1).write_bytes(path_of('mnist', raw, 0).read_bytes())
    message = refused('mnist', raw)
    assert str(path_of('mnist', raw, 1)) in message and 'IDX file of 100 images of 28 x 28' in message


def test_files_of_another_set(raw):
    path_of('mnist', raw).write_bytes(path_of('fashion_mnist', raw).read_bytes())
    message = refused('mnist', raw)
    assert str(path_of('mnist', raw)) in message and f'{path_of("mnist", raw).name} of fashion_mnist' in message


def test_a_folder_in_place_of_a_file(raw):
    path = path_of('cifar10', raw)
    path.unlink()
    path.mkdir()
    assert f'original file missing: {path}' in refused('cifar10', raw)


def test_decompression_bomb_is_not_unpacked(raw):
    path = path_of('mnist', raw, 1)
    with gzip.open(path, 'wb', compresslevel=1) as file:
        for _ in range(64):
            file.write(bytes(1 << 20))
    tracemalloc.start()
    message = refused('mnist', raw)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert f'{path}: found more than {ORIGINALS["mnist"].files[1].size} bytes' in message
    assert peak < 2 << 20


def archive_of(members, path):
    """Writes a .tar.gz archive of (TarInfo, content) pairs."""
    with tarfile.open(path, 'w:gz') as tar:
        for info, content in members:
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def test_archive_members_are_read_without_unpacking(tmp_path):
    content = b'some rows'
    original = Original('a.bin', 'train', len(content), hashlib.sha256(content).hexdigest())
    members = [(tarfile.TarInfo('../../evil.bin'), b'outside'), (tarfile.TarInfo('rows/a.bin'), content)]
    archive = archive_of(members, tmp_path / 'archive.tar.gz')
    assert originals.read_member(archive, 'rows/a.bin', original) == content
    assert list(tmp_path.iterdir()) == [archive]


def test_bad_archives_are_refused(tmp_path):
    original = Original('a.bin', 'train', 9, hashlib.sha256(b'some rows').hexdigest())
    link = tarfile.TarInfo('rows/a.bin')
    link.type, link.linkname = tarfile.SYMTYPE, '/etc/passwd'
    archive = archive_of([(link, b'')], tmp_path / 'archive.tar.gz')
    with pytest.raises(InputError, match='rows/a.bin in .*archive.tar.gz: found 0 bytes'):
        originals.read_member(archive, 'rows/a.bin', original)
    archive_of([(tarfile.TarInfo('rows/a.bin'), b'other row')], archive)
    with pytest.raises(InputError, match='rows/a.bin in .*archive.tar.gz: found SHA-256'):
        originals.read_member(archive, 'rows/a.bin', original)
    archive.write_bytes(archive.read_bytes()[:40])
    with pytest.raises(InputError, match='cannot read rows/a.bin in .*archive.tar.gz.*remove the archive'):
        originals.read_member(archive, 'rows/a.bin', original)


@pytest.mark.parametrize(
    'claims', [{'GNU.sparse.map': 'abc'}, {'GNU.sparse.size': 'x'}, {'GNU.sparse.major': '1', 'GNU.sparse.minor': '0'}]
)
def test_headers_that_tarfile_stumbles_over_are_refused(claims, tmp_path):
    info = tarfile.TarInfo('rows/a.bin')
    info.pax_headers = claims
    archive = archive_of([(info, b'some rows')], tmp_path / 'archive.tar.gz')
    with pytest.raises(InputError, match='cannot read rows/a.bin in .*archive.tar.gz.*remove the archive'):
        originals.read_member(archive, 'rows/a.bin', Original('a.bin', 'train', 9, hashlib.sha256(b'some rows').hexdigest()))


@pytest.mark.parametrize('kind', [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.REGTYPE])
def test_archive_bomb_is_not_unpacked(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(originals, 'LARGEST_ARCHIVE', 1 << 20)
    bomb = tarfile.TarInfo('bomb')
    bomb.type = kind
    archive = archive_of([(bomb, bytes(64 << 20)), (tarfile.TarInfo('rows/a.bin'), b'some rows')], tmp_path / 'archive.tar.gz')
    tracemalloc.start()
    with pytest.raises(InputError, match='cannot read rows/a.bin in .*: it holds more than 1048576 bytes'):
        originals.read_member(archive, 'rows/a.bin', Original('a.bin', 'train', 9, hashlib.sha256(b'some rows').hexdigest()))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20


def test_records_are_compared_with_the_originals(raw):
    known = ORIGINALS['cifar10']
    split = originals.decode(known, 'train', originals.reader(known, str(raw)))
    records = split.take(originals.record_order('train', 100))
    assert originals.verify_records(known, 'train', records) is None
    assert originals.verify_records(known, 'train', split) == 'data_batch_1.bin'
    records.labels[np.argsort(originals.record_order('train', 100))[70]] += 1
    assert originals.verify_records(known, 'train', records) == 'data_batch_4.bin'
    assert originals.verify_records(known, 'train', records.take(np.arange(50))) is not None


def test_pins_are_distinct_and_complete():
    pins = [original.sha256 for known in ORIGINALS.values() for original in known.files]
    assert len(pins) == len(set(pins)) == 14 and all(len(pin) == 64 for pin in pins)
    sizes = [sum(original.size for original in known.files) for known in ORIGINALS.values()]
    assert sizes == [54_950_048, 54_950_048, 184_380_000]
