"""How the gateway accepts connections."""

import asyncio
import socket

from image_classification_trash.serving.http.connections import Acceptor, BoundedLoop, ConnectionLimits


def test_both_parts_of_an_answer_are_sent_at_once() -> None:
    """Without TCP_NODELAY the second part waits for the acknowledgement of the first, which clients delay by 40 ms."""
    loop = BoundedLoop(ConnectionLimits(4, 0))
    accepted: asyncio.Future[asyncio.BaseTransport] = loop.create_future()

    class Accepted(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            accepted.set_result(transport)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        acceptor = Acceptor(loop, listening, Accepted)
        with socket.create_connection(listening.getsockname()):
            transport = loop.run_until_complete(accepted)
            assert transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            transport.close()
        acceptor.close()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
