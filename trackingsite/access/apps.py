from django.apps import AppConfig


class AccessConfig(AppConfig):
    name = "trackingsite.access"
    label = "access"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from django_typer.utils import register_command_plugins

        from trackingsite.access import cli

        register_command_plugins(cli, ["tracking"])
