import { defineConfig } from "vitest/config";

/** `vitest run --project unit` needs nothing; `browser` needs what `browser/world.ts` lists. */
export default defineConfig({
  test: {
    projects: [
      { test: { name: "unit", include: ["test/**/*.test.{ts,tsx}"], testTimeout: 30_000 } },
      {
        test: {
          name: "browser",
          include: ["browser/**/*.test.ts"],
          testTimeout: 120_000,
          hookTimeout: 120_000,
          fileParallelism: false,
        },
      },
    ],
  },
});
