"""deploy's nginx with what its comments ask to change, for nodes on this machine."""

import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

CHECKOUT: Final = Path(__file__).resolve().parent.parent
SHIPPED: Final = CHECKOUT / "deploy" / "nginx" / "service-tracking.conf"
AROUND: Final = """daemon off; pid {folder}/nginx.pid; worker_processes 1;
error_log {folder}/main.log;
events {{}}
http {{
    client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
    uwsgi_temp_path {folder}; scgi_temp_path {folder};
    include {folder}/service-tracking.conf;
}}
"""


def program(name: str) -> str | None:
    """Where users who are not root do not look, too."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin")


def command(
    folder: Path, port: int, nodes: Sequence[int], certificate: Path | None = None
) -> list[str]:
    """Writes the configuration into `folder`. Without a certificate (and its key) it speaks HTTP.

    `nodes`: the ports of those that serve.
    """
    text = SHIPPED.read_text()
    server = next(line for line in text.splitlines() if "server 127.0.0.1:8005" in line)
    changes = [
        (re.escape(server), "\n".join(server.replace("8005", str(node)) for node in nodes)),
        (r" *listen \[::\]:443.*\n", ""),
        (r"/var/log/nginx", str(folder)),
    ]
    if certificate is None:
        changes += [(r"listen 443 ssl http2", f"listen 127.0.0.1:{port}"), (r" *ssl_.*\n", "")]
    else:
        changes += [
            (r"listen 443", f"listen 127.0.0.1:{port}"),
            (r"(ssl_certificate )\S+;", rf"\1{certificate};"),
            (r"(ssl_certificate_key )\S+;", rf"\1{certificate};"),
        ]
    changed(text, changes, folder / "service-tracking.conf")
    main = folder / "nginx.conf"
    main.write_text(AROUND.format(folder=folder))
    return [program("nginx") or "nginx", "-c", str(main)]


def changed(text: str, changes: list[tuple[str, str]], path: Path) -> Path:
    """What is a machine's own, changed as the file's comments ask; each of it is there."""
    for pattern, replacement in changes:
        text, number = re.subn(pattern, replacement, text)
        assert number, pattern
    path.write_text(text)
    return path
