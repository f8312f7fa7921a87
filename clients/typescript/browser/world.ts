import { createHmac } from "node:crypto";
import { createServer, request as forward } from "node:http";
import type { IncomingMessage, Server, ServerResponse } from "node:http";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { chromium } from "playwright-core";
import type { BrowserContext, Page } from "playwright-core";
import type { ClientProgressQueue, QueueOptions } from "../src/index.js";

declare global {
  interface Window {
    queue: ClientProgressQueue;
    open(options?: Partial<QueueOptions>): ClientProgressQueue;
    /** Hints that a page got from its stream. */
    hints: string[];
    /** Timers that fired in this page. */
    wakeUps: number;
  }
}

/** What the Python test that runs these passes: a real server, and a browser. */
const given = (name: string): string => {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set: run tests/clients/test_typescript.py.`);
  return value;
};
export const HOMEROOM = given("HOMEROOM_TEST_URL");
const ADMIN = { authorization: `Bearer ${given("HOMEROOM_TEST_ADMIN_KEY")}` };
const SECRET = given("HOMEROOM_TEST_JWT_SECRET");
const PAGE_PORT = Number(given("HOMEROOM_TEST_PAGE_PORT"));

export const launchOptions = {
  executablePath: given("CHROMIUM"),
  args: [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
  ],
};

/** Return a learner's token, or one of another role. */
export function token(userId: string, seconds = 3_600, roles = ["learner"]): string {
  const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const claims = { sub: userId, roles, exp: Math.floor(Date.now() / 1_000) + seconds };
  const head = `${part({ alg: "HS256", typ: "JWT" })}.${part(claims)}`;
  return `${head}.${createHmac("sha256", SECRET).update(head).digest("base64url")}`;
}

/** Serves the page, and Homeroom below the same origin with the faults that a test asks for. */
export class Site {
  /** A number: that status is answered. `cut`: the server has it, its answer is lost. */
  fault: number | "slow" | "cut" | undefined;
  /** Bodies of ingest requests that went on to Homeroom. */
  forwarded: string[] = [];
  refused = 0;
  #server: Server;
  #script: string;

  private constructor(script: string) {
    this.#script = script;
    this.#server = createServer((request, response) => void this.#serve(request, response));
  }

  get url(): string {
    return `http://127.0.0.1:${PAGE_PORT}`;
  }

  static async start(): Promise<Site> {
    const { outputFiles } = await build({
      entryPoints: [fileURLToPath(new URL("page.ts", import.meta.url))],
      bundle: true,
      format: "esm",
      write: false,
    });
    const site = new Site(outputFiles[0]!.text);
    await new Promise<void>((resolve) => site.#server.listen(PAGE_PORT, "127.0.0.1", resolve));
    return site;
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    if (!request.url!.startsWith("/api/")) {
      const isScript = request.url == "/page.js";
      response.setHeader("content-type", isScript ? "text/javascript" : "text/html");
      // An isolated page may read the clock to 5 us, others to 100 us.
      response.setHeader("cross-origin-opener-policy", "same-origin");
      response.setHeader("cross-origin-embedder-policy", "require-corp");
      response.end(isScript ? this.#script : '<!doctype html><script type="module" src="/page.js"></script>');
      return;
    }
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const { fault } = this;
    if (typeof fault == "number") {
      this.refused++;
      response.writeHead(fault, { "retry-after": "0" }).end("{}");
      return;
    }
    const body = Buffer.concat(chunks);
    if (request.method == "POST") this.forwarded.push(body.toString());
    const { host: _, ...headers } = request.headers;
    const onward = forward(HOMEROOM + request.url, { method: request.method!, headers }, (answer) => {
      if (fault == "cut") {
        answer.resume();
        request.socket.destroy();
        return;
      }
      setTimeout(() => {
        response.writeHead(answer.statusCode!, answer.headers);
        answer.pipe(response);
      }, fault == "slow" ? 700 : 0);
    });
    onward.on("error", () => request.socket.destroy());
    onward.end(body);
  }
}

/** Publish the course that all learners of these tests take. */
export async function publish(): Promise<void> {
  const chapters = Array.from({ length: 40 }, (_, n) => ({ id: `c-${n}`, title: `Chapter ${n}` }));
  const answer = await fetch(`${HOMEROOM}/api/v1/courses/browser`, {
    method: "PUT",
    headers: { ...ADMIN, "content-type": "application/json" },
    body: JSON.stringify({ title: "Browser", units: [{ id: "u", title: "Unit", chapters }] }),
  });
  if (!answer.ok) throw new Error(await answer.text());
}

/** Return the ids and the time of all events of a learner that Homeroom counts. */
export async function counted(userId: string): Promise<{ events: number; timeSpent: number }> {
  const of = `userId=${userId}`;
  const read = async (path: string) => {
    const answer = await fetch(`${HOMEROOM}/api/v1/courses/browser/${path}`, { headers: ADMIN });
    return answer.status == 404 ? undefined : await answer.json();
  };
  const history = await read(`progress/history?${of}&limit=1000`);
  const progress = await read(`progress?${of}`);
  return { events: history?.items.length ?? 0, timeSpent: progress?.timeSpent ?? 0 };
}

/** Wait until a condition holds; fail with the last value. */
export async function until<T>(
  read: () => Promise<T>,
  holds: (value: T) => boolean,
  seconds = 45,
): Promise<T> {
  const end = Date.now() + seconds * 1_000;
  for (;;) {
    const value = await read();
    if (holds(value)) return value;
    if (Date.now() > end) throw new Error(`Not in ${seconds} s; the last value: ${JSON.stringify(value)}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/** Open a page with the queue of a learner. */
export async function openPage(
  context: BrowserContext,
  site: Site,
  userId: string,
  options: Partial<QueueOptions> = {},
): Promise<Page> {
  const page = await context.newPage();
  const all = { endpoint: site.url, userId, token: token(userId), ...options };
  await page.goto(`${site.url}/#${encodeURIComponent(JSON.stringify(all))}`);
  await page.waitForFunction(() => window.queue);
  return page;
}

/** Enqueue events of one second each, one a chapter, in a page; resolves when all are stored. */
export const enqueue = (page: Page, count: number, from = 0): Promise<void> =>
  page.evaluate(
    async ([many, first]) => {
      const stored = [];
      for (let n = first!; n < first! + many!; n++) {
        stored.push(window.queue.enqueue({
          courseId: "browser", chapterId: `c-${n}`, eventType: "chapter_progress", progress: 50, timeSpent: 1,
        }));
      }
      await Promise.all(stored);
    },
    [count, from] as const,
  );

export { chromium };
