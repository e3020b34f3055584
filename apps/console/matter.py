from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Matter:
    """Something that needs an operator: what it is, and what to do."""

    title: str
    remedy: str
    link: str
    is_urgent: bool = True
