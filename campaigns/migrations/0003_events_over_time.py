"""Events dropped by time, and finding events by time without an index that grows with each of them.

On PostgreSQL a BRIN index (a few bytes for a thousand rows), on SQLite `event_watermarks`.
"""

import campaigns.models.fields
import campaigns.times
from django.db import migrations, models

BRIN = "CREATE INDEX idx_events_occurred_at ON events USING brin (occurred_at) WITH (autosummarize = on)"


def create_index(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(BRIN)


def drop_index(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute("DROP INDEX idx_events_occurred_at")


class Migration(migrations.Migration):
    dependencies = [
        ("campaigns", "0002_events"),
    ]

    operations = [
        migrations.CreateModel(
            name="DroppedEvents",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("before", campaigns.models.fields.MillisecondsField()),
                ("dropped_at", campaigns.models.fields.MillisecondsField(default=campaigns.times.utc_now)),
            ],
            options={
                "db_table": "dropped_events",
            },
        ),
        migrations.CreateModel(
            name="EventWatermark",
            fields=[
                ("event_id", models.BigIntegerField(primary_key=True, serialize=False)),
                ("latest", campaigns.models.fields.MillisecondsField()),
            ],
            options={
                "db_table": "event_watermarks",
            },
        ),
        migrations.RunPython(create_index, drop_index),
    ]
