from __future__ import annotations

from django.core.validators import RegexValidator

slug_validator = RegexValidator(
    r"\A[a-z0-9][a-z0-9_-]{0,62}\Z",
    "Use lower-case letters, digits, - and _, starting with a letter or digit (63 at most).",
)
