// The common way in Node: Express and node-postgres, one transaction a request, an upsert an event.
//
// Written as a competent developer would: named statements, which the server prepares once, one
// statement that adds an event to the ledger and to its chapter, the course rolled up once from its
// chapters, and the requests for one learner after one another. The tables are those that
// naive_orm.py makes. A request checks its API key against a table.
//
//     node server.mjs PORT postgresql://user@host:port/database

import { createHash } from "node:crypto";
import express from "express";
import pg from "pg";

const [port, connectionString] = process.argv.slice(2);
const pool = new pg.Pool({ connectionString });

const KEY = "SELECT role FROM api_key WHERE digest = $1";
const HOLD = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))";
const KNOWN = "SELECT body_hash FROM progress_event WHERE id = $1";
const ADD = `
  WITH added AS (
    INSERT INTO progress_event (id, user_id, course_id, chapter_id, event_type, progress,
      time_spent, occurred_at, received_at, course_version, attempt, body_hash, event_metadata)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 1, 1, $10, $11)
    ON CONFLICT (id) DO NOTHING RETURNING id
  ), counted AS (
    INSERT INTO chapter_progress
      (user_id, course_id, chapter_id, progress, time_spent, completed, last_watched_at)
    SELECT $2, $3, $4, coalesce($6, 0), $7, coalesce($6, 0) >= 10000, $8
    FROM added WHERE $4::text IS NOT NULL
    ON CONFLICT (user_id, course_id, chapter_id) DO UPDATE SET
      progress = greatest(chapter_progress.progress, excluded.progress),
      completed = greatest(chapter_progress.progress, excluded.progress) >= 10000,
      time_spent = chapter_progress.time_spent + excluded.time_spent,
      last_watched_at = greatest(chapter_progress.last_watched_at, excluded.last_watched_at)
  )
  SELECT id FROM added`;
const ROLL_UP = `
  INSERT INTO course_progress (user_id, course_id, progress, time_spent, last_activity_at)
  SELECT user_id, course_id, floor(avg(progress)), sum(time_spent), max(last_watched_at)
  FROM chapter_progress WHERE user_id = $1 AND course_id = $2 GROUP BY user_id, course_id
  ON CONFLICT (user_id, course_id) DO UPDATE SET progress = excluded.progress,
    time_spent = excluded.time_spent, last_activity_at = excluded.last_activity_at`;

const digestOf = (text, form) => createHash("sha256").update(text).digest(form);

const isText = (value, longest = 128) =>
  typeof value === "string" && value.length >= 1 && value.length <= longest;

function fault(event) {
  if (!isText(event?.id) || !isText(event.userId) || !isText(event.courseId)) {
    return "id, userId and courseId are texts of 1 to 128 characters";
  }
  if (event.chapterId != null && !isText(event.chapterId)) return "chapterId is a text";
  if (!isText(event.eventType)) return "eventType is a text";
  const { progress = null, timeSpent = 0 } = event;
  if (progress !== null && !(progress >= 0 && progress <= 100)) return "progress is 0 to 100";
  if (!(Number.isInteger(timeSpent) && timeSpent >= 0 && timeSpent <= 86_400)) {
    return "timeSpent is a whole number of seconds";
  }
  return Number.isNaN(Date.parse(event.timestamp)) ? "timestamp is an instant" : null;
}

async function add(client, event) {
  const bodyHash = digestOf(JSON.stringify(event));
  const { rowCount } = await client.query({
    name: "add",
    text: ADD,
    values: [
      event.id,
      event.userId,
      event.courseId,
      event.chapterId ?? null,
      event.eventType,
      event.progress == null ? null : Math.round(event.progress * 100),
      event.timeSpent ?? 0,
      Date.parse(event.timestamp) * 1_000,
      Date.now() * 1_000,
      bodyHash,
      event.metadata == null ? null : JSON.stringify(event.metadata),
    ],
  });
  if (rowCount) return "accepted";
  const known = await client.query({ name: "known", text: KNOWN, values: [event.id] });
  return known.rows[0].body_hash.equals(bodyHash) ? "duplicate" : "conflict";
}

async function store(client, events) {
  const answer = { accepted: 0, duplicate: 0, conflict: 0, quarantined: 0, rejected: 0, results: [] };
  const courses = new Map(events.map((one) => [`${one.userId}/${one.courseId}`, one]));
  for (const learner of [...new Set(events.map((one) => one.userId))].sort()) {
    await client.query({ name: "hold", text: HOLD, values: [learner] });
  }
  for (const event of events) {
    const status = await add(client, event);
    answer[status] += 1;
    if (status !== "accepted") answer.results.push({ id: event.id, status });
  }
  for (const { userId, courseId } of courses.values()) {
    await client.query({ name: "roll-up", text: ROLL_UP, values: [userId, courseId] });
  }
  return answer;
}

const app = express();
app.disable("x-powered-by");
app.disable("etag");
app.use(express.json({ limit: "1mb" }));
app.post("/api/progress/enhanced-update", async (request, response) => {
  const { events } = request.body ?? {};
  if (!Array.isArray(events) || events.length < 1 || events.length > 1_000) {
    return response.status(422).json({ detail: "events is a list of 1 to 1000" });
  }
  const faults = events.map(fault).filter(Boolean);
  if (faults.length) return response.status(422).json({ detail: faults[0] });
  const key = (request.get("authorization") ?? "").replace(/^Bearer /, "");
  const client = await pool.connect();
  let broken;
  try {
    const known = await client.query({ name: "key", text: KEY, values: [digestOf(key, "hex")] });
    if (!known.rowCount) return response.status(401).json({ detail: "unknown API key" });
    await client.query("BEGIN");
    const answer = await store(client, events);
    await client.query("COMMIT");
    return response.json(answer);
  } catch (error) {
    broken = error;
    throw error;
  } finally {
    client.release(broken); // one that has failed is closed, its transaction with it
  }
});

const server = app.listen(Number(port), "127.0.0.1");
process.on("SIGTERM", () => {
  server.close(async () => {
    await pool.end();
    process.exit(0);
  });
  server.closeIdleConnections();
});
