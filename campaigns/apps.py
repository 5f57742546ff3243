from django.apps import AppConfig
from django.db.backends.signals import connection_created


class CampaignsConfig(AppConfig):
    name = "campaigns"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from campaigns.apply import forget_interned

        # PostgreSQL may have fallen and taken its last commits back, and gives the ids that were in them again
        connection_created.connect(lambda **_: forget_interned(), weak=False)
