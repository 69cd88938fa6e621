"""The WebSocket endpoints: uvicorn hands over the upgrades, picows reads and writes the frames."""
