// Types of the answers that the hooks of clients/typescript return; no code, so no bytes in a page.
export default {
  input: process.env.OPENAPI_DOCUMENT,
  output: { path: process.env.OPENAPI_OUTPUT, entryFile: false },
  parser: {
    filters: {
      schemas: {
        include: [
          "Completion",
          "CourseProgress",
          "Credential",
          "GenerationStatus",
          "MetricsSummary",
          "Notification",
        ],
      },
      operations: { exclude: ["/.*/"] },
      orphans: true,
    },
  },
  plugins: ["@hey-api/typescript"],
};
