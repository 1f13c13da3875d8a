"""The command line: what it refuses, what it prints, what it writes, and that it imports nothing heavy for --help."""

import csv
import json
import subprocess
import sys
from xml.etree import ElementTree

import pytest
from absl import flags as absl_flags

from cnn_research import ablation
from experiments import filter_size, runner, weight_sharing

TINY = ('--arms=conv_gmp', '--seeds=2', '--workers=1', '--epochs=1', '--train_size=64', '--features=2,3')


def run(experiment, *args):
    """Run an experiment's command in this process; its exit status."""
    for name in list(absl_flags.FLAGS):
        absl_flags.FLAGS[name].using_default_value or absl_flags.FLAGS[name].unparse()
    with pytest.raises(SystemExit) as e:
        runner.main(experiment.EXPERIMENT, experiment.__doc__, ['experiment', *args], getattr(experiment, 'say', None))
    return e.value.code


QUICK = ('--epochs=1', '--seeds=1', '--arms=conv_gmp', '--train_size=64')  # so that what is not refused fails soon

BAD = {
    'unknown data set': (('--dataset=nonsuch',), ('nonsuch', 'fashion_mnist')),
    'data set that leaves its folder': (('--dataset=../mnist',), ('../mnist',)),
    'data set by another name': (('--dataset=fashion-mnist',), ('fashion-mnist', 'digits', 'fashion_mnist')),
    'huge canvas': (('--canvas=99999',), ('canvas', '4096', '99999')),
    'no canvas but positions': (('--canvas=none', '--train_positions=left'), ('train_positions', 'canvas')),
    'unknown arm': (('--arms=conv_gmp,conf_gmp',), ('conf_gmp', 'conv_flatten')),
    'unknown flag': (('--kernel=3',), ('kernel',)),
    'no flag': (('digits',), ('digits', '--name=value')),
    'unknown head': (('--head=mean',), ('mean', 'flatten, gap, gmp')),
    'unknown padding': (('--padding=same',), ('same', 'VALID, SAME, CIRCULAR, FULL')),
    'unknown norm': (('--norm=layer',), ('layer', 'none, batch')),
    'unknown optimizer': (('--optimizer=adamw',), ('adamw', 'adam, sgd')),
    'unknown position': (('--train_positions=middle',), ('middle', 'left')),
    'no number': (('--seeds=three',), ('seeds', 'three')),
    'zero seeds': (('--seeds=0',), ('seeds', '0')),
    'too many seeds': (('--seeds=1000000000000',), ('seeds', 'at most 1,000')),
    'no workdir': (('--workdir=',), ('workdir', 'folder')),
    'a sign': (('--features=-3',), ('features', 'without a sign')),
    'zero workers': (('--workers=0',), ('workers', '0')),
    'negative epochs': (('--epochs=-1',), ('epochs', '-1')),
    'zero batch': (('--batch_size=0',), ('batch_size', '0')),
    'zero features': (('--features=0,4',), ('features', '0')),
    'not finite rate': (('--learning_rate=nan',), ('learning_rate', 'nan')),
    'infinite rate': (('--learning_rate=inf',), ('learning_rate', 'inf')),
    'zero rate': (('--learning_rate=0',), ('learning_rate', '0')),
    'negative decay': (('--weight_decay=-1',), ('weight_decay', '-1')),
    'kernel larger than the image': (('--kernel_size=17',), ('17', '16')),
    'three kernels for two stages': (('--kernel_size=3,3,3',), ('kernel_sizes', '3')),
    'canvas smaller than the image': (('--canvas=7',), ('7x7', '8x8')),
    'canvas without room': (('--canvas=8',), ('left', '8x8')),
    'no canvas': (('--canvas=wide',), ('canvas', 'wide')),
    'nothing unseen': (('--train_positions=any',), ('right', 'unseen')),
    'train size larger than the data': (('--train_size=1238',), ('1238', '1237')),
    'raw folder without the files': (('--dataset=mnist', '--raw_dir=/nonexistent'), ('/nonexistent/mnist', '--raw_dir')),
    'file in the place of the workdir': (('--workdir=/dev/null/x',), ('/dev/null/x',)),
}


@pytest.mark.parametrize(('args', 'words'), BAD.values(), ids=BAD)
def test_bad_input_is_one_clear_line_and_writes_nothing(args, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path / 'data'))
    assert run(weight_sharing, *QUICK, *args) == 2
    out, err = capsys.readouterr()
    assert out == ''
    assert len(err.strip().splitlines()) == 1, err
    assert all(word in err for word in words), err
    assert list(tmp_path.iterdir()) == []


def test_an_arm_that_does_not_fit_is_named(tmp_path, capsys):
    assert run(filter_size, '--canvas=16', f'--workdir={tmp_path}/w') == 2
    err = capsys.readouterr().err
    assert 'arm k9' in err and 'kernel of 9' in err
    assert not (tmp_path / 'w').exists()


def test_digits_train_anywhere_or_without_a_canvas(tmp_path, capsys):
    assert run(weight_sharing, *TINY, '--train_positions=any', '--unseen_positions=none', f'--workdir={tmp_path}/any') == 0
    assert run(weight_sharing, *TINY, '--canvas=none', f'--workdir={tmp_path}/none') == 0
    assert 'unseen' not in capsys.readouterr().out
    for name, canvas in (('any', [16, 16]), ('none', None)):
        row = json.loads((tmp_path / name / 'results.jsonl').read_text().splitlines()[0])
        assert row['unseen_accuracy'] is None and row['config']['data']['canvas'] == canvas


