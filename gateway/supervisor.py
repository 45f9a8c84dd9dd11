"""Several workers that serve one front: started, watched, started again when they die, renewed one after the other.

Runs no event loop and no thread and sees no call: it forks before any of these exists and waits for signals, deaths and words.
Each worker has a line to it: single letters down, ``READY`` up. The line ends with the supervisor, however that ends, and then
its workers drain by themselves: nobody is left behind.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import select
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import inf
from pathlib import Path

from gateway.place import Place

log = logging.getLogger("gateway.workers")

STOP, HURRY, RELOAD, RETIRE, READY = b"s", b"h", b"l", b"t", b"r"
"""Words on the line: drain and end; wait no longer; read the config again; as stop, but another one is in your place already."""
AT_ONCE_S = 5.0
"""A worker that dies so soon after it was ready, or before, died at once."""
MOST_DEATHS = 5
"""So many of one place in a row, each at once, and there is no point in going on."""
FIRST_WAIT_S, LONGEST_WAIT_S = 0.25, 5.0
LOOK_S = 1.0
PATIENCE_S = 15.0
"""Beyond the grace of running calls: to settle, and to tell what is still to be told."""
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2, signal.SIGCHLD)


@dataclass(slots=True)
class _Worker:
    number: int
    generation: int
    pid: int
    line: socket.socket
    began: float
    is_ready: bool = False
    kill_at: float | None = None
    """Of one that was told to end."""


class Supervisor:
    """``work`` is what a worker does, in a process of its own: it gets its place and its line, and returns its exit status.

    ``look`` is called about once a second, and before a worker is started; it gets whether somebody asked for it. One that was
    told to end and has not ``grace_s`` later hangs, and is killed.
    """

    def __init__(
        self,
        work: Callable[[Place, socket.socket], int],
        look: Callable[[bool], None],
        *,
        grace_s: float,
        front: list[tuple[socket.socket, ...]],
        admin: tuple[socket.socket, ...],
        folder: Path,
    ) -> None:
        self._work = work
        self._look = look
        self._grace_s = grace_s
        self._front = front
        self._admin = admin
        self._folder = folder
        self._name = f"{socket.gethostname()}-{os.getpid()}"
        self._workers: dict[int, _Worker] = {}
        """By process id, those that are on their way out as well."""
        self._due: dict[int, float] = {}
        """Places without a worker: when each is started again."""
        self._deaths = [0] * len(front)
        self._generations = [0] * len(front)
        self._renewing: deque[int] = deque()
        self._stopping = False
        self._status = 0

    def run(self) -> int:
        """Until all workers have ended: 0 after a drain, 1 when a worker could not be kept alive or did not end well, and what the
        first worker says when it cannot start.
        """
        wake, bell = socket.socketpair()
        wake.setblocking(False)
        bell.setblocking(False)
        handlers = {number: signal.signal(number, _heard_by_the_bell) for number in SIGNALS}
        before = signal.set_wakeup_fd(bell.fileno(), warn_on_full_buffer=False)
        gc.collect()
        gc.freeze()  # what all have in common stays in common: the collector of a worker does not write to it
        gc.enable()
        try:
            self._start(0)
            while self._workers or self._due:
                self._wait(wake)
                for number in _signals(wake):
                    self._hear(number)
                self._reap()
                self._start_what_is_due()
                self._renew()
                self._kill_who_hangs()
                if not self._stopping:
                    self._look(False)
        finally:
            gc.unfreeze()
            signal.set_wakeup_fd(before)
            for number, handler in handlers.items():
                signal.signal(number, handler)
            wake.close()
            bell.close()
        return self._status

    # -- what happens -------------------------------------------------------------------------------------------------

    def _wait(self, wake: socket.socket) -> None:
        now = time.monotonic()
        timeout = min([LOOK_S, *(max(0.0, at - now) for at in self._due.values())])
        lines = {each.line: each for each in self._workers.values() if not each.is_ready}
        ready, _, _ = select.select([wake, *lines], [], [], timeout)
        for line in ready:
            worker = lines.get(line)
            if worker is not None and _says_ready(worker.line):
                worker.is_ready = True
                worker.began = time.monotonic()
                self._is_there(worker)

    def _is_there(self, worker: _Worker) -> None:
        """It listens: at the start the others may begin, in a renewal the one before may go."""
        if self._stopping:
            return
        if worker.number == 0:
            for number in range(len(self._front)):
                if not any(each.number == number for each in self._workers.values()) and number not in self._due:
                    self._due[number] = 0.0
        for other in self._workers.values():
            if other.number == worker.number and other.pid != worker.pid and other.kill_at is None:
                self._dismiss(other, RETIRE)

    def _hear(self, number: int) -> None:
        if number in (signal.SIGTERM, signal.SIGINT):
            self._stop()
        elif number == signal.SIGHUP:
            self._look(True)
            for worker in self._workers.values():
                _say(worker.line, RELOAD)
        elif number == signal.SIGUSR2 and not self._stopping:
            log.info("renewing %d workers, one after the other", len(self._front))
            self._renewing = deque(range(len(self._front)))

    def _stop(self) -> None:
        word = HURRY if self._stopping else STOP
        self._stopping = True
        self._due.clear()
        self._renewing.clear()
        for listening in [*self._front, self._admin]:
            for each in listening:
                each.close()
        for worker in self._workers.values():
            self._dismiss(worker, word)

    def _dismiss(self, worker: _Worker, word: bytes) -> None:
        if worker.kill_at is None:
            worker.kill_at = time.monotonic() + self._grace_s + PATIENCE_S
        _say(worker.line, word)

    def _kill_who_hangs(self) -> None:
        now = time.monotonic()
        for worker in self._workers.values():
            if worker.kill_at is not None and worker.kill_at < now:
                log.error("worker %d (process %d) does not end: it is killed", worker.number, worker.pid)
                os.kill(worker.pid, signal.SIGKILL)
                worker.kill_at = inf

    def _reap(self) -> None:
        for worker in list(self._workers.values()):
            pid, status = os.waitpid(worker.pid, os.WNOHANG)
            if pid:
                del self._workers[pid]
                worker.line.close()
                with contextlib.suppress(OSError):
                    (self._folder / f"{worker.number}-{pid}.sock").unlink()
                self._ended(worker, os.waitstatus_to_exitcode(status))

    def _ended(self, worker: _Worker, status: int) -> None:
        if worker.kill_at is not None:
            if status:
                log.error("worker %d (process %d) did not end well: %s", worker.number, worker.pid, _told(status))
                self._status = self._status or int(self._stopping)
            return
        if worker.number == 0 and not worker.is_ready and len(self._workers) == 0 and not any(self._deaths):
            self._status = status if status > 0 else 1  # it has said why
            self._stop()
            return
        if any(each.number == worker.number for each in self._workers.values()):
            log.error("worker %d (process %d) died: %s", worker.number, worker.pid, _told(status))
            if not worker.is_ready:
                self._renewing.clear()
                log.error("the other workers are not renewed: a new one could not start")
            return
        self._died(worker, status)

    def _died(self, worker: _Worker, status: int) -> None:
        """Started again: the first time at once, then after a while that doubles."""
        at_once = not worker.is_ready or time.monotonic() - worker.began < AT_ONCE_S
        self._deaths[worker.number] = deaths = self._deaths[worker.number] + 1 if at_once else 1
        wait_s = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** (deaths - 2)) if deaths > 1 else 0.0
        died = f"worker {worker.number} (process {worker.pid}) died: {_told(status)}"
        if deaths >= MOST_DEATHS:
            log.critical("%s; that was the %dth time in a row: giving up", died, deaths)
            self._status = 1
            self._stop()
            return
        log.error("%s; it is started again%s", died, f" in {wait_s:g} s" if wait_s else "")
        self._due[worker.number] = time.monotonic() + wait_s

    # -- starting -----------------------------------------------------------------------------------------------------

    def _start_what_is_due(self) -> None:
        now = time.monotonic()
        for number in sorted(number for number, at in self._due.items() if at <= now):
            del self._due[number]
            self._start(number)

    def _renew(self) -> None:
        """The next one, when the one before is there."""
        if not self._renewing or self._due or not all(each.is_ready for each in self._workers.values()):
            return
        number = self._renewing.popleft()
        self._generations[number] += 1
        self._start(number)

    def _start(self, number: int) -> None:
        self._look(False)
        generation = self._generations[number]
        place = Place(
            number,
            len(self._front),
            f"{self._name}-{number}" + f".{generation}" * bool(generation),
            self._folder,
            self._front[number],
            self._admin if number == 0 else (),
        )
        ours, theirs = socket.socketpair()
        sys.stdout.flush()
        sys.stderr.flush()
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        pid = os.fork()
        if pid == 0:
            ours.close()
            self._become(place, theirs)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        theirs.close()
        ours.setblocking(False)
        self._workers[pid] = _Worker(number, generation, pid, ours, time.monotonic())

    def _become(self, place: Place, line: socket.socket) -> None:
        """The rest of the life of a worker; does not return."""
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in SIGNALS:
                signal.signal(number, signal.SIG_DFL if number == signal.SIGCHLD else signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            for worker in self._workers.values():
                worker.line.close()  # else the others would not hear that the supervisor is gone
            for at, listening in enumerate([*self._front, self._admin]):
                if at != place.number and not (listening is self._admin and place.admin):
                    for each in listening:
                        each.close()
            status = self._work(place, line)
        except BaseException:
            log.exception("a bug in a worker")
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(status)


def _heard_by_the_bell(number: int, frame: object) -> None:
    """The number is in the pipe already (``set_wakeup_fd``)."""


def _signals(wake: socket.socket) -> Iterator[int]:
    with contextlib.suppress(BlockingIOError):
        yield from wake.recv(4096)


def _says_ready(line: socket.socket) -> bool:
    try:
        return line.recv(1) == READY
    except OSError:
        return False


def _say(line: socket.socket, word: bytes) -> None:
    with contextlib.suppress(OSError):  # it is gone: its death is noticed elsewhere
        line.send(word)


def _told(status: int) -> str:
    return f"exit status {status}" if status >= 0 else f"signal {-status} ({signal.Signals(-status).name})"
