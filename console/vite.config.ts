import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

// `npm run dev` shows a Homeroom that runs on this machine.
const server = process.env.HOMEROOM_PUBLIC_URL ?? "http://127.0.0.1:8420";

export default defineConfig({
  base: "/console/",
  plugins: [react()],
  build: { target: "es2022", sourcemap: false, assetsInlineLimit: 0 },
  server: { proxy: { "/api": server, "/readyz": server } },
});
