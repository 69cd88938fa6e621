"""Phoenix Channels V2, over WebSockets and by long polling."""
