"""Sets up what the bench asks besides its modules: the upstream's own model, and a declared agent without tools."""

import os

import django


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway_site.settings")
    django.setup()
    from apps.catalog.models import DeclaredAgent
    from apps.console.bootstrap import bootstrap
    from apps.upstreams.models import Upstream

    bootstrap()
    (upstream,) = Upstream.objects.filter(is_default=True)
    upstream.exposes_models = True
    upstream.save()
    namespace, _, name = "default/declared".partition("/")
    if not DeclaredAgent.objects.filter(namespace=namespace, name=name).exists():
        DeclaredAgent.objects.create(
            namespace=namespace, name=name, instructions="Answer.", stage=DeclaredAgent.Stage.LIVE
        )
    print(f"offers {upstream.slug}/demo", flush=True)


if __name__ == "__main__":
    main()
