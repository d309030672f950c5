"""Links that open something by themselves stay out of every log: invitations, new passwords.

Such a path is in more than the server's access log: Django names it in its own warnings, and the
page to sign in carries it on as ``?next=``.
"""

from __future__ import annotations

import logging
import re

# A slash, or one that was percent-encoded any number of times.
_SLASH = "(?:/|%(?:25)*2F)"
_SECRET = re.compile(
    rf"({_SLASH}portal{_SLASH}(?:invitations|password-reset){_SLASH})[^\s\"'&?]+", re.IGNORECASE
)
HIDDEN = r"\1[hidden]"


def hidden(text: str) -> str:
    """The text without what follows the beginning of such a path."""
    return _SECRET.sub(HIDDEN, text)


class SecretPaths(logging.Filter):
    """Lets every record through, and hides such paths in it."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.msg, str):
            record.msg = hidden(record.msg)
        if isinstance(record.args, tuple):
            record.args = tuple(hidden(a) if isinstance(a, str) else a for a in record.args)
        try:
            text = record.getMessage()
        except (TypeError, ValueError):
            # The handler says what is wrong with such a record.
            return True
        if hidden(text) != text:
            # In an argument that only says so when it is written out.
            record.msg, record.args = hidden(text), ()
        return True
