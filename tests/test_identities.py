"""The command `experiments.identities`: a trained network with batch norm goes from shared to dense and keeps every prediction."""

import pytest
from commands import exit_status

from cnn_research import data
from experiments import identities


@pytest.mark.slow
def test_a_trained_network_keeps_its_predictions_as_it_becomes_dense():
    columns, rows = identities.embeddings(data.load('digits'))
    assert {row[1] for row in rows} == {*identities.CHAIN, *identities.ALSO} and {row[0] for row in rows} == {'flatten', 'gmp'}
    for row in rows:
        found = dict(zip(columns, row))
        assert found['largest difference'] < 1e-4 < found['largest logit']
        assert found['predictions changed'] == 0 and found['of'] == 360


def test_bad_input_is_one_line_and_status_2(capsys, tmp_path):
    for args in (['--dataset=nonsuch'], ['--schemes=all']):
        assert exit_status(identities, f'--workdir={tmp_path / "new"}', *args) == 2
        assert capsys.readouterr().err.count('\n') == 1
    assert not (tmp_path / 'new').exists()
