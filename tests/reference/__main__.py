"""Write the generated pages of the documentation: `make reference`."""

from __future__ import annotations

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "saas_litellm.settings")

import django

django.setup()

from tests.reference import pages

if __name__ == "__main__":
    for name in pages.write():
        print(f"docs/reference/{name}")
