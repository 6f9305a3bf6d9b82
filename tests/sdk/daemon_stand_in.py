"""A daemon for tools that does what the test says: real TLS and login, then frames by hand; and somebody in between.

with Daemon(folder) as daemon:
    tool = daemon.serve()              # in a greenlet: the next connection, logged in; see stand_in
    group = agentsdk.connect(daemon.address, user=USER, password=PASSWORD)
"""

import ssl
from pathlib import Path
from typing import Any

import gevent
import scramp
from gevent import socket

from agent.certificate import fingerprinted, own_certificate
from agent.errors import Refused
from agent.handshake import Identity, Verifier
from agent.reception import Gate, receive
from sdk.python.agentsdk import dialer
from tests.sdk.stand_in import TIMEOUT_S, Application, Listener

USER, PASSWORD = "ada", "correct horse battery"
NAME = "192.168.1.11"
ROUNDS = 4096


class Daemon(Listener):
    """`no` is what it says to everybody who comes, an ERROR's (code, text)."""

    def __init__(self, folder: Path, password: str = PASSWORD) -> None:
        super().__init__()
        self.no: tuple[str, str] | None = None
        self._certificate = own_certificate(folder)
        auth = scramp.ScramMechanism("SCRAM-SHA-256-PLUS").make_auth_info(password, iteration_count=ROUNDS)
        self._verifier = Verifier(*auth)

    def __enter__(self) -> "Daemon":
        return self

    def accept_tls(self) -> ssl.SSLSocket:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._certificate)
        sock = context.wrap_socket(self.accept(), server_side=True)
        self._open.append(sock)
        return sock

    def tool(self) -> Application:
        """The next connection, logged in. Raises Refused where it was not let in."""

        def greet(_hello: Any, _address: str) -> None:
            if self.no:
                raise Refused(*self.no)

        gate = Gate(greet, lambda _role, _name: self._verifier, lambda *_: None, lambda *_: None)
        sock = self.accept_tls()
        receive(sock, fingerprinted(self._certificate), gate, Identity("daemon", NAME, "test", 0), "test")
        return Application(sock)

    def serve(self) -> "gevent.Greenlet[Application]":
        return gevent.spawn(self.tool)


class Between(Listener):
    """Somebody in between: TLS with a certificate of his own on one side, and with the daemon on the other."""

    def __init__(self, folder: Path, daemon: str) -> None:
        super().__init__()
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(own_certificate(folder))
        self._daemon = daemon
        self.heard = b""
        gevent.spawn(self._relay)

    def _relay(self) -> None:
        near = self._context.wrap_socket(self.accept(), server_side=True)
        host, _, port = self._daemon.rpartition(":")
        far = dialer.context().wrap_socket(socket.create_connection((host, int(port)), TIMEOUT_S))
        gevent.joinall([gevent.spawn(self._pump, near, far), gevent.spawn(self._pump, far, near)])

    def _pump(self, source: ssl.SSLSocket, sink: ssl.SSLSocket) -> None:
        try:
            while data := source.recv(65536):
                self.heard += data
                sink.sendall(data)
        except OSError:
            pass
        finally:
            sink.close()
