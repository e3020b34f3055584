"""Sets up a data folder with many keys and rules: `python -m tests.bench.crowd KEYS RULES`."""

import os
import sys

import django

_AT_ONCE = 900


def main(keys: int, rules: int) -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway_site.settings")
    django.setup()
    from apps.access.keys import digest
    from apps.access.models import ApiKey, Grant
    from apps.access.policy import Effect
    from apps.console.bootstrap import bootstrap

    bootstrap()
    made = (ApiKey(name=f"Key {n}", prefix="agw_", digest=digest(f"agw_{n:08}_of_the_crowd")) for n in range(keys))
    ApiKey.objects.bulk_create(made, batch_size=_AT_ONCE)
    for_everyone = (Grant(effect=Effect.ALLOW, agents=f"team{n}/*") for n in range(rules))
    Grant.objects.bulk_create(for_everyone, batch_size=_AT_ONCE)
    of_keys = (Grant(key_id=pk, effect=Effect.ALLOW, agents="*") for pk in ApiKey.objects.values_list("pk", flat=True))
    Grant.objects.bulk_create(of_keys, batch_size=_AT_ONCE)
    print("filled", flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
