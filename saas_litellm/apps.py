from django.apps import AppConfig


class SaasLitellmConfig(AppConfig):
    name = "saas_litellm"
    verbose_name = "SaaS LiteLLM"

    def ready(self) -> None:
        from saas_litellm import checks  # noqa: F401, PLC0415 - registers the system checks
