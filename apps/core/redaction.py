"""Taking out of a text what looks like a credential, before a log, a page or the database sees it.

By its look alone: nobody here knows which texts are secret. tools/redaction.py takes out those that are known.
"""

import re
from typing import Final

MASK: Final = "•••"

_SHAPES: Final = (
    # Keys of the gateway, OpenAI, Anthropic, GitHub, GitLab, Slack, AWS, Google, Hugging Face.
    r"\b(?:agw_|sk-|sk_|rk_|pk_|gh[pousr]_|github_pat_|glpat-|xox[abposr]-|hf_)[A-Za-z0-9_\-]{8,}",
    r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b",
    r"\bAIza[A-Za-z0-9_\-]{30,}",
    r"\beyJ[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]*",  # a JSON web token
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
    r"(?<=://)[^/\s:@]+:[^/\s@]+(?=@)",  # user and password of an address
    r"(?i:(?<=bearer ))[A-Za-z0-9._~+/=\-]{6,}",
)
_SHAPED: Final = re.compile("|".join(f"(?:{shape})" for shape in _SHAPES), re.DOTALL)

# `password = x`, `"api_key": "x"`, `X-Api-Key: x`; of the value, what a quoted text or a word is. Nothing before the
# name is looked at, so that a long text is read once.
_NAMED: Final = re.compile(
    r"((?:password|passwd|secret|api[_\-]?key|access[_\-]?token|auth[_\-]?token|credential|authorization|cookie)"
    r"[\w\-]{0,40}[\"']?\s{0,5}[:=]\s{0,5})"
    r"(\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'|(?:(?:bearer|basic|token)\s+)?[^\s,;&)}\]\"']+)",
    re.IGNORECASE,
)


def redacted(text: str) -> str:
    """The text with a mask in the place of each credential that is to be seen in it."""
    return _SHAPED.sub(MASK, _NAMED.sub(rf"\1{MASK}", text))
