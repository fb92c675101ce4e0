"""An issuer of tokens: a real HTTPS server with a certificate of a CA of its own."""

import ipaddress
import ssl
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from tests.keys import private_pem


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def write_certificates(folder: Path) -> tuple[Path, Path]:
    """A CA's certificate, and a chain with key for 127.0.0.1 that it signed; both as PEM files."""
    authority, own = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    now = datetime.now(UTC)

    def certificate(subject: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(_name(subject))
            .issuer_name(_name("test authority"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(hours=1))
        )

    root = certificate("test authority", authority).add_extension(
        x509.BasicConstraints(ca=True, path_length=None), critical=True
    )
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    leaf = certificate("issuer", own).add_extension(
        x509.SubjectAlternativeName([address]), critical=False
    )
    ca_file, chain_file = folder / "ca.pem", folder / "issuer.pem"
    ca_file.write_bytes(root.sign(authority, SHA256()).public_bytes(Encoding.PEM))
    chain = leaf.sign(authority, SHA256()).public_bytes(Encoding.PEM).decode()
    chain_file.write_text(chain + private_pem(own))
    return ca_file, chain_file


class Issuer:
    """Answers every path with `status`, `headers` and `body`; counts what was asked."""

    def __init__(self, folder: Path) -> None:
        self.ca_file, self._chain_file = write_certificates(folder)
        self.status, self.body, self.headers = 200, b"", dict[str, str]()
        self.asked: list[str] = []
        self._server = self._listening(0)
        self.port = self._server.server_address[1]

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}/jwks"

    def _listening(self, port: int) -> ThreadingHTTPServer:
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.asked.append(self.path)
                self.send_response(issuer.status)
                for header in {"Content-Length": str(len(issuer.body)), **issuer.headers}.items():
                    self.send_header(*header)
                self.end_headers()
                self.wfile.write(issuer.body)

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._chain_file)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return server

    def stop(self) -> None:
        """Nobody listens there any more."""
        self._server.shutdown()
        self._server.server_close()

    def start_again(self) -> None:
        self._server = self._listening(self.port)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
