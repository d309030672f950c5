"""Write var/local.env for local use, once: `python -m saas_litellm.local_env`."""

from __future__ import annotations

import os
import secrets
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


if __name__ == "__main__":
    print("Wrote var/local.env" if write() else "var/local.env is there already")
