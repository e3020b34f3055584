"""What a key might use stood in the key; now it is a grant of its own for each glob."""

from django.db import migrations


def globs_to_grants(apps, _editor):
    ApiKey, Grant = apps.get_model("access", "ApiKey"), apps.get_model("access", "Grant")
    for key in ApiKey.objects.iterator():
        for glob in dict.fromkeys(key.agents):
            Grant.objects.create(key=key, effect="allow", agents=glob)


def grants_to_globs(apps, _editor):
    ApiKey, Grant = apps.get_model("access", "ApiKey"), apps.get_model("access", "Grant")
    for key in ApiKey.objects.iterator():
        key.agents = list(Grant.objects.filter(key=key, effect="allow").values_list("agents", flat=True))
        key.save(update_fields=["agents"])


class Migration(migrations.Migration):
    dependencies = [("access", "0002_policy")]

    operations = [migrations.RunPython(globs_to_grants, grants_to_globs)]
