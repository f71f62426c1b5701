"""A program in a real pseudo-terminal: what a person sees at a width, and what Ctrl-C does."""

import fcntl
import os
import pty
import re
import select
import struct
import termios
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import monotonic

# A machine that is busy with something else may be slow.
TIMEOUT_SECONDS = 120
CTRL_C = b"\x03"
_COLOUR = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


@dataclass(frozen=True, slots=True)
class Seen:
    """All that was written to the terminal, and how the program ended."""

    raw: str
    exit_code: int

    @property
    def text(self) -> str:
        """Without colours and movements of the cursor."""
        return _COLOUR.sub("", self.raw)

    @property
    def lines(self) -> list[str]:
        """The lines of the text, without spaces at their ends."""
        return [line.rstrip() for line in self.text.splitlines()]


def in_terminal(
    command: Sequence[str],
    *,
    columns: int,
    environment: Mapping[str, str],
    interrupt_at: str | None = None,
    answer: tuple[str, str] | None = None,
) -> Seen:
    """Run a program in a terminal of this width; press Ctrl-C when this text has appeared ("": at once).

    `answer` is a text, and what is typed when it has appeared.
    """
    given = {**environment, "TERM": "xterm-256color"}
    given.pop("COLUMNS", None)
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvpe(command[0], command, given)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    try:
        written = _read(terminal, interrupt_at, answer)
    finally:
        os.close(terminal)
        _, status = os.waitpid(pid, 0)
    return Seen(written.decode().replace("\r\n", "\n"), os.waitstatus_to_exitcode(status))


def _read(terminal: int, interrupt_at: str | None, answer: tuple[str, str] | None) -> bytes:
    written = b""
    deadline = monotonic() + TIMEOUT_SECONDS
    while monotonic() < deadline:
        if interrupt_at is not None and interrupt_at.encode() in written:
            os.write(terminal, CTRL_C)
            interrupt_at = None
        if answer is not None and answer[0].encode() in written:
            os.write(terminal, f"{answer[1]}\n".encode())
            answer = None
        if not select.select([terminal], [], [], 0.05)[0]:
            continue
        try:
            part = os.read(terminal, 65_536)
        except OSError:  # Linux: the program has closed its end
            return written
        if not part:
            return written
        written += part
    raise AssertionError(f"the program did not end; it wrote {written!r}")
