"""The WebSocket endpoints: upgrades that uvicorn hands over, frames that picows reads."""
