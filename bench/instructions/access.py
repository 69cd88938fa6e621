"""A hub where access control is on: tokens, a tenant, roles by pattern, limits of every kind that speaks, an audit log.

No limit is reached. What is counted is what it costs that each of them is looked at.
"""

from __future__ import annotations

import hashlib
from typing import Final

from bench.instructions.counting import Setup

TOKEN: Final = "counted-" + "t" * 40

TOKENS: Final = f"""
deny_by_default = true
default_role = "guest"

[roles.guest]
methods = ["public.*"]

[roles.member]
methods = ["counted.*", "{{tenant}}.>"]
subscribe = ["counted.>", "users.{{principal}}.>"]
publish = ["counted.events"]
collections = ["{{tenant}}.*"]
rate = 1000000

[[tokens]]
name = "member"
sha256 = "{hashlib.sha256(TOKEN.encode()).hexdigest()}"
roles = ["member"]
tenant = "acme"
claims = {{team = "sales"}}
"""

ENOUGH: Final = "1000000"

LIMITS: Final = (
    "MAX_CONNECTIONS_PER_PRINCIPAL", "MAX_CONNECTIONS_PER_TENANT", "MAX_CONNECTIONS_PER_ADDRESS",
    "MAX_CALLS_PER_PRINCIPAL", "MAX_CALLS_PER_TENANT", "MAX_REGISTRATIONS_PER_PRINCIPAL",
    "MAX_MCP_SESSIONS_PER_PRINCIPAL", "RATE_LIMIT", "RATE_LIMIT_PER_TENANT",
)  # fmt: skip

ACCESS: Final = Setup(
    {"TOKENS_FILE": "tokens.toml", "AUDIT_FILE": "audit.jsonl", **dict.fromkeys(LIMITS, ENOUGH)},
    {"tokens.toml": TOKENS},
    TOKEN,
)
