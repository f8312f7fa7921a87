// Bull Board on Homeroom's queues. It has no sign-in of its own: put it behind one.
import { createBullBoard } from "@bull-board/api";
import { BullMQAdapter } from "@bull-board/api/bullMQAdapter";
import { ExpressAdapter } from "@bull-board/express";
import express from "express";
import { ALL_QUEUES, open } from "./homeroom.mjs";

const queues = ALL_QUEUES.map(open);
const serverAdapter = new ExpressAdapter();
serverAdapter.setBasePath("/board");
createBullBoard({ queues: queues.map((queue) => new BullMQAdapter(queue)), serverAdapter });

const app = express();
app.use("/board", serverAdapter.getRouter());
const server = app.listen(Number(process.env.PORT ?? 3000), "127.0.0.1", () => {
  console.log(JSON.stringify({ url: `http://127.0.0.1:${server.address().port}/board` }));
});
for (const signal of ["SIGINT", "SIGTERM"]) {
  process.on(signal, async () => {
    server.close();
    await Promise.all(queues.map((queue) => queue.close()));
    process.exit(0);
  });
}
