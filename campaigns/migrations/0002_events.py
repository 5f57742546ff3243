"""The `events` table: plain on SQLite; on PostgreSQL partitioned by time, so that old events go by dropping a partition.

Rows outside every partition that `maintenance` makes go to the default one. An identity column cannot be on a partitioned
table before PostgreSQL 17, hence the sequence.
"""

import django.db.models.deletion
from django.db import migrations, models

import campaigns.models.fields

POSTGRESQL = """
CREATE SEQUENCE events_id_seq AS bigint;
CREATE TABLE events (
    id bigint NOT NULL DEFAULT nextval('events_id_seq'),
    message_id bigint NOT NULL,
    campaign_id bigint NOT NULL,
    occurred_at bigint NOT NULL,
    user_agent_id bigint,
    judgement_id bigint,
    link_id bigint,
    kind smallint NOT NULL CHECK (kind >= 0),
    source smallint NOT NULL CHECK (source >= 0),
    ip bytea,
    detail jsonb,
    PRIMARY KEY (id, occurred_at)
) PARTITION BY RANGE (occurred_at);
ALTER SEQUENCE events_id_seq OWNED BY events.id;
CREATE TABLE events_default PARTITION OF events DEFAULT;
CREATE INDEX idx_events_message_id ON events (message_id);
CREATE INDEX idx_events_campaign_id ON events (campaign_id, id);
"""


class CreateEvents(migrations.CreateModel):
    """CreateModel, but for PostgreSQL by the statements above."""

    def database_forwards(self, app_label, schema_editor, from_state, to_state):
        if schema_editor.connection.vendor == "postgresql":
            schema_editor.execute(POSTGRESQL, params=None)
        else:
            super().database_forwards(app_label, schema_editor, from_state, to_state)

    def database_backwards(self, app_label, schema_editor, from_state, to_state):
        schema_editor.execute("DROP TABLE events", params=None)


class Migration(migrations.Migration):
    dependencies = [
        ("campaigns", "0001_initial"),
    ]

    operations = [
        CreateEvents(
            name="Event",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                (
                    "kind",
                    models.PositiveSmallIntegerField(
                        choices=[
                            (1, "sent"),
                            (2, "delivered"),
                            (3, "deferred"),
                            (4, "opened"),
                            (5, "clicked"),
                            (6, "replied"),
                            (7, "bounced"),
                            (8, "complained"),
                            (9, "unsubscribed"),
                        ]
                    ),
                ),
                ("occurred_at", campaigns.models.fields.MillisecondsField()),
                ("source", models.PositiveSmallIntegerField()),
                ("ip", campaigns.models.fields.AddressField(max_length=16, null=True)),
                ("detail", models.JSONField(null=True)),
                (
                    "campaign",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="events",
                        to="campaigns.campaign",
                    ),
                ),
                (
                    "judgement",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        to="campaigns.judgement",
                    ),
                ),
                (
                    "link",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        to="campaigns.link",
                    ),
                ),
                (
                    "message",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="events",
                        to="campaigns.message",
                    ),
                ),
                (
                    "user_agent",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        to="campaigns.useragent",
                    ),
                ),
            ],
            options={
                "db_table": "events",
                "ordering": ["-id"],
                "indexes": [
                    models.Index(fields=["message"], name="idx_events_message_id"),
                    models.Index(fields=["campaign"], name="idx_events_campaign_id"),
                ],
            },
        ),
    ]
