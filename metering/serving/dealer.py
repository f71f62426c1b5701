"""Deals new connections to processes: each goes to the one that has the fewest open.

With a listening socket that processes share, one of them gets nearly all connections while none is busy, since the
kernel wakes them in the same order each time.
"""

import contextlib
import logging
import selectors
import socket
import struct
import time
from collections import deque
from dataclasses import dataclass, field
from datetime import timedelta

log = logging.getLogger(__name__)

# What a process reports: its open connections, and how many it has taken in its life.
REPORT = struct.Struct("=QQ")
# Goes with each connection, since a message of no bytes carries no descriptor.
CONNECTION = b"c"
_AT_ONCE = 64
# A process that has so many connections to take is passed over.
MAX_UNTAKEN = 64
_FULL_PAUSE = timedelta(milliseconds=10)
_NO_ROOM_PAUSE = timedelta(milliseconds=100)


@dataclass(slots=True, eq=False)
class Hand:
    """One process as the dealer sees it. It is dealt to once it has reported.

    Connections that it has not taken yet are kept here too: if it dies, another gets them.
    """

    channel: socket.socket
    theirs: socket.socket
    open: int = 0
    given: int = 0
    is_ready: bool = False
    untaken: deque[socket.socket] = field(default_factory=deque)

    @property
    def load(self) -> int:
        """Its open connections, with those that it was given and has not taken yet."""
        return self.open + len(self.untaken)

    def give(self, connection: socket.socket) -> bool:
        """Whether it has room for the connection, which is then its own."""
        if not self.is_ready or len(self.untaken) >= MAX_UNTAKEN:
            return False
        try:
            socket.send_fds(self.channel, [CONNECTION], [connection.fileno()])
        except OSError:
            return False
        self.given += 1
        self.untaken.append(connection)
        return True

    def note(self, report: bytes) -> None:
        """What the process reports."""
        self.open, taken = REPORT.unpack(report)
        self.is_ready = True
        while self.untaken and self.given - len(self.untaken) < taken:
            self.untaken.popleft().close()


class Dealer:
    """Accepts the connections of a listening socket and deals them. Not safe for threads."""

    def __init__(self, listening: socket.socket) -> None:
        self._listening = listening
        self._hands: list[Hand] = []
        self._selector = selectors.DefaultSelector()
        # Connections that no process had room for.
        self._held: deque[socket.socket] = deque()
        self._is_accepting = False

    def add(self) -> Hand:
        """A process that will be started; it inherits `theirs`, which is then to be closed here."""
        channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        channel.setblocking(False)
        theirs.setblocking(False)
        hand = Hand(channel, theirs)
        self._hands.append(hand)
        self._selector.register(channel, selectors.EVENT_READ, hand)
        return hand

    def remove(self, hand: Hand) -> None:
        """Deal no more to a process that has ended, and give to others what it has not taken."""
        if hand in self._hands:
            self._hands.remove(hand)
            self._selector.unregister(hand.channel)
            hand.channel.close()
            self._held.extend(hand.untaken)

    def deal(self, *, within: timedelta) -> None:
        """Wait at most this long for connections and reports, and handle what has come."""
        while self._held and self._give(self._held[0]):
            self._held.popleft()
        self._accept_while(not self._held and any(hand.is_ready for hand in self._hands))
        if self._held:
            within = min(within, _FULL_PAUSE)
        for key, _ in self._selector.select(within.total_seconds()):
            if key.data is None:
                self._accept()
            else:
                self._read_reports(key.data)

    def close(self) -> None:
        """Accept nothing more; what a process was given is its own."""
        self._accept_while(False)
        self._listening.close()
        for connection in (*self._held, *(each for hand in self._hands for each in hand.untaken)):
            connection.close()

    def _accept_while(self, wanted: bool) -> None:
        """Connections wait in the kernel while no process can take one."""
        if wanted and not self._is_accepting:
            self._selector.register(self._listening, selectors.EVENT_READ, None)
        elif self._is_accepting and not wanted:
            self._selector.unregister(self._listening)
        self._is_accepting = wanted

    def _accept(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                connection, _address = self._listening.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                # Too many open files, or no memory: that passes, and the connection waits in the kernel.
                log.error("cannot accept a connection: %s", error.strerror)
                time.sleep(_NO_ROOM_PAUSE.total_seconds())
                return
            if not self._give(connection):
                self._held.append(connection)
                return

    def _give(self, connection: socket.socket) -> bool:
        """To the process with the fewest connections of those that have room."""
        return any(hand.give(connection) for hand in sorted(self._hands, key=lambda hand: hand.load))

    def _read_reports(self, hand: Hand) -> None:
        with contextlib.suppress(BlockingIOError):
            while report := _received(hand.channel):
                hand.note(report)
            self.remove(hand)


def _received(channel: socket.socket) -> bytes:
    """The next report; nothing once the process has closed its side or ended."""
    try:
        return channel.recv(REPORT.size)
    except ConnectionError:
        return b""
