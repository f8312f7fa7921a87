/** The HTTP API: typed by the OpenAPI document, with errors that carry a problem's words. */

import createClient from "openapi-fetch";
import type { paths, Problem } from "./schema";

/** What the API said instead of an answer; `status` is 0 where it could not be reached. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly problem: Partial<Problem>,
  ) {
    super(problem.detail ?? problem.title ?? `HTTP ${status}`);
  }
}

export const api = createClient<paths>({ baseUrl: "/", credentials: "same-origin" });

type Answer<T> = { data?: T; error?: unknown; response: Response };

/** Return the data of an answer; throw `ApiError` for a problem or an unreachable server. */
export async function ask<T>(request: Promise<Answer<T>>): Promise<T> {
  let answer: Answer<T>;
  try {
    answer = await request;
  } catch {
    throw new ApiError(0, {});
  }
  if (answer.response.ok) return answer.data as T;
  const problem = typeof answer.error === "object" && answer.error ? answer.error : {};
  throw new ApiError(answer.response.status, problem as Partial<Problem>);
}
