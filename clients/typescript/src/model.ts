/** A chapter of a learner. Percent and seconds. */
export interface ChapterProgress {
  chapterId: string;
  progress: number;
  completed: boolean;
  timeSpent: number;
  lastWatchedAt: string | null;
  quiz: { score: number | null; attempts: number; passed: boolean } | null;
}

/** A learner's course. `progress` is null where nothing is measured. */
export interface CourseProgress {
  userId: string;
  courseId: string;
  version: number;
  attempt: number;
  status: "registered" | "in_progress" | "completed" | "expired" | null;
  progress: number | null;
  completedChapters: number;
  totalChapters: number;
  timeSpent: number;
  lastActivityAt: string | null;
  completedAt: string | null;
  newerVersionAvailable: boolean;
  chapters: ChapterProgress[];
}

/** Something that follows a completion, such as the credential. */
export interface CompletionStep {
  name: string;
  status: "waiting" | "active" | "completed" | "failed" | "skipped";
  externalId: string | null;
  finishedAt: string | null;
}

export interface Completion {
  id: string;
  userId: string;
  courseId: string;
  courseTitle: string;
  attempt: number;
  completedAt: string;
  recordedAt: string;
  score: number | null;
  steps: CompletionStep[];
}

export interface Credential {
  id: string;
  completionId: string;
  courseId: string;
  state: "issuing" | "issued" | "revoked" | "superseded";
  url: string | null;
  issuedAt: string;
  expiresAt: string | null;
}

export interface Notification {
  id: string;
  type: string;
  userId: string;
  title: string;
  text: string;
  metadata: Record<string, unknown>;
  createdAt: string;
  readAt: string | null;
}

/** The server's figures of the last minute. */
export interface ProgressMetrics {
  queueSize: number;
  eventsPerSecond: number;
  errorRate: number;
  averageProcessingMs: number;
  memoryMb: number;
  uptimeSeconds: number;
  activeWorkers: number;
}

/** The generation of a lesson plan. `progress` is in percent. */
export interface Step10Status {
  workflowId: string;
  status: "pending" | "in_progress" | "complete" | "failed" | "cancelled";
  modulesGenerated: number;
  totalModules: number;
  allComplete: boolean;
  totalLessons: number;
  totalContactHours: number;
  progress: number;
  estimatedTimeRemainingSeconds: number | null;
  heartbeatAt: string | null;
}
