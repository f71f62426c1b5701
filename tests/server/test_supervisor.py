"""The supervisor: lines with names, restarts with pauses, stops in order and in time."""

import io
import os
import signal
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from metering.server.embedded.supervisor import ChildFailedError, ChildSpec, Supervisor
from tests.server.processes import SLEEP, STUBBORN, is_over, python
from tests.waiting import eventually


def test_lines_are_printed_with_the_name_of_who_said_them() -> None:
    output = io.StringIO()
    with Supervisor(output=output) as supervisor:
        supervisor.start([python("talker", "print('hello'); import time; time.sleep(60)")])
        assert eventually(lambda: "talker     | hello\n" in output.getvalue())


def test_a_child_that_dies_is_restarted_and_the_reason_is_said() -> None:
    output = io.StringIO()
    with Supervisor(output=output) as supervisor:
        supervisor.start([python("mortal", SLEEP)])
        first = supervisor.pid_of("mortal")
        assert first is not None
        os.kill(first, signal.SIGKILL)
        assert eventually(lambda: supervisor.restarts_of("mortal") == 1)
        assert eventually(lambda: supervisor.pid_of("mortal") not in (None, first))
    assert "mortal was killed by SIGKILL; restarting in 0.2 s" in output.getvalue()


def test_a_child_that_keeps_dying_is_restarted_ever_more_slowly() -> None:
    output = io.StringIO()
    with Supervisor(output=output) as supervisor:
        supervisor.start([python("broken", "raise SystemExit(3)")])
        assert eventually(lambda: supervisor.restarts_of("broken") >= 3)
    said = [line for line in output.getvalue().splitlines() if "broken exited with code 3" in line]
    waits = ["0.2 s (restart 1)", "0.4 s (restart 2)", "0.8 s (restart 3)"]
    assert [line.rsplit("restarting in ")[1] for line in said[:3]] == waits


def test_a_child_that_never_becomes_ready_is_an_error_with_its_last_lines() -> None:
    with Supervisor(quiet=True) as supervisor:
        gives_up = r"(?s)doomed exited with code 1, for the 4th time before it was ready; .*no such luck"
        with pytest.raises(ChildFailedError, match=gives_up):
            supervisor.start([python("doomed", "raise SystemExit('no such luck')", ready=lambda: False)])
        assert supervisor.restarts_of("doomed") == 3
        with pytest.raises(ChildFailedError, match="slow did not become ready"):
            supervisor.start([python("slow", SLEEP, ready=lambda: False, ready_timeout=0.3)])


def test_a_child_that_dies_before_it_is_ready_is_started_again(tmp_path: Path) -> None:
    tries = tmp_path / "tries"
    tries.touch()
    code = f"f = open({str(tries)!r}, 'a'); f.write('x'); f.close(); import os, time; time.sleep(0.2)"
    third = f"{code}; len(open({str(tries)!r}).read()) < 3 and os.kill(os.getpid(), 9); {SLEEP}"
    output = io.StringIO()
    with Supervisor(output=output) as supervisor:
        supervisor.start([python("weak", third, ready=lambda: supervisor.restarts_of("weak") == 2)])
        assert supervisor.pid_of("weak") is not None
    assert output.getvalue().count("weak was killed by SIGKILL; restarting in") == 2


def test_groups_stop_in_reverse_and_a_group_all_at_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    # One ends when all of its group have been asked to, so a group that is stopped one by one does not end.
    note = (
        "import os, signal, sys, time\n"
        "name, group = sys.argv[1:]\n"
        "def stop(*_):\n"
        f"    open({str(tmp_path)!r} + '/asked-' + name, 'w').close()\n"
        f"    while not all(os.path.exists({str(tmp_path)!r} + '/asked-' + each) for each in group):\n"
        "        time.sleep(0.01)\n"
        f"    open({str(log)!r}, 'a').write(name); sys.exit()\n"
        "signal.signal(signal.SIGTERM, stop); print('up'); time.sleep(600)"
    )
    output = io.StringIO()
    supervisor = Supervisor(output=output)
    for group in ("1", "234"):
        supervisor.start(
            [ChildSpec(name=name, argv=[sys.executable, "-u", "-c", note, name, group]) for name in group]
        )
    assert eventually(lambda: output.getvalue().count("| up") == 4)
    supervisor.stop()
    assert "killing" not in output.getvalue()
    order = log.read_text()
    assert order[-1] == "1"
    assert sorted(order[:3]) == ["2", "3", "4"]


def test_a_child_that_does_not_heed_its_signal_is_killed_with_all_it_started() -> None:
    output = io.StringIO()
    code = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {SLEEP!r}]); {STUBBORN}"
    supervisor = Supervisor(output=output)
    supervisor.start([python("stubborn", code, stop_timeout=0.5)])
    assert eventually(lambda: "| up" in output.getvalue())
    pid = supervisor.pid_of("stubborn")
    assert pid is not None
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    assert len(family) == 2
    began = time.monotonic()
    supervisor.stop()
    assert time.monotonic() - began < 2
    assert "stubborn does not stop; killing it" in output.getvalue()
    assert eventually(lambda: all(map(is_over, family)))


def test_nothing_is_left_behind() -> None:
    before = (threading.active_count(), len(os.listdir("/proc/self/fd")), len(psutil.Process().children()))
    for _ in range(3):
        with Supervisor(quiet=True) as supervisor:
            supervisor.start([python("a", SLEEP), python("b", SLEEP)])
    assert eventually(
        lambda: (
            (threading.active_count(), len(os.listdir("/proc/self/fd")), len(psutil.Process().children()))
            == before
        )
    )


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can tie a process to the life of another")
def test_children_do_not_outlive_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    told = tmp_path / "pid"
    code = (
        "import sys, time\n"
        "from metering.server.embedded.supervisor import ChildSpec, Supervisor\n"
        "s = Supervisor()\n"
        f"s.start([ChildSpec(name='c', argv=[sys.executable, '-c', {SLEEP!r}])])\n"
        f"open({str(told)!r}, 'w').write(str(s.pid_of('c')) + '.')\n"
        "time.sleep(60)\n"
    )
    with Supervisor(quiet=True) as supervisor:
        supervisor.start([python("supervisor", code)])
        assert eventually(lambda: told.exists() and told.read_text().endswith("."))
        child = psutil.Process(int(told.read_text()[:-1]))
        owner = supervisor.pid_of("supervisor")
        assert owner is not None
        os.kill(owner, signal.SIGKILL)
        assert eventually(lambda: is_over(child))
