"""Trainings on images that are brought to the device batch by batch are those on images that are held there."""

import dataclasses

import jax
import numpy as np
import pytest
from test_keeping import keeper, without_times
from test_train import BASE, PLACED, noise, same_bits

from cnn_research import batches, errors, feeds, mesh, pace, problem, train
from cnn_research.data.streamed import Streamed, middle_square
from cnn_research.layout import Layout
from cnn_research.problem import Examples

FEWER = dataclasses.replace(BASE, data=dataclasses.replace(PLACED, train_size=80, unseen_positions=None))
PASSES = dataclasses.replace(FEWER, train=dataclasses.replace(BASE.train, passes=2, shift=1, flip=True, patience=1))


class Lazy:
    """Examples as a reader of records gives them, and how often each was read."""

    def __init__(self, images):
        self.images, self.read = images, np.zeros(len(images), int)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        self.read[index] += 1
        return {'image': self.images[index]}


def lazy(arrays):
    return arrays._replace(pool=arrays.pool._replace(images=Streamed(Lazy(arrays.pool.images), 'image')))


@pytest.mark.parametrize('c', [FEWER, PASSES], ids=['plain', 'passes, shift, flip, patience'])
def test_streamed_batches_are_those_that_the_device_would_draw(c):
    p = problem.make(c, noise())
    arrays = problem.arrays(p, noise(), 3)
    held, brought = feeds.feed([arrays], None), feeds.feed([lazy(arrays)], None)
    assert isinstance(held, feeds.HeldFeed) and isinstance(brought, feeds.ReadFeed)
    order = train._programs(p, 1, None).order(p.setting, np.uint32(3), np.int32(1))
    size, ordered = p.batch_size, p.program.ordered
    for first in (0, 2):
        brought.begin(p, order, first)
        got = brought.next(3)
        assert got.pool.images.shape == (4, size, 6, 6, 1)  # room for a power of two
        for i in range(3):
            passed, batch = divmod(first + i, 80 // size)
            chosen = arrays.draw[np.asarray(order)[passed * ordered + batch * size :][:size]]
            np.testing.assert_array_equal(got.pool.images[i], arrays.pool.images[chosen])
            np.testing.assert_array_equal(got.pool.labels[i], arrays.pool.labels[chosen])


@pytest.mark.slow
@pytest.mark.parametrize('c', [FEWER, PASSES], ids=['plain', 'passes, shift, flip, patience'])
@pytest.mark.parametrize('on', [None, Layout(data=4)], ids=['one device', 'four'])
def test_a_training_on_streamed_images_has_the_same_bits(c, on):
    p = problem.make(c, noise())
    arrays = problem.arrays(p, noise(), 3)
    on = on and mesh.make(on)
    held, brought = (train.fit(p, data, 3, on=on) for data in (arrays, lazy(arrays)))
    assert same_bits(held.state, brought.state) and without_times(held) == without_times(brought)


@pytest.mark.slow
def test_it_goes_on_in_the_middle_of_an_epoch_to_the_same_bits(tmp_path, monkeypatch):
    monkeypatch.setattr(pace, '_CHUNK_SECONDS', 0)
    monkeypatch.setattr(pace, '_FIRST_STEPS', 1)
    p = problem.make(PASSES, noise())
    data = lazy(problem.arrays(p, noise(), 0))
    whole = train.fit(p, data, 0)
    keeps, _ = keeper(tmp_path, PASSES)

    def passed(progress):
        if (progress.epoch, progress.done) == (1, 3):
            keeps.save(progress)
            keeps.finish()
            raise InterruptedError

    keeps.passed = passed
    with pytest.raises(InterruptedError), keeps:
        train.fit(p, data, 0, keeper=keeps)
    again, _ = keeper(tmp_path, PASSES)
    with again:
        assert same_bits(train.fit(p, data, 0, keeper=again).state, whole.state)


def test_images_larger_than_the_device_are_brought_to_it(monkeypatch):
    arrays = problem.arrays(problem.make(FEWER, noise()), noise(), 0)
    assert not feeds.streams(arrays)
    monkeypatch.setattr(feeds.hosts, 'device_memory', lambda: arrays.pool.images.nbytes)
    assert feeds.streams(arrays)


@pytest.mark.parametrize('large', [False, True])
def test_the_scale_does_not_depend_on_where_images_are(large, monkeypatch):
    monkeypatch.setattr(problem, '_SCALED', 30)
    monkeypatch.setattr(problem, '_PIECE', 7)
    monkeypatch.setattr(problem, '_LARGE', 0 if large else 2**32)
    p = problem.make(FEWER, noise())
    brought = dataclasses.replace(noise(), train_images=Streamed(Lazy(noise().train_images), 'image'))
    arrays, others = (problem.arrays(p, dataset, 3) for dataset in (noise(), brought))
    images = arrays.train.images[: 30 if large else None].astype(np.float64)
    np.testing.assert_array_equal(arrays.scale, others.scale)
    np.testing.assert_array_equal(arrays.scale, (1 / np.sqrt(np.square(images).mean((0, 1, 2)))).astype(np.float32))


@pytest.mark.parametrize('number', [1, 255, 257])
def test_scores_of_streamed_images_are_those_of_images_at_hand(number):
    p = problem.make(FEWER, noise())
    arrays = problem.arrays(p, noise(), 0)
    state = train._programs(p, 1, None).init(np.uint32(0))
    held = Examples(*(a[np.arange(number) % len(a)] for a in arrays.test))
    brought = held._replace(images=Streamed(Lazy(held.images), 'image'))
    assert train.score(p, state, arrays.scale, held) == train.score(p, state, arrays.scale, brought)


def test_every_image_is_read_once_an_epoch_and_only_what_is_read_ahead_besides():
    records = Lazy(np.random.RandomState(0).randint(0, 256, (64, 5, 5, 3), np.uint8))
    images, labels = Streamed(records, 'image'), np.arange(64)
    records.read[:] = 0
    order = np.random.RandomState(1).permutation(64).reshape(8, 8)
    for (got, numbers), chosen in zip(batches.read_ahead(images, labels, order), order, strict=True):
        np.testing.assert_array_equal(numbers, chosen)
        np.testing.assert_array_equal(got, records.images[chosen])
    assert set(records.read) == {1}


def test_streamed_images_are_indexed_as_an_array_is():
    array = np.random.RandomState(0).randint(0, 256, (20, 5, 4, 3), np.uint8)
    images = Streamed(Lazy(array), 'image')
    assert images.shape == array.shape and len(images) == 20 and images.dtype == np.uint8
    chosen = np.array([3, 3, 19, 0])
    for index in (4, chosen, slice(2, 7), slice(None, None, -3)):
        np.testing.assert_array_equal(images[index], array[index])
    np.testing.assert_array_equal(images.at(chosen)[np.array([2, 0])], array[chosen][[2, 0]])
    records = Lazy([*array[:3], array[3][:4]])
    with pytest.raises(errors.InputError, match=r'image 3 is \(4, 4, 3\), not \(5, 4, 3\)'):
        Streamed(records, 'image')[:]


@pytest.mark.parametrize('shape', [(8, 12, 3), (12, 8, 1), (6, 6, 3)])
def test_the_middle_square_is_cut_and_scaled(shape):
    image = np.zeros(shape, np.uint8)
    height, width, _ = shape
    top, left = (height - min(shape[:2])) // 2, (width - min(shape[:2])) // 2
    image[top : top + min(shape[:2]), left : left + min(shape[:2])] = 200
    for side in (3, 6, 11):
        np.testing.assert_array_equal(middle_square(image, side), np.full((side, side, shape[2]), 200))


def test_seeds_of_streamed_images_train_one_by_one():
    from cnn_research import trainings

    p = problem.make(FEWER, noise())
    arrays = problem.arrays(p, noise(), 0)
    assert [trainings._part(p, data, 5, trainings._PLAIN, 5) for data in (arrays, lazy(arrays))] == [5, 1]
    assert jax.tree.leaves(feeds.resident([arrays]).draw)
