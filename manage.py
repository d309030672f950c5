#!/usr/bin/env python
"""Run a management command."""

import os
import signal
import sys

# The first process of a container is not ended by a signal that nobody handles: before the imports,
# which take seconds.
signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))

from django.core.management import execute_from_command_line
from django.db import OperationalError


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "saas_litellm.settings")
    try:
        execute_from_command_line(sys.argv)
    except OperationalError as error:
        if "--traceback" in sys.argv:
            raise
        sys.exit(
            f"The database does not answer: {str(error).splitlines()[0]}. Is DATABASE_URL right?"
            " `manage.py doctor` looks at all of it."
        )


if __name__ == "__main__":
    main()
