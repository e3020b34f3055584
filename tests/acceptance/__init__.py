"""Every feature of the Agents SDK, proved through /v1/chat/completions against the SDK's own Runner.

The modules are those of tests/fixtures/dropin_agents. docs/compatibility.md is the table of them.
"""
