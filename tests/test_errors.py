"""Errors for the user: many at once, near names, values of any kind in words, and the flags that raise them all together."""

import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from commands import exit_status
from test_cli import run

from cnn_research import config, cost, errors, problem
from cnn_research.ablation import Experiment, Matched
from cnn_research.data import load
from experiments import augmentation, benchmark, feature_maps, image_size, sample_efficiency, tasks, weight_sharing, weights


def bad(*messages, kind=errors.InputError):
    raise kind(*messages)


def test_all_problems_are_raised_at_once_and_each_is_said_once():
    with pytest.raises(errors.InputError) as refused, errors.gathered() as check:
        assert check(bad, 'one') is None
        assert check(divmod, 7, 2) == (3, 1)
        assert check(bad, 'two', 'three', otherwise=5) == 5
        check(bad, 'one')
    assert refused.value.args == ('one', 'two', 'three') and str(refused.value) == 'one\ntwo\nthree'
    assert pickle.loads(pickle.dumps(refused.value)).args == refused.value.args  # workers hand them on


def test_what_raises_within_ends_the_checks_and_is_said_too():
    with pytest.raises(errors.InputError, match=r'^one\ntwo$'), errors.gathered() as check:
        check(bad, 'one')
        bad('two')
    with pytest.raises(ZeroDivisionError), errors.gathered() as check:
        check(bad, 'one')
        check(divmod, 1, 0)


def test_no_problem_raises_nothing_and_too_large_stays_too_large():
    with errors.gathered() as check:
        check(errors.positive, 'n', 1)
    with pytest.raises(errors.TooLargeError, match=r'^a\nb$'), errors.gathered() as check:
        check(bad, 'a', kind=errors.TooLargeError)
        check(bad, 'b', kind=errors.TooLargeError)
    with pytest.raises(errors.InputError) as refused, errors.gathered() as check:
        check(bad, 'a', kind=errors.TooLargeError)
        check(bad, 'b')
    assert type(refused.value) is errors.InputError


def test_a_problem_is_one_line_whatever_it_quotes():
    assert str(errors.InputError('a\n b\u2028c', 'd')) == 'a b c\nd'


@pytest.mark.parametrize(
    ('name', 'near'),
    [
        ('gsp', 'gap'), ('GAP', 'gap'), ('kernal', 'kernel_size'), ('learn', 'learning_rate'), ('seed', 'seeds'), ('smae', 'SAME'),
        ('bar', None), ('', None), ('zzz', None), (3, None), (['gap'], None), ('x' * 10_000, None),
    ],
)  # fmt: skip
def test_the_nearest_name_is_suggested_if_one_is_near(name, near):
    names = ('flatten', 'gap', 'gmp', 'kernel_size', 'batch_size', 'learning_rate', 'seeds', 'SAME')
    assert errors.nearest(name, names) == near and errors.nearest(name, ()) is None


def test_an_unknown_name_is_shown_with_the_nearest_and_all_known():
    assert str(errors.known('head', 'gsp', config.HEADS)) == "unknown head 'gsp': did you mean 'gap'? known: flatten, gap, gmp"
    assert str(errors.known('head', 'mean', config.HEADS)) == "unknown head 'mean'; known: flatten, gap, gmp"


def test_values_are_shown_as_python_writes_them_or_shortened():
    assert errors.shown(' a\n') == r"' a\n'" and errors.shown(1.5) == '1.5'
    assert len(errors.shown('x' * 10**6)) < 250 and errors.shown('x' * 10**6).endswith("x'")
    assert errors.shown(10**5000) == 'a value too long to be written (int)'


@pytest.mark.parametrize('value', [10**9 + 1, 10**5000], ids=['one more', 'thousands of digits'])
def test_no_count_is_larger_than_can_be_meant(value):
    errors.positive('n', 10**9)
    with pytest.raises(errors.InputError, match=r'^n must be at most 1,000,000,000, got '):
        errors.positive('n', value)


def status_of(module, *line):
    return exit_status(module, *line) if hasattr(module, 'FLAGS') else run(module, *line)


def lines_of(capsys):
    out, err = capsys.readouterr()
    assert out == '' and err.endswith('\n')
    return err.removesuffix('\n').split('\n')


