"""handlers.door: what every accepted connection gets. Full houses: test_viewer_faults.py."""

import socket

from handlers.door import Door


def test_what_is_written_to_a_connection_leaves_at_once() -> None:
    """Without it a position waits until the phone has acknowledged the one before."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = listening.getsockname()
        with Door.of(listening, 1000) as door, socket.create_connection(address):
            connection, _ = door.accept()
            with connection:
                assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
