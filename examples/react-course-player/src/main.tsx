import { ClientProgressQueue } from "@homeroom/client";
import { HomeroomProvider, useCourseProgress, useQueueStatus } from "@homeroom/client/react";
import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { useState } from "react";
import { createRoot } from "react-dom/client";
import course from "../course.json";
import { Film, Quiz, Text } from "./chapters.tsx";
import { useOfflineSwitch } from "./network.ts";

const { courseId } = course;
const KINDS = { film: Film, call: Text, quiz: Quiz };

interface Session {
  userId: string;
  token: string;
}
const session = async (): Promise<Session> => (await fetch("/session")).json();

function Player({ queue }: { queue: ClientProgressQueue }) {
  const { course: progress, error } = useCourseProgress(courseId);
  const status = useQueueStatus();
  const [offline, setOffline] = useOfflineSwitch();
  const [open, setOpen] = useState<keyof typeof KINDS>("film");
  const Chapter = KINDS[open];
  if (!progress) return <p>{error?.message ?? "One moment"}</p>;
  return (
    <>
      <header>
        <h1>{progress.title}</h1>
        <progress max={100} value={progress.progress ?? 0} />
        <strong data-testid="percent">{Math.floor(progress.progress ?? 0)} %</strong>
        <label>
          <input type="checkbox" checked={offline} onChange={(event) => setOffline(event.target.checked)} /> Offline
        </label>
        <small data-testid="queue">
          {status?.pending ? `${status.pending} kept on this device` : "All is saved"}
        </small>
      </header>
      <nav>
        {progress.chapters.map(({ chapterId, title, completed, progress: percent }) => (
          <button key={chapterId} disabled={chapterId == open} onClick={() => setOpen(chapterId as typeof open)}>
            {title} <span>{completed ? "✓" : `${Math.floor(percent)} %`}</span>
          </button>
        ))}
      </nav>
      <main>
        <Chapter queue={queue} courseId={courseId} chapterId={open} />
      </main>
      <footer>
        {progress.status == "completed"
          ? "The course is complete."
          : progress.unmetCriteria.map(({ text }) => text).join(" ")}
      </footer>
    </>
  );
}

const { userId } = await session();
const connection = { endpoint: location.origin, token: async () => (await session()).token };
const queue = new ClientProgressQueue({
  ...connection,
  userId,
  onDrop: ({ event, reason }) => console.error("Given up:", event.id, reason),
});
createRoot(document.getElementById("root")!).render(
  <QueryClientProvider client={new QueryClient()}>
    <HomeroomProvider {...connection} queue={queue}>
      <Player queue={queue} />
    </HomeroomProvider>
  </QueryClientProvider>,
);
