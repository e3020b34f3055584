"""Who is told of what the audit found: written with what they tell of, delivered afterwards, tried again."""
