"""Claims: one living holder at a time, whatever dies, stands still or comes back; nothing is left behind."""

import subprocess
import sys
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnn_research import claims
from cnn_research.claims import Claims


@pytest.fixture
def two(tmp_path, monkeypatch):
    """Two processes' claims in one folder, as if on two hosts; who is not heard of for half a second is dead."""
    monkeypatch.setattr(claims, 'BEAT', 0.05)
    monkeypatch.setattr(claims, 'STILL', 0.5)
    both = Claims(tmp_path), Claims(tmp_path)
    for i, one in enumerate(both):
        one.token = f'host{i}-1-2-{i}'
    yield both
    for one in both:
        one.close()


def stop(one):
    """Its machine sleeps: the counter stands still."""
    one._ended.set()
    one._thread.join()


def wait_for(one, name):
    """Claim a name until it is had."""
    end = time.monotonic() + 20
    while not one.claim(name):
        assert time.monotonic() < end
        time.sleep(0.05)


def test_of_two_one_holds_a_name_until_it_gives_it_up(two):
    a, b = two
    assert a.claim('x') and not b.claim('x') and b.claim('y') and not a.claim('y')
    time.sleep(1)  # longer than the dead are waited for
    assert not b.claim('x') and a.holds('x') and not b.holds('x')
    assert b.holds('y') and not a.holds('y')
    b.release('x')
    assert a.holds('x')
    a.release('x')
    assert b.claim('x') and not a.claim('x')
    b.release('x'), b.release('y')
    assert not list(a.folder.glob('*.claim'))


@pytest.mark.parametrize('content', [b'', bytes(60), b'\xff\xfe', b'../../x', b'host0-1-2-0\n' * 9])
def test_a_claim_that_holds_no_token_is_that_of_nobody(content, two):
    a, b = two
    a.folder.mkdir(exist_ok=True)
    (a.folder / 'x.0.claim').write_bytes(content)
    wait_for(b, 'x')
    assert b.holds('x') and not a.claim('x')
    b.release('x')
    assert not list(a.folder.glob('*.claim'))


def test_what_a_dead_process_held_is_taken_over_and_is_no_longer_its_own(two):
    a, b = two
    assert a.claim('x') and not b.claim('x')
    stop(a)
    wait_for(b, 'x')
    assert b.holds('x') and not a.holds('x')
    a.release('x')  # it wakes up, and is done
    assert b.holds('x')
    b.release('x')
    assert not list(a.folder.glob('*.claim'))


def test_a_claim_whose_writer_died_before_it_wrote_its_name_is_taken_over(two):
    a, _ = two
    a.folder.mkdir(exist_ok=True)
    (a.folder / 'x.0.claim').touch()
    assert not a.claim('x')
    time.sleep(0.7)
    assert a.claim('x') and a.holds('x')


def test_a_process_of_this_host_that_is_gone_is_known_to_be_at_once(tmp_path):
    code = f'from cnn_research.claims import Claims; print(Claims({str(tmp_path)!r}).claim("x"), flush=True); input()'
    with subprocess.Popen([sys.executable, '-c', code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == 'True\n'
        mine = Claims(tmp_path)
        assert not mine.claim('x')
        other.kill()
        other.wait()
    assert mine.claim('x')
    assert mine.tidy() and len(list(tmp_path.glob('*.beat'))) == 1
    mine.release('x')
    mine.close()
    assert list(tmp_path.iterdir()) == []


def test_claims_of_what_dead_processes_had_finished_are_tidied_away(two):
    mine, _ = two
    assert mine.claim('x')
    for name, owner in (('of_the_dead', 'there-1-2-3'), ('of_a_living_one', 'there-1-2-4'), ('just_begun', '')):
        (mine.folder / f'{name}.0.claim').write_text(owner)
    (mine.folder / 'there-1-2-4.beat').write_text('7 ')

    def left():
        return {path.name.partition('.')[0] for path in mine.folder.glob('*.claim')}

    assert not mine.tidy() and left() == {'x', 'of_a_living_one', 'just_begun'}
    (mine.folder / 'there-1-2-4.beat').unlink()
    assert mine.tidy() and left() == {'x'} and mine.holds('x')


def test_a_takeover_that_comes_too_late_is_taken_back(two, monkeypatch):
    """Between the look at a dead owner and the new claim, another process may have taken the name over and given it up again."""
    a, b = two
    a.folder.mkdir(exist_ok=True)
    (a.folder / 'x.0.claim').write_text('elsewhere-1-2-3')
    monkeypatch.setattr(claims, 'STILL', 0.0)
    a.claim('x')  # from now on the owner is known to stand still
    alive = a._alive

    def meanwhile(*who):
        dead = alive(*who)
        (a.folder / 'x.0.claim').unlink()
        return dead

    monkeypatch.setattr(a, '_alive', meanwhile)
    assert not a.claim('x') and not list(a.folder.glob('*.claim'))
    assert b.claim('x')


def test_a_late_taker_does_not_keep_the_holder_from_giving_up(two):
    """The late one's claim is there for a moment, and in it the holder releases."""
    a, b = two
    assert a.claim('x')
    (a.folder / 'x.1.claim').write_text(b.token)
    a.release('x')
    assert not (a.folder / 'x.0.claim').exists() and b.holds('x')
    b.release('x')
    assert a.claim('x')


def test_a_watcher_that_stood_still_does_not_take_that_for_the_death_of_others(two):
    a, b = two
    assert a.claim('x') and not b.claim('x') and b.claim('y')
    stop(b)
    stop(a)
    time.sleep(1)  # both machines slept
    assert not b.claim('x')


def test_every_claim_that_is_just_being_written_has_its_own_time(two):
    a, _ = two
    a.folder.mkdir(exist_ok=True)
    (a.folder / 'x.0.claim').touch()
    assert not a.claim('x')
    time.sleep(0.7)
    (a.folder / 'y.0.claim').touch()
    assert not a.claim('y') and a.claim('x')


NAMES = st.sampled_from(['a', 'b', 'a.0', '.append'])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), NAMES, st.booleans()), max_size=40))
def test_no_sequence_of_claims_gives_a_name_to_two(tmp_path_factory, acts):
    folder = tmp_path_factory.mktemp('claims')
    everyone, holder = [Claims(folder) for _ in range(3)], {}
    for who, name, wants in acts:
        if wants:
            got = everyone[who].claim(name)
            assert got == (holder.get(name, who) == who and name not in holder)
            if got:
                holder[name] = who
        else:
            everyone[who].release(name)
            if holder.get(name) == who:
                del holder[name]
        for held, by in holder.items():
            assert [one.holds(held) for one in everyone] == [by == i for i in range(3)]
    for one in everyone:
        one.close()


def test_threads_that_claim_at_once_get_it_one_at_a_time(tmp_path):
    inside, most, done = [0], [0], []

    def work():
        mine = Claims(tmp_path)
        for _ in range(10):
            while not mine.claim('x'):
                time.sleep(0.001)
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            time.sleep(0.001)
            inside[0] -= 1
            mine.release('x')
            done.append(1)
        mine.close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] and len(done) == 40 and list(tmp_path.iterdir()) == []
