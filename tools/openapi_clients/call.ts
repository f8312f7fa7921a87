// Send the event of the first argument with the generated client, and print the answer.
import { client } from "./generated/client.gen.js";
import { sendEvents } from "./generated/index.js";
import type { ProgressBatch } from "./generated/index.js";

const [url, token, batch] = process.argv.slice(2) as [string, string, string];
client.setConfig({ baseUrl: url, auth: token });
const answer = await sendEvents({ body: JSON.parse(batch) as ProgressBatch });
if (answer.error !== undefined) {
  throw new Error(answer.error.detail);
}
console.log(JSON.stringify(answer.data));
