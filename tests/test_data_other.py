"""Sets of others that TFDS has prepared: which ones work, and what is said about the ones that do not."""

import json
import shutil

import numpy as np
import PIL.Image
import pytest
import tensorflow_datasets as tfds

from cnn_research import data
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
            picture = PIL.Image.fromarray(np.full(self.PICTURE, index, np.uint8))
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


@pytest.mark.parametrize(
    'message, attributes',
    [
        ('has the splits train; train and test are needed', {'COUNTS': {'train': 20}}),
        ('has the splits test; train and test are needed', {'COUNTS': {'test': 20}}),
        (
            'have different sizes',
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
