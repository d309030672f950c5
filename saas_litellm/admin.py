"""What joins several apps on one screen of the admin; found by its autodiscovery."""

from saas_litellm.customers import admin as customers

__all__ = ["customers"]