def test_a_workdir_belongs_to_one_experiment_and_configuration(tmp_path, capsys):
    assert run(weight_sharing, *TINY, f'--workdir={tmp_path}') == 0
    before = (tmp_path / 'results.jsonl').read_bytes()
    capsys.readouterr()
    assert run(filter_size, f'--workdir={tmp_path}') == 2
    assert 'experiment was weight_sharing, now filter_size' in capsys.readouterr().err
    assert run(weight_sharing, *TINY, '--epochs=2', f'--workdir={tmp_path}') == 2
    assert 'base.train.epochs was 1, now 2' in capsys.readouterr().err
    assert (tmp_path / 'results.jsonl').read_bytes() == before


def test_answers_that_cannot_be_written_are_one_line_and_lose_no_cell(tmp_path, capsys):
    (tmp_path / 'figures').write_text('in the way')
    assert run(weight_sharing, *TINY, f'--workdir={tmp_path}') == 2
    err = capsys.readouterr().err
    assert f'cannot write to {tmp_path}' in err and 'Traceback' not in err
    kept = (tmp_path / 'results.jsonl').read_bytes()
    (tmp_path / 'figures').unlink()
    assert run(weight_sharing, *TINY, f'--workdir={tmp_path}') == 0
    assert (tmp_path / 'results.jsonl').read_bytes() == kept


def test_help_is_grouped_and_imports_no_jax():
    code = (
        'import runpy, sys; sys.argv = ["x", "--help"]\n'
        'try: runpy.run_module("experiments.weight_sharing", run_name="__main__")\n'
        'except SystemExit as e: print(e.code, "jax" in sys.modules, "tensorflow_datasets" in sys.modules)'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == '0 False False'
    for word in ('What runs:', 'Data:', 'Training:', '--train_positions', 'dense_gmp'):
        assert word in done.stdout


def test_a_run_writes_all_its_files_and_extends(tmp_path, capsys):
    assert run(weight_sharing, *TINY, f'--workdir={tmp_path}') == 0
    assert 'conv_gmp' in capsys.readouterr().out
    first = (tmp_path / 'results.jsonl').read_bytes()
    rows = [json.loads(line) for line in first.splitlines()]
    assert {(r['arm'], r['seed'], r['status']) for r in rows} == {('conv_gmp', seed, 'ok') for seed in (0, 1)}
    needed = 'experiment arm seed dataset train_size status weights connections macs test_accuracy test_loss unseen_accuracy'
    needed += ' train_accuracy train_loss epochs seconds git jax device'
    assert all(set(needed.split()) <= set(row) for row in rows)
    assert {p.name.rsplit('.', 2)[0] for p in (tmp_path / 'params').iterdir()} == {r['cell'] for r in rows}
    # one more arm and one more seed: what is there stays, to the byte
    more = [*TINY, '--arms=conv_gmp,conv_flatten', '--seeds=3']
    assert run(weight_sharing, *more, f'--workdir={tmp_path}') == 0
    assert (tmp_path / 'results.jsonl').read_bytes().startswith(first)
    with open(tmp_path / 'summary.csv', newline='') as file:
        assert {(line['arm'], line['n']) for line in csv.DictReader(file)} == {('conv_gmp', '3'), ('conv_flatten', '3')}
    assert len((tmp_path / 'history.jsonl').read_text().splitlines()) == 6
    assert 'first-layer filters' in (tmp_path / 'report.html').read_text()
    drawn = {path.name for path in (tmp_path / 'figures').iterdir()}
    assert {'accuracy_against_weights.svg', 'seen_and_unseen_positions.svg', 'learning_curves_train_loss.svg'} <= drawn
    assert all(ElementTree.parse(tmp_path / 'figures' / name).getroot().tag.endswith('svg') for name in drawn)


def test_tuning_sees_no_test_image_and_gives_every_arm_its_own_rate(tmp_path, capsys):
    args = ('--arms=conv_gmp', '--seeds=1', '--epochs=1', '--train_size=64', '--features=2,3', '--tune')
    assert run(weight_sharing, *args, '--workers=1', f'--workdir={tmp_path}') == 0
    rows = [json.loads(line) for line in (tmp_path / 'results.jsonl').read_text().splitlines()]
    tuned = [row for row in rows if row['purpose'] == 'tune']
    assert len(tuned) == 12 and all(row['test_accuracy'] is None and row['unseen_accuracy'] is None for row in tuned)
    assert not {row['seed'] for row in tuned} & {row['seed'] for row in rows if row['purpose'] != 'tune'}
    by_rate = {rate: [row['validation_accuracy'] for row in tuned if row['learning_rate'] == rate] for rate in ablation.RATES}
    best = max(by_rate, key=lambda rate: sum(by_rate[rate]))
    # at the common rate the main run serves
    assert {row['learning_rate'] for row in rows if row['purpose'] == 'own_rate'} == ({best} if best != 0.01 else set())
    with open(tmp_path / 'summary_own_rate.csv', newline='') as file:
        assert [(line['arm'], float(line['learning_rate'])) for line in csv.DictReader(file)] == [('conv_gmp', best)]
    assert 'own best learning rate' in capsys.readouterr().out


def test_a_diverged_run_is_kept_and_the_others_go_on(tmp_path, capsys):
    args = ('--arms=conv_gmp', '--seeds=2', '--epochs=2', '--train_size=128', '--optimizer=sgd', '--learning_rate=1e29', '--warmup=0')
    assert run(weight_sharing, *args, '--workers=1', f'--workdir={tmp_path}') == 0
    rows = [json.loads(line) for line in (tmp_path / 'results.jsonl').read_text().splitlines()]
    assert [row['status'] for row in rows] == ['diverged'] * 2
    assert all(row['test_accuracy'] is None for row in rows)
    assert 'diverged' in capsys.readouterr().out
