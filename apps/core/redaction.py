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


# What the patterns cannot do without, in lower case or as it is: most texts have none of it, and to look for it takes a
# sixth of the time that the patterns take.
_NAMES: Final = (
    "passw", "secret", "apikey", "api_key", "api-key", "accesstoken", "access_token", "access-token", "authtoken",
    "auth_token", "auth-token", "credential", "authorization", "cookie", "bearer ",
)  # fmt: skip
_MARKS: Final = (
    "agw_", "sk-", "sk_", "rk_", "pk_", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "xox", "hf_",
    "AKIA", "ASIA", "AIza", "eyJ", "-----BEGIN ", "://",
    "\u017f", "\u212a", "\u0130", "\u0131",  # letters that patterns take for an s, a k and an i, and lower() does not
)  # fmt: skip


def redacted(text: str) -> str:
    """The text with a mask in the place of each credential that is to be seen in it."""
    if not any(map(text.lower().__contains__, _NAMES)) and not any(map(text.__contains__, _MARKS)):
        return text
    return _SHAPED.sub(MASK, _NAMED.sub(rf"\1{MASK}", text))
