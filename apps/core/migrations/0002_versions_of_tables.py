"""A number for each table besides that of the whole. They only count changes, so they may begin anew."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("core", "0001_initial")]

    operations = [
        migrations.DeleteModel("ConfigVersion"),
        migrations.CreateModel(
            name="ConfigVersion",
            fields=[
                (
                    "name",
                    models.CharField(
                        help_text="A table's, or empty for the whole.",
                        max_length=100,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("number", models.BigIntegerField(default=0)),
            ],
        ),
    ]
