"""HTTP endpoints: calls (JSON-RPC, tasks, MCP), health, metrics, API documents and the dashboard."""
