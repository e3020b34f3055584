"""How much somebody may use: which limits count (rules), how far they are used up (use), and who counts (the stores).

`apps.access.limiting` is the door. docs/limits.md says the same to operators.
"""
