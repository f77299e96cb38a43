"""Free ports of this machine."""

import random
import socket


def free_port() -> int:
    """Returns a port below those that the kernel hands out by itself, which other tests take."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)):
                return port
