from django.apps.registry import Apps
from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor


def openai_has_it(apps: Apps, _editor: BaseDatabaseSchemaEditor) -> None:
    apps.get_model("upstreams", "Upstream").objects.filter(kind="openai").update(speaks_responses=True)


class Migration(migrations.Migration):
    dependencies = [("upstreams", "0001_initial")]

    operations = [
        migrations.AddField(
            model_name="upstream",
            name="speaks_responses",
            field=models.BooleanField(
                default=False,
                help_text="Agents with hosted tools (web search, code interpreter and the like) or prompt= run here. "
                "Switch it on only where the server itself runs those tools, as OpenAI does.",
                verbose_name="has the Responses API",
            ),
        ),
        migrations.RunPython(openai_has_it, migrations.RunPython.noop),
    ]