def test_bad_flags_of_all_groups_are_said_at_once(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    line = '--arms=conv_gmp,conf_gmp --seeds=0 --workers=none --kernal=3 --epochs=0 --batchsize 3 --head=gsp --features=8,x --pools=0'
    assert (
        run(weight_sharing, *line.split(), '--train_size=-1', '--canvas=wide', '--noflip=1', '--tune', '--learning_rate=1', '--warmup') == 2
    )
    found = lines_of(capsys)
    expected = [
        'workers must be a whole number, got', "unknown flag '--kernal': did you mean --kernel_size? --help", "unknown flag '--batchsize'",
        '--noflip takes no value', 'warmup needs a value', 'seeds must be a whole number of at least 1, got 0',
        "unknown arm of weight_sharing 'conf_gmp': did you mean 'conv_gmp'?", 'train_size must be', 'canvas must be a side',
        'features must be whole numbers', 'pools must be a whole number of at least 1, got 0', "unknown head 'gsp': did you mean 'gap'?",
        'epochs must be a whole number of at least 1, got 0',
    ]  # fmt: skip
    assert all(line.startswith('weight_sharing: ') for line in found)
    assert sorted(next((words for words in expected if words in line), line) for line in found) == sorted(expected)
    assert list(tmp_path.iterdir()) == []


def test_what_depends_on_a_value_that_cannot_be_read_is_not_blamed(capsys):
    assert run(weight_sharing, '--features=8,16,x', '--kernel_size=3,3,3', '--canvas=wide', '--train_positions=any') == 2
    assert [line.split(' must')[0] for line in lines_of(capsys)] == ['weight_sharing: canvas', 'weight_sharing: features']
    for unread in ('--features=8;16', '--features='):
        assert run(weight_sharing, unread, '--kernel_size=3,5', '--epochs=0') == 2
        assert [line.split(' must')[0] for line in lines_of(capsys)] == ['weight_sharing: features', 'weight_sharing: epochs']


def test_a_misspelled_flag_makes_no_other_one_wrong(capsys):
    for module, line in (
        (sample_efficiency, '--datset=dynamic_signal --sigma=0.1 --most=1000'),
        (feature_maps, '--compar --seeds=3'),
        (weight_sharing, '--hed gap'),
    ):
        assert status_of(module, *line.split()) == 2
        (only,) = lines_of(capsys)
        assert "unknown flag '--" in only and 'did you mean --' in only


@pytest.mark.parametrize(
    ('module', 'line', 'words'),
    [
        (image_size, '--dataset=digits/9', 'every arm of image_size sets dataset itself'),
        (feature_maps, '--image=a.png --sample=3', 'sample means nothing with --image'),
        (feature_maps, '--compare --data_dir=x', 'data_dir means nothing with --compare'),
        (sample_efficiency, '--dataset=shared_rank --seeds=1000001', 'seeds must be at most 1,000,000'),
        (weight_sharing, '--learning_rate=1e-60', 'learning_rate must be a finite number at least 1e-30'),
        (weight_sharing, '--dataset=fasion_mnist', "did you mean 'fashion_mnist'?"),
        (weight_sharing, '--dataset=red_greeen', "did you mean 'red_green'?"),
        (augmentation, '--unseen_positions=any --arms=conv_50', 'arm conv_50: a shift would show'),
    ],
)
def test_nothing_is_left_out_in_silence(module, line, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path / 'none'))
    assert status_of(module, *line.split()) == 2
    (only,) = lines_of(capsys)
    assert words in only and list(tmp_path.iterdir()) == []


