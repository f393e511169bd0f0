"""Signals end a run wherever they come, and are not lost where a library swallows what they raise."""

import os
import signal

import pytest

from pipeline.interrupts import Interrupts


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_raised_and_remembered_by_its_name(number: signal.Signals) -> None:
    with Interrupts() as interrupts:
        with pytest.raises(KeyboardInterrupt, match=number.name):
            send(number)
        assert interrupts.received == number.name
        with pytest.raises(KeyboardInterrupt, match=number.name):
            interrupts.check()


def test_an_error_that_an_interrupt_became_is_told_as_the_interrupt() -> None:
    with Interrupts() as interrupts:
        error = RuntimeError("a bundle failed")
        assert interrupts.instead_of(error) is error
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGTERM)
        assert repr(interrupts.instead_of(error)) == "KeyboardInterrupt('SIGTERM')"


def test_what_is_short_is_not_cut_off() -> None:
    with Interrupts() as interrupts:
        interrupts.hold()
        send(signal.SIGTERM)
        send(signal.SIGINT)
        interrupts.release()
        with pytest.raises(KeyboardInterrupt, match="SIGTERM"):
            interrupts.check()
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)


def test_a_signal_that_is_ignored_stays_so_and_handlers_come_back() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        usual = signal.getsignal(signal.SIGINT)
        with Interrupts() as interrupts:
            send(signal.SIGTERM)
            assert interrupts.received == ""
            assert signal.getsignal(signal.SIGINT) is not usual
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGINT) is usual
    finally:
        signal.signal(signal.SIGTERM, before)
