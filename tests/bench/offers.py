"""Sets up what the bench asks besides its modules: the upstream's own model, and a declared agent without tools. And a
limit that is never reached, so that there is something to count."""

import os

import django

NEVER_REACHED = 10_000_000  # requests a minute


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway_site.settings")
    django.setup()
    from apps.access.limit_models import Limit
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
    if not Limit.objects.exists():
        Limit.objects.create(requests_per_minute=NEVER_REACHED)
    print(f"offers {upstream.slug}/demo", flush=True)


if __name__ == "__main__":
    main()
