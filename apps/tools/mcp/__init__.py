"""MCP servers that operators add: one connection each in every worker process, and their tools as rows."""
