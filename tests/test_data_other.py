"""Sets of others that TFDS has prepared: which ones work, and what is said about the ones that do not."""

import json
import shutil

import numpy as np
import PIL.Image
import pytest
import tensorflow_datasets as tfds

from cnn_research import config, data, sweep, trainings
from cnn_research.data import cache, sources
from cnn_research.data.streamed import Streamed
from cnn_research.errors import InputError

SHAPE = (6, 4, 3)


class Pictures(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Twenty training pictures, whose pixels are all the index, and four of each other split."""

    name = 'pictures'
    VERSION = tfds.core.Version('1.0.0')
    FEATURES = {'image': tfds.features.Image(shape=SHAPE), 'label': tfds.features.ClassLabel(names=['cat', 'dog'])}
    KEYS = ('image', 'label')
    COUNTS = {'train': 20, 'test': 4}
    LABEL = staticmethod(lambda index: index % 2)
    PICTURE = SHAPE

    def _info(self):
        features = tfds.features.FeaturesDict(self.FEATURES)
        return tfds.core.DatasetInfo(builder=self, features=features, supervised_keys=self.KEYS)

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(count) for split, count in self.COUNTS.items()}

    def _generate_examples(self, count):
        for index in range(count):
            shape = self.PICTURE(index) if callable(self.PICTURE) else self.PICTURE
            picture = PIL.Image.fromarray(np.full(shape, index, np.uint8))
            yield index, {'image': picture, 'label': self.LABEL(index)}


@pytest.fixture
def load(tmp_path):
    """A function that prepares pictures with some attributes changed, and loads them by name."""

    def prepare_and_load(name='pictures', **attributes):
        builder = type('Pictures', (Pictures,), {'name': 'pictures', **attributes}, skip_registration=True)
        builder(data_dir=tmp_path, file_format='array_record').download_and_prepare()
        return data.load(name, data_dir=str(tmp_path))

    return prepare_and_load


@pytest.mark.parametrize('name', ['pictures', 'pictures:1.0.0'])
def test_a_set_without_code_works_by_its_name(name, load):
    dataset = load(name)
    assert (dataset.name, dataset.class_names) == (name, ('cat', 'dog'))
    assert dataset.train_images.shape == (18, *SHAPE) and dataset.validation_images.shape == (2, *SHAPE)
    used = np.concatenate([dataset.train_images, dataset.validation_images])[:, 0, 0, 0]
    assert sorted(used) == list(range(20))
    np.testing.assert_array_equal(dataset.test_labels, dataset.test_images[:, 0, 0, 0] % 2)


def test_validation_split_serves_where_there_is_no_test_split(load):
    assert len(load(COUNTS={'train': 20, 'validation': 6}).test_labels) == 6


def test_test_split_goes_before_a_validation_split(load):
    assert len(load(COUNTS={'train': 20, 'validation': 6, 'test': 4}).test_labels) == 4


OF_MANY_SIZES = {
    'FEATURES': Pictures.FEATURES | {'image': tfds.features.Image(shape=(None, None, 3))},
    'PICTURE': staticmethod(lambda index: (6 + index % 3, 9 - index % 5, 3)),
}


@pytest.mark.parametrize('large', [False, True])
def test_pictures_of_many_sizes_are_brought_to_one(large, load, tmp_path, monkeypatch):
    monkeypatch.setattr(sources, '_SHARE', 0 if large else 1)
    dataset = load('pictures@4', **OF_MANY_SIZES)
    assert dataset.name == 'pictures@4' and isinstance(dataset.train_images, Streamed) == large
    for images, labels, number in ((dataset.train_images, dataset.train_labels, 18), (dataset.test_images, dataset.test_labels, 4)):
        assert images.shape == (number, 4, 4, 3) and images.dtype == np.uint8
        np.testing.assert_array_equal(images[:] % 2, np.broadcast_to(labels[:, None, None, None], images.shape))
        assert all(len(np.unique(image)) == 1 for image in images[:])
    assert (tmp_path / cache.FOLDER / 'pictures/1.0.0' / ('labels' if large else '4') / cache.INDEX).exists()
    assert data.load('pictures@2', data_dir=str(tmp_path)).test_images.shape == (4, 2, 2, 3)


def test_one_size_at_another_is_kept_apart(load, tmp_path):
    whole, small = load().test_images, data.load('pictures@2', data_dir=str(tmp_path)).test_images
    again = [data.load(name, data_dir=str(tmp_path)).test_images for name in ('pictures', 'pictures@2')]
    assert whole.shape == (4, *SHAPE) and small.shape == (4, 2, 2, 3)
    np.testing.assert_array_equal(again[0], whole)
    np.testing.assert_array_equal(again[1], small)


@pytest.mark.slow
def test_a_set_that_memory_does_not_hold_trains_to_the_same_bits(load, tmp_path, monkeypatch):
    held = load()
    monkeypatch.setattr(sources, '_SHARE', 0)
    brought, again = (data.load('pictures', data_dir=str(tmp_path)) for _ in range(2))
    assert held.sha256() == brought.sha256() == again.sha256()
    assert isinstance(brought.train_images, Streamed) and isinstance(held.train_images, np.ndarray)
    np.testing.assert_array_equal(brought.train_images[:], held.train_images)
    model = config.ModelConfig((2, 3), (3, 1), (1, 1), (2, 1), ('shared', 'dense'))
    c = config.Config(model, config.DataConfig('pictures'), config.TrainConfig(epochs=3, batch_size=5))
    cell = sweep.Cell('conv', 0, c, 1)
    (row, _, params), (its_row, _, its_params) = (trainings.run_cell('e', cell, dataset) for dataset in (held, brought))
    assert row['status'] == its_row['status'] == 'ok'
    assert {**row, 'seconds': 0} == {**its_row, 'seconds': 0} and params.keys() == its_params.keys()
    assert all(np.array_equal(params[name], its_params[name]) for name in params)


@pytest.mark.parametrize(
    'message, attributes',
    [
        ('has the splits train; train and test are needed', {'COUNTS': {'train': 20}}),
        ('has the splits test; train and test are needed', {'COUNTS': {'test': 20}}),
        (
            r'have different sizes .* as in pictures@64',
            {'FEATURES': Pictures.FEATURES | {'image': tfds.features.Image(shape=(None, None, 3))}},
        ),
        ('is not an image classification set', {'KEYS': None}),
        ('is not an image classification set', {'KEYS': ('label', 'image')}),
        (
            'is not an image classification set',
            {'FEATURES': Pictures.FEATURES | {'label': tfds.features.Scalar(np.int64)}},
        ),
        ('has no labels', {'LABEL': staticmethod(lambda index: -1)}),
        ('has 5 training images', {'COUNTS': {'train': 5, 'test': 4}}),
    ],
)
def test_unsuitable_sets_are_refused(message, attributes, load):
    with pytest.raises(InputError, match=message):
        load(**attributes)


def test_a_set_prepared_again_is_read_again(load, tmp_path):
    before = load().test_labels
    shutil.rmtree(tmp_path / 'pictures')
    after = load(LABEL=staticmethod(lambda index: (index + 1) % 2)).test_labels  # files of the same names and sizes
    np.testing.assert_array_equal(after, 1 - before)


@pytest.mark.parametrize(
    'file, old, new, message',
    [
        ('dataset_info.json', '"20"', '"12"', 'describes 12 train records and holds 20'),
        ('dataset_info.json', '"20"', '"21"', 'describes 21 train records and holds 20'),
        ('dataset_info.json', '"{DATASET}', '"../../elsewhere/{DATASET}', 'describes train records outside of it'),
        ('features.json', '"4"', '"3"', r'image 0 of pictures/1.0.0 is \(6, 4, 3\), not \(6, 3, 3\)'),
        ('label.labels.txt', 'cat\ndog', 'cat+dog', 'has the label 1, for which there is no class'),
    ],
)
def test_descriptions_that_do_not_fit_the_records_are_refused(file, old, new, message, load, tmp_path):
    load()
    folder = tmp_path / 'pictures' / '1.0.0'
    shutil.copytree(folder, tmp_path / 'elsewhere')
    text = (folder / file).read_text()
    assert old in text
    (folder / file).write_text(text.replace(old, new))
    with pytest.raises(InputError, match=message):
        data.load('pictures', data_dir=str(tmp_path))


def test_an_image_that_numpy_would_stretch_is_refused(load):
    with pytest.raises(InputError, match=r'image 0 of pictures/1.0.0 is \(1, 4, 3\), not \(6, 4, 3\)'):
        load(PICTURE=(1, 4, 3))


def test_format_that_needs_tensorflow_is_named(load, tmp_path):
    load()
    path = tmp_path / 'pictures' / '1.0.0' / 'dataset_info.json'
    path.write_text(json.dumps(json.loads(path.read_text()) | {'fileFormat': 'tfrecord'}))
    with pytest.raises(InputError, match='prepared as tfrecord, which needs TensorFlow .*array_record'):
        data.load('pictures', data_dir=str(tmp_path))
