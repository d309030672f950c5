from django.apps import AppConfig


class BaseConfig(AppConfig):
    name = "saas_litellm.base"
    label = "base"
    verbose_name = "Records"
    default_auto_field = "django.db.models.BigAutoField"
