#!/usr/bin/env python3
"""Django's command line, and the gateway's: `manage.py help gateway` lists what is ours."""

import os
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway_site.settings")
    from gateway_site.sdk_guard import refuse_hidden_sdk

    refuse_hidden_sdk()
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
