from django.apps import AppConfig
from django.db.models.signals import post_migrate


class TeamsConfig(AppConfig):
    name = "teams"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from teams import roles, sign_in  # noqa: PLC0415 - models are not there any sooner

        post_migrate.connect(roles.grant, dispatch_uid="teams.roles.grant")
        sign_in.listen()
