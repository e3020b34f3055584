"""The rules of the audit, one a file. All that are here are in force; their order is that of their ids."""

import importlib
import pkgutil

from apps.audits.rule import Rule


def all_rules() -> dict[str, Rule]:
    """By id."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    found: list[Rule] = [importlib.import_module(f"{__name__}.{name}").RULE for name in names]
    return {rule.id: rule for rule in found}
