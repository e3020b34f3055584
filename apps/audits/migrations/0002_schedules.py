"""The schedules that an installation begins with. Operators edit, disable or delete them; nothing makes them again."""

from django.db import migrations

# name, task, what it does, every minute or hour or at (hour, minute)
SCHEDULES = [
    ("Nightly audit", "gateway.audit", "Checks every rule of the audit, and tells of new findings.", (3, 0)),
    ("Cut-off audits", "gateway.repeat", "Makes an audit again whose process ended before it did.", "minute"),
    ("Alerts", "gateway.alerts", "Tells of newly broken agents, and delivers what waits.", "minute"),
    (
        "Upstream health",
        "gateway.probes",
        "Asks the upstreams that are due, sooner those that do not fare well.",
        "minute",
    ),
    ("Model lists", "gateway.models", "Reads the models of every enabled upstream.", "hour"),
    ("Purge", "gateway.purge", "Deletes runs and steps that were kept long enough, and expired approvals.", (3, 30)),
]


def add(apps, schema_editor):
    task = apps.get_model("django_celery_beat", "PeriodicTask")
    interval = apps.get_model("django_celery_beat", "IntervalSchedule")
    crontab = apps.get_model("django_celery_beat", "CrontabSchedule")
    for name, work, description, when in SCHEDULES:
        if isinstance(when, tuple):
            hour, minute = map(str, when)
            every = crontab.objects.filter(hour=hour, minute=minute, day_of_week="*").first()
            chosen = {"crontab": every or crontab.objects.create(hour=hour, minute=minute)}
            lasts = 3600
        else:
            every = interval.objects.filter(every=1, period=f"{when}s").first()
            chosen = {"interval": every or interval.objects.create(every=1, period=f"{when}s")}
            lasts = {"minute": 60, "hour": 3600}[when]
        # A message that no worker has taken until then is worth nothing: the next one follows.
        known = {"task": work, "description": description, "expire_seconds": lasts, **chosen}
        task.objects.get_or_create(name=name, defaults=known)


class Migration(migrations.Migration):
    dependencies = [
        ("audits", "0001_audits"),
        ("django_celery_beat", "0019_alter_periodictasks_options"),
    ]

    operations = [migrations.RunPython(add, migrations.RunPython.noop)]
