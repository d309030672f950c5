"""Before `make run`: write var/local.env, once, and see that the port is free."""

from __future__ import annotations

import errno
import os
import secrets
import socket
import sys
from pathlib import Path

from cryptography.fernet import Fernet

FILE = Path(__file__).resolve().parent.parent / "var" / "local.env"


def write(file: Path = FILE) -> bool:
    """Random secrets, DEBUG and the open demo, readable by the owner alone; False if it is there."""
    file.parent.mkdir(mode=0o700, exist_ok=True)
    lines = (
        f"SECRET_KEY={secrets.token_urlsafe(48)}",
        f"API_KEY_PEPPER={secrets.token_urlsafe(48)}",
        f"ENCRYPTION_KEYS={Fernet.generate_key().decode()}",
        "DEBUG=True",
        "SAAS_OPEN_DEMO=True",
    )
    try:
        handle = os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except FileExistsError:
        return False
    with os.fdopen(handle, "w") as opened:
        opened.write("\n".join(lines) + "\n")
    return True


def is_free(host: str, port: int) -> bool:
    """Whether a server could listen there. Raises OSError for a host that is not of this machine."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server.bind((host, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            return False
    return True


if __name__ == "__main__":
    host, port = sys.argv[1], int(sys.argv[2])
    if not is_free(host, port):
        sys.exit(f"Port {port} is taken. Another one: PORT={port + 1} make run")
    print("Wrote var/local.env" if write() else "var/local.env is there already")
