"""The supervisor in trouble: a reader that is gone, odd deaths, failing starts, impatient people."""

import errno
import io
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from metering.server.embedded import supervisor as supervisor_module
from metering.server.embedded.supervisor import ChildFailedError, Supervisor
from tests.server.processes import SLEEP, STUBBORN, is_over, python, started
from tests.waiting import eventually

# A `start()` or `stop()` that hangs is one of the failures looked for here.
pytestmark = pytest.mark.timeout(30)


def kill(supervisor: Supervisor, name: str, number: int = signal.SIGKILL) -> None:
    pid = supervisor.pid_of(name)
    assert pid is not None
    os.kill(pid, number)


class Gone(io.StringIO):
    """A pipe whose reader has left."""

    def write(self, _text: str) -> int:
        raise BrokenPipeError(errno.EPIPE, "broken pipe")


def test_children_go_on_and_are_restarted_when_their_output_is_not_read(tmp_path: Path) -> None:
    done = tmp_path / "done"
    # More than a pipe holds: a reader that had given up would leave the child waiting for ever.
    code = f"print('x' * 1_000_000); open({str(done)!r}, 'w').close(); {SLEEP}"
    with Supervisor(output=Gone()) as supervisor:
        supervisor.start([python("talker", code)])
        assert eventually(done.exists)
        kill(supervisor, "talker")
        assert eventually(lambda: supervisor.restarts_of("talker") == 1)


class Slow(io.StringIO):
    """A terminal that takes its time."""

    def write(self, text: str) -> int:
        time.sleep(0.001)
        return super().write(text)


def test_what_children_say_last_is_printed_before_stop_returns() -> None:
    output = Slow()
    code = (
        "import signal, sys, time\n"
        "def stop(*_):\n    print('\\n'.join(map(str, range(150)))); print('last words'); sys.exit()\n"
        "signal.signal(signal.SIGTERM, stop); print('up'); time.sleep(60)"
    )
    with Supervisor(output=output) as supervisor:
        supervisor.start([python("talker", code)])
        assert eventually(lambda: "| up" in output.getvalue())
    assert output.getvalue().endswith("talker     | last words\n")


def test_what_a_dead_child_had_started_is_ended_before_it_is_restarted() -> None:
    code = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {SLEEP!r}]); {SLEEP}"
    with Supervisor(quiet=True) as supervisor:
        supervisor.start([python("parent", code)])
        pid = supervisor.pid_of("parent")
        assert pid is not None
        assert eventually(lambda: len(psutil.Process(pid).children()) == 1)
        (grandchild,) = psutil.Process(pid).children()
        os.kill(pid, signal.SIGKILL)
        assert eventually(lambda: supervisor.restarts_of("parent") == 1)
        assert eventually(lambda: is_over(grandchild))


@pytest.mark.skipif(not hasattr(signal, "SIGRTMIN"), reason="this system has no real-time signals")
def test_a_death_by_a_signal_without_a_name_is_restarted_too() -> None:
    output = io.StringIO()
    with Supervisor(output=output) as supervisor:
        supervisor.start([python("odd", SLEEP)])
        kill(supervisor, "odd", signal.SIGRTMIN + 1)
        assert eventually(lambda: supervisor.restarts_of("odd") == 1)
    assert f"odd was killed by signal {signal.SIGRTMIN + 1}" in output.getvalue()


def test_a_restart_that_fails_for_want_of_processes_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    output = io.StringIO()
    with Supervisor(output=output) as supervisor:
        supervisor.start([python("mortal", SLEEP)])
        with monkeypatch.context() as patched:

            def refuse(*_: object, **__: object) -> None:
                raise OSError(errno.EAGAIN, "no more processes")

            patched.setattr(subprocess, "Popen", refuse)
            kill(supervisor, "mortal")
            assert eventually(lambda: "mortal cannot be started (no more processes)" in output.getvalue())
        assert eventually(lambda: supervisor.restarts_of("mortal") == 1)
        assert eventually(lambda: supervisor.pid_of("mortal") is not None)


def test_a_child_that_dies_while_another_gets_ready_is_restarted_meanwhile() -> None:
    with Supervisor(quiet=True) as supervisor:
        supervisor.start([python("first", SLEEP)])
        kill(supervisor, "first")
        supervisor.start([python("second", SLEEP, ready=lambda: supervisor.restarts_of("first") == 1)])


def test_an_error_in_a_ready_check_reaches_the_caller_and_the_supervisor_goes_on() -> None:
    def broken() -> bool:
        raise RuntimeError("the check itself is broken")

    with Supervisor(quiet=True) as supervisor:
        with pytest.raises(RuntimeError, match="the check itself is broken"):
            supervisor.start([python("checked", SLEEP, ready=broken)])
        supervisor.start([python("next", SLEEP)])
        assert supervisor.pid_of("next") is not None


def test_a_start_after_the_stop_is_refused() -> None:
    with Supervisor(quiet=True) as supervisor:
        supervisor.stop()
        with pytest.raises(ChildFailedError, match="late not started: the supervisor has stopped"):
            supervisor.start([python("late", SLEEP)])


def test_groups_that_do_not_stop_share_the_time_that_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor_module, "STOP_SECONDS", 1.0)
    output = io.StringIO()
    supervisor = Supervisor(output=output)
    for name in ("one", "two", "three"):
        supervisor.start([python(name, STUBBORN, stop_timeout=30)])
    assert eventually(lambda: output.getvalue().count("| up") == 3)
    began = time.monotonic()
    supervisor.stop()
    assert 0.9 < time.monotonic() - began < 3
    assert output.getvalue().count("does not stop; killing it") == 3


def catches(pid: int, number: signal.Signals) -> bool:
    """Whether a process has a handler for a signal."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = int(re.search(r"SigCgt:\s*(\w+)", status)[1], 16)  # type: ignore[index]
    return bool(caught >> (number - 1) & 1)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells which signals a process catches")
def test_a_second_interrupt_kills_at_once() -> None:
    code = (
        "import sys\n"
        "from metering.server.embedded.supervisor import ChildSpec, Supervisor\n"
        "with Supervisor(output=sys.stdout) as supervisor:\n"
        f"    supervisor.start([ChildSpec(name='stubborn', argv=[sys.executable, '-u', '-c', {STUBBORN!r}],\n"
        "                                stop_timeout=60)])\n"
        "    supervisor.run_until_signal()\n"
    )
    command = [sys.executable, "-u", "-c", code]
    with started(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "stubborn   | up\n"
        # run_until_signal says nothing until there is one; from then on, SIGTERM is caught.
        assert eventually(lambda: catches(process.pid, signal.SIGTERM))
        process.send_signal(signal.SIGINT)
        assert "press Ctrl-C again to kill at once" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        began = time.monotonic()
        assert "stubborn does not stop; killing it" in process.stdout.readline()
        assert process.wait(timeout=60) == 0
        assert time.monotonic() - began < 2


def test_whoever_reads_the_greeting_may_stop_it_at_once() -> None:
    code = (
        "import os, signal\n"
        "from metering.server.embedded.supervisor import Supervisor\n"
        "with Supervisor() as supervisor:\n"
        "    supervisor.run_until_signal(greet=lambda: os.kill(os.getpid(), signal.SIGINT))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
