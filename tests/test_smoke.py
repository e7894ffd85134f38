"""Every replication runs at smoke scale, from a copy, draws no experimental verdict, and asks no network."""

import subprocess
import sys
from pathlib import Path

import pytest

from paperkit.completeness import problems
from paperkit.pipeline import found_replications
from paperkit.readiness import smoke_problems

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", found_replications(ROOT))
def test_every_stage_of_a_replication_runs_at_smoke_scale_and_opens_no_socket_but_on_loopback(name, sockets):
    assert problems(smoke_problems, ROOT, name) == []
    assert sockets.read_text() == ""


@pytest.mark.parametrize(
    ("call", "noted"),
    [
        ("socket.socket().connect(('192.0.2.1', 9))", "socket.connect 192.0.2.1"),
        ("socket.socket(type=socket.SOCK_DGRAM).sendto(b'1', ('192.0.2.1', 9))", "socket.sendto 192.0.2.1"),
        ("socket.getaddrinfo('host.example', 80)", "socket.getaddrinfo host.example"),
        ("socket.socket().bind(('0.0.0.0', 0))", "socket.bind 0.0.0.0"),
        ("socket.socket().bind(('127.0.0.1', 0))", ""),
        ("socket.socket(socket.AF_UNIX).bind('here')", ""),
        ("socket.getaddrinfo('localhost', 80)", ""),
    ],
)
def test_a_socket_that_leaves_the_machine_is_noted_and_refused(call, noted, sockets, tmp_path):
    command = [sys.executable, "-W", "ignore", "-c", f"import socket; {call}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert sockets.read_text().startswith(noted)
    assert (done.returncode, bool(sockets.read_text())) == ((1, True) if noted else (0, False)), done.stderr
