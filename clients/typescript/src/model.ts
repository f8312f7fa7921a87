/** What the API answers, with the names that the hooks give it. The types are the server's own. */
export type {
  ChapterProgress,
  Completion,
  CompletionStep,
  CourseProgress,
  Credential,
  GenerationStatus as Step10Status,
  MetricsSummary as ProgressMetrics,
  Notification,
} from "./schema.gen.js";
