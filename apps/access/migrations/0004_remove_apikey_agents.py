from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("access", "0003_globs_become_grants")]

    operations = [migrations.RemoveField(model_name="apikey", name="agents")]
