/** The part of a learning platform that a browser must not do: publish the course, sign tokens. */
import { createHmac } from "node:crypto";
import type { Plugin } from "vite";
import course from "./course.json" with { type: "json" };

export const HOMEROOM_URL = process.env["HOMEROOM_URL"] ?? "http://127.0.0.1:8420";

const setting = (name: string): string => {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set: README.md says where it comes from.`);
  return value;
};

/** Return a learner's token of one hour. A platform signs it for the learner of its own session. */
function signed(userId: string): string {
  const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const expires = Math.floor(Date.now() / 1_000) + 3_600;
  const text = `${part({ alg: "HS256", typ: "JWT" })}.${part({ sub: userId, roles: ["learner"], exp: expires })}`;
  return `${text}.${createHmac("sha256", setting("HOMEROOM_JWT_SECRET")).update(text).digest("base64url")}`;
}

async function publish(): Promise<void> {
  const { courseId, ...body } = course;
  const answer = await fetch(`${HOMEROOM_URL}/api/v1/courses/${courseId}`, {
    method: "PUT",
    headers: { authorization: `Bearer ${setting("HOMEROOM_KEY")}`, "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  if (!answer.ok) throw new Error(`The course was refused: ${await answer.text()}`);
}

/** Serves `/session`: who is signed in, and the token for Homeroom. */
export const platform = (): Plugin => ({
  name: "platform",
  async configureServer(server) {
    await publish();
    const userId = process.env["LEARNER"] ?? "you";
    server.middlewares.use("/session", (_, response) => {
      response.setHeader("content-type", "application/json");
      response.end(JSON.stringify({ userId, token: signed(userId) }));
    });
  },
});
