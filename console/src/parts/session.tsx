/** Who is signed in, and the page that asks. */

import { useQuery, useQueryClient } from "@tanstack/react-query";
import { type FormEvent, type ReactNode, useState } from "react";
import { useTranslations } from "use-intl";
import { ApiError, api, ask } from "../api/client";
import { session, signInMethods } from "../api/queries";
import type { Role } from "../api/schema";
import { expectPage } from "./Page";
import { Loading, ProblemBox } from "./Problem";

/** Whether the session has one of these roles; an admin has all. */
export function useHasRole(...roles: readonly Role[]): boolean {
  const { data } = useQuery(session);
  return data?.roles.some((role) => role === "admin" || roles.includes(role)) ?? false;
}

/** The person who is signed in; null for an API key. */
export function useUserId(): string | null {
  return useQuery(session).data?.userId ?? null;
}

/** Show the children to a session, and the sign-in without one. */
export function SignedIn({ children }: { children: ReactNode }) {
  const { data, error, isPending, refetch } = useQuery(session);
  if (data) return children;
  if (isPending) return <Loading />;
  const signedOut = error instanceof ApiError && error.status === 401;
  return (
    <main className="sign-in">
      {signedOut ? <SignIn /> : <ProblemBox error={error} onAgain={() => void refetch()} />}
    </main>
  );
}

function SignIn() {
  const t = useTranslations("signIn");
  const client = useQueryClient();
  const [error, setError] = useState<Error>();
  const submit = async (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    const token = String(new FormData(event.currentTarget).get("key")).trim();
    try {
      await ask(api.POST("/api/v1/session", { body: { token } }));
      expectPage();
      await client.resetQueries();
    } catch (problem) {
      setError(problem as Error);
    }
  };
  return (
    <form onSubmit={submit}>
      <h1>{t("title")}</h1>
      <SchoolAccount />
      <p>{t("text")}</p>
      <label>
        {t("key")}
        <input name="key" type="password" autoComplete="current-password" required />
      </label>
      {error && <ProblemBox error={error} />}
      <button type="submit" className="primary">
        {t("button")}
      </button>
    </form>
  );
}

/** The link to the school's own sign-in, which leads back to the page that was asked for. */
function SchoolAccount() {
  const t = useTranslations("signIn");
  const path = useQuery(signInMethods).data?.schoolAccountPath;
  if (!path) return null;
  const next = new URLSearchParams({ next: location.pathname + location.search });
  return (
    <a className="primary" href={`${path}?${next}`}>
      {t("school")}
    </a>
  );
}