def test_whoever_reads_no_further_is_no_error(tmp_path):
    code = "import sys; from experiments import weights; sys.argv = ['x', '--workdir=w']; weights.main()"
    env = {**os.environ, 'PYTHONPATH': str(Path(__file__).parent.parent)}
    command = [sys.executable, '-u', '-c', code]
    with subprocess.Popen(command, cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert (process.stderr.read(), process.wait()) == (b'', 128 + signal.SIGPIPE)


@pytest.mark.parametrize(
    ('module', 'line', 'words'),
    [
        (sample_efficiency, '--dataset=static_signal --seeds=1 --workers=0 --sigma=0 --target=1 --most=3 --arms=conv',
         ['workers', 'seeds', '--arms', 'at least 128', 'target', 'sigma']),
        (sample_efficiency, '--arms=cnov,lcoal --seeds=1001', ['at most 1,000', "'conv'?", "'local'?"]),
        (sample_efficiency, '--dataset=dynamic_sgnal --quick', ['did you mean dynamic_signal?']),
        (weights, '--channels=0 --features=-1 --image_size=0 --kernel_size=a --strides=x --padding=same',
         ['channels', 'features', 'image_size', 'kernel_size', 'strides', "'SAME'?"]),
        (weights, '--model=lenet --padding=SAME --strides=2 --channels=0 --image_size=w',
         ['strides is fixed', 'padding is fixed', "'lenet5'?", 'image_size', 'channels']),
        (feature_maps, '--stride=0 --dilation=-1 --filter=verticle --sample=-1 --padding=X --cell=a --seeds=3',
         ['seeds means nothing without --compare', 'cell means nothing without --run', 'stride', 'dilation', 'sample', "'X'", "'vertical"]),
        (benchmark, '--sections=step,x --threads=0', ["'steps'?", "'x'", 'threads']),
    ],
)  # fmt: skip
def test_commands_with_flags_of_their_own_say_all_at_once(module, line, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert exit_status(module, *line.split()) == 2
    found = lines_of(capsys)
    assert len(found) == len(words) and all(word in line for word, line in zip(words, found)), found
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ('content', 'words'),
    [
        (b'--seeds=0\n--hed=gap\n', ['hed', 'seeds']),
        (b'--workdir=a\0b\n', ['workdir must not hold a NUL character']),
        (b'\xff\xfe', ['cannot read a --flagfile']),
        (None, ['cannot read a --flagfile: [Errno 2]']),
    ],
    ids=['flags', 'NUL', 'no text', 'absent'],
)
def test_a_flagfile_is_read_as_strictly(content, words, tmp_path, capsys):
    if content is not None:
        (tmp_path / 'flags').write_bytes(content)
    assert run(weight_sharing, f'--flagfile={tmp_path}/flags') == 2
    found = lines_of(capsys)
    assert len(found) == len(words) and all(word in line for word, line in zip(words, found)), found


def test_what_absl_lets_pass_is_refused(capsys):
    for line in ('--undefok=hed --hed=gap', '-- --seeds=1', '--workdir=', '--data_dir='):
        assert run(weight_sharing, *line.split()) == 2
    assert [line.split(': ', 1)[1][:20] for line in lines_of(capsys)] == [
        "unknown flag '--unde", "unknown flag '--hed'", "'--' is no flag: wri", 'workdir must name a ', 'data_dir must name a',
    ]  # fmt: skip


def test_arms_that_do_not_fit_are_named_together():
    arms = {name: lambda model, size=size: model.with_kernel_size(size) for name, size in (('a', 9), ('b', 3), ('c', 9), ('d', 11))}
    arms['like_a'] = Matched(lambda model: model.with_kernel_size(3), 'a', 'features')
    experiment = Experiment('e', '?', arms, {}, config.Config())
    with pytest.raises(errors.InputError) as refused:
        experiment.resolve(experiment.small, lambda of: ((8, 8, 1), 10))
    assert [message.partition(' of ')[0] for message in refused.value.args] == ['arms a, c: a kernel', 'arm d: a kernel']


def test_all_that_does_not_fit_the_data_is_said_at_once_but_memory_alone_stays_too_large(monkeypatch):
    digits = load('digits')
    many = config.Config(data=config.DataConfig(train_size=2000), train=config.TrainConfig(epochs=10**9, shift=9))
    with pytest.raises(errors.InputError) as refused:
        problem.make(many, digits)
    assert [message.split()[0] for message in refused.value.args] == ['train_size', 'shift', 'training']
    assert refused.value.args[2] == 'training would take 15,000,000,000 steps, at most 2,147,483,647 can be: fewer epochs'
    monkeypatch.setattr(cost, 'memory', lambda: 1000)
    relaxed = config.Config(train=config.TrainConfig(relax_epoch=1))  # two networks, both too large
    with pytest.raises(errors.TooLargeError, match=r'training this network would need .*\n.* would need'):
        problem.make(relaxed, digits)


def test_the_tasks_are_those_that_there_are_and_asking_imports_no_jax():
    from cnn_research import signal_learners

    assert tuple(signal_learners.TASKS) == tasks.SIGNALS
    code = (
        'import sys; from experiments import flags, sample_efficiency as s; '
        "print(flags.read(['x', '--dataset=dynamic_signal', '--most=128'], s.FLAGS, s.asked)[0], 'jax' in sys.modules)"
    )
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True).stdout == 'searches False\n'
