"""`metering export` as a person or a script meets it."""

import json
import os
import pty
import signal
import stat
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from tests.command_line import CommandLine, Ended
from tests.exports.files import content, read_parquet
from tests.exports.scene import Scene, more_charges
from tests.waiting import eventually

ARGUMENTS = ("--period", "2026-11")


def metering(scene: Scene) -> CommandLine:
    return CommandLine(scene.database, METERING_ISSUER_NAME="Gateway Inc.")


def run(scene: Scene, *arguments: str) -> Ended:
    return metering(scene).run("export", *arguments)


@pytest.mark.parametrize("kind", ["charges", "invoice-lines", "focus"])
def test_without_a_file_the_export_is_standard_output_and_nothing_else_is(shared_scene: Scene, kind: str) -> None:
    done = run(shared_scene, kind, *ARGUMENTS)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.output == content(shared_scene.service.engine, kind, "csv")


def test_a_file_is_written_whole_and_its_path_is_printed(shared_scene: Scene, tmp_path: Path) -> None:
    out = tmp_path / "november.parquet"
    done = run(
        shared_scene,
        "charges",
        *ARGUMENTS,
        "--format",
        "parquet",
        "--customer",
        "acme",
        "--out",
        str(out),
        "--json",
    )
    assert done.returncode == 0, done.stderr
    rows = read_parquet(out.read_bytes())
    told = json.loads(done.stdout)
    assert (told["file"], told["rows"], told["bytes"]) == (str(out), len(rows), out.stat().st_size)
    assert {row["customer_id"] for row in rows} == {"acme"}
    assert list(tmp_path.iterdir()) == [out]
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(out.stat().st_mode) == 0o666 & ~mask


def test_a_failed_export_leaves_what_was_there(scene: Scene, tmp_path: Path) -> None:
    out = tmp_path / "november.csv"
    out.write_text("from before")
    with psycopg.connect(scene.database.url) as connection:
        connection.execute("UPDATE charges SET usd_cents = usd_cents + 1 WHERE stream_id = 's1'")
    done = run(scene, "charges", *ARGUMENTS, "--out", str(out))
    assert done.returncode == 1
    assert "metering: 2026-11 of customer 'acme': cost_usd_cents sums to 448" in done.stderr
    assert out.read_text() == "from before"
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGKILL])
def test_an_export_that_is_stopped_leaves_no_file_of_that_name(
    scene: Scene, tmp_path: Path, stop: signal.Signals
) -> None:
    for number in range(6):  # enough to be stopped in the middle
        more_charges(scene.database, f"zz-{number}")
    out = tmp_path / "december.csv"
    arguments = ("export", "charges", "--period", "2026-12", "--out", str(out))
    with metering(scene).start(*arguments, stderr=subprocess.DEVNULL) as running:
        assert eventually(lambda: any(part.stat().st_size > 0 for part in tmp_path.iterdir()))
        running.send_signal(stop)
        assert running.wait(timeout=60) != 0
    assert not out.exists()
    if stop is signal.SIGINT:
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("charges", "--period", "2026-13"), 1, "period: expected a month such as 2026-10, got '2026-13'"),
        (("charges", *ARGUMENTS, "--customer", "nobody"), 1, "there is no customer 'nobody'"),
        (
            ("charges", *ARGUMENTS, "--out", "/nowhere/file.csv"),
            1,
            "/nowhere/file.csv cannot be written: No such file",
        ),
        (("charges", *ARGUMENTS, "--json"), 2, "standard output is the file"),
        (("customers", *ARGUMENTS), 2, "'customers' is not one of"),
        (("charges",), 2, "Missing option '--period'"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(
    shared_scene: Scene, arguments: tuple[str, ...], code: int, says: str
) -> None:
    done = run(shared_scene, *arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert says in " ".join(done.stderr.replace("│", " ").split())
    assert "Traceback" not in done.stderr


def test_a_device_or_a_pipe_is_written_to_and_stays_what_it_is(shared_scene: Scene, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as reader:
        read = reader.submit(pipe.read_bytes)
        done = run(shared_scene, "charges", *ARGUMENTS, "--out", str(pipe), "--json")
    assert pipe.is_fifo()
    assert list(tmp_path.iterdir()) == [pipe]
    assert read.result() == run(shared_scene, "charges", *ARGUMENTS).output
    assert json.loads(done.stdout)["bytes"] == len(read.result()) > 0


def test_the_file_that_a_link_leads_to_is_written(shared_scene: Scene, tmp_path: Path) -> None:
    (tmp_path / "link.csv").symlink_to(tmp_path / "november.csv")
    run(shared_scene, "charges", *ARGUMENTS, "--out", str(tmp_path / "link.csv"))
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "november.csv").read_bytes() == run(shared_scene, "charges", *ARGUMENTS).output


def test_a_folder_is_refused_before_anything_is_read(shared_scene: Scene, tmp_path: Path) -> None:
    done = run(shared_scene, "charges", *ARGUMENTS, "--out", str(tmp_path))
    assert (done.returncode, done.stdout) == (1, "")
    assert f"{tmp_path} is a folder: name a file in it" in " ".join(done.stderr.split())


def test_on_a_terminal_it_shows_how_far_it_is_and_parquet_wants_a_file(scene: Scene, tmp_path: Path) -> None:
    more_charges(scene.database, "zz-many")
    out = tmp_path / "december.csv"
    code, shown = in_terminal(scene, "charges", "--period", "2026-12", "--out", str(out))
    assert code == 0
    assert "exporting charges" in shown
    assert " rows, " in shown
    assert " rows/s" in shown
    assert f"wrote {out}: 30,004 rows" in shown
    code, shown = in_terminal(scene, "charges", *ARGUMENTS, "--format", "parquet")
    assert code == 2
    assert "name a file" in shown


def in_terminal(scene: Scene, *arguments: str) -> tuple[int, str]:
    """The exit code, and what a terminal is shown."""
    ours, theirs = pty.openpty()
    command = CommandLine(scene.database, TERM="xterm")
    with command.start("export", *arguments, stdout=theirs, stderr=theirs) as running:
        os.close(theirs)
        shown = b""
        try:
            while part := os.read(ours, 65_536):
                shown += part
        except OSError:  # a terminal that nobody writes to any more
            pass
        os.close(ours)
        return running.wait(timeout=60), shown.decode()
