"""Tests reach this machine and nothing else, however they try."""

import asyncio
import socket

import pytest
from django.conf import settings

#: An address that is documentation's (RFC 5737), so that even a failing test reaches nobody.
ELSEWHERE = "192.0.2.1"


def test_no_connection_leaves_the_machine():
    with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
        for attempt in (
            lambda: tcp.connect((ELSEWHERE, 25)),
            lambda: tcp.connect_ex((ELSEWHERE, 25)),
            lambda: udp.sendto(b"x", (ELSEWHERE, 53)),
            lambda: udp.sendto(b"x", 0, (ELSEWHERE, 53)),
            lambda: socket.create_connection((ELSEWHERE, 25), timeout=1),
        ):
            with pytest.raises(ConnectionRefusedError, match=ELSEWHERE):
                attempt()


def test_no_name_is_looked_up_elsewhere():
    with pytest.raises(ConnectionRefusedError, match="mail.example"):
        socket.create_connection(("mail.example", 25), timeout=1)


def test_asynchronous_code_does_not_leave_the_machine_either():
    async def attempt():
        await asyncio.open_connection(ELSEWHERE, 25)

    with pytest.raises(ConnectionRefusedError, match=ELSEWHERE):
        asyncio.run(attempt())


def test_this_machine_is_reached():
    with socket.create_server(("127.0.0.1", 0)) as server:
        with socket.create_connection(server.getsockname()) as client:
            client.sendall(b"x")
        with socket.create_connection(("localhost", server.getsockname()[1])):
            pass


def test_mail_is_routed_to_this_machine():
    assert settings.HIPAAMAIL_ROUTES.startswith("*=127.0.0.1:")
