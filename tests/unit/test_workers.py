"""What several workers need of the machine: sockets, processors, a name of each one's own."""

from __future__ import annotations

import socket

import pytest

from gateway import workers
from gateway.listening import open_listeners, port_of
from gateway.observe.otel_env import of_worker


def close(listeners: list[tuple[socket.socket, ...]]) -> None:
    for row in listeners:
        for each in row:
            each.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_one_port_for_all(host: str) -> None:
    """Port 0 is one free port, for every worker and every address of the name."""
    found = open_listeners(host, 0, 3)
    ports = {each.getsockname()[1] for row in found for each in row}
    close(found)
    assert (len(ports), len(found)) == (1, 3)


def test_a_port_is_not_shared_with_another_gateway() -> None:
    """SO_REUSEPORT would let two gateways of one user share it, half of the calls each."""
    found = open_listeners("127.0.0.1", 0, 2)
    with pytest.raises(OSError, match=r"cannot listen on 127\.0\.0\.1"):
        open_listeners("127.0.0.1", port_of(found), 2)
    port = port_of(found)
    close(found)
    close(open_listeners("127.0.0.1", port, 1))


def test_processors_are_those_of_the_mask_and_of_the_container(monkeypatch, tmp_path) -> None:
    """A container with two processors' time on a machine of many has two workers."""
    monkeypatch.setattr(workers.os, "sched_getaffinity", lambda pid: set(range(8)))
    for text, count in (("max 100000\n", 8), ("200000 100000\n", 2), ("150000 100000\n", 2), ("10000 100000\n", 1)):
        (tmp_path / "cpu.max").write_text(text)
        monkeypatch.setattr(workers, "CPU_MAX", tmp_path / "cpu.max")
        assert workers.usable_processors() == count
    monkeypatch.setattr(workers, "CPU_MAX", tmp_path / "not-there")
    assert workers.usable_processors() == 8


def test_each_worker_is_an_instance_of_its_own() -> None:
    """Sums that are pushed under one name would replace one another."""
    told = of_worker({"OTEL_RESOURCE_ATTRIBUTES": "a=b, service.instance.id=here,c=d"}, 3)
    assert told == "a=b, service.instance.id=here-3,c=d"
