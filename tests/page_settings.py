"""The settings of a platform whose pages a browser looks at: it keeps their files, as in production,
rather than asking for each again with every page."""

from saas_litellm.settings import *  # noqa: F403

WHITENOISE_MAX_AGE = 3600
