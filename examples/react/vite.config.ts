import react from "@vitejs/plugin-react";
import { defineConfig, loadEnv } from "vite";

// The page asks its own server for /ws, which hands it on to the hub: as in production, where a proxy does so.
export default defineConfig(({ mode }) => {
  const target = loadEnv(mode, ".", "HUB_")["HUB_URL"] ?? "ws://127.0.0.1:8765";
  return { plugins: [react()], server: { proxy: { "/ws": { target, ws: true } } } };
});
