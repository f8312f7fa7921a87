import { fileURLToPath } from "node:url";
import { defineConfig } from "vite";
import { HOMEROOM_URL, platform } from "./platform.ts";

const client = fileURLToPath(new URL("../../clients/typescript/src/", import.meta.url));

export default defineConfig({
  plugins: [platform()],
  resolve: {
    // The package as it stands in this repository. Elsewhere: npm install @homeroom/client
    alias: { "@homeroom/client/react": `${client}react.tsx`, "@homeroom/client": `${client}index.ts` },
    dedupe: ["react", "react-dom", "@tanstack/react-query"],
  },
  // The page and the API have one origin. With two, HOMEROOM_CORS_ORIGINS names that of the page.
  server: { proxy: { "/api": HOMEROOM_URL }, fs: { allow: [".", client] } },
});
