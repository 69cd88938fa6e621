"""HTTP: calls (JSON-RPC, tasks, MCP), health, metrics, documents and the dashboard."""
