// Add one job and wait for its result:
//   node add.mjs completion.credential '{"completionId": "..."}' [natural id]
import { QueueEvents } from "bullmq";
import { PREFIX, QUEUES, add, connection, open } from "./homeroom.mjs";

const [kind, text, id] = process.argv.slice(2);
if (!(kind in QUEUES) || text === undefined) {
  console.error(`usage: node add.mjs KIND ARGS [ID], where KIND is one of ${Object.keys(QUEUES)}`);
  process.exit(2);
}
const queue = open(QUEUES[kind]);
const events = new QueueEvents(queue.name, { connection: connection(), prefix: PREFIX });
await events.waitUntilReady();
try {
  const job = await add(queue, kind, JSON.parse(text), { id });
  const result = await job.waitUntilFinished(events, 60_000);
  console.log(JSON.stringify({ id: job.id, result }));
} catch (error) {
  console.log(JSON.stringify({ failed: error.message }));
  process.exitCode = 1;
} finally {
  await events.close();
  await queue.close();
}
