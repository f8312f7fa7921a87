/** Who is signed in, and the page that asks. */

import { useQuery, useQueryClient } from "@tanstack/react-query";
import { type FormEvent, type ReactNode, useState } from "react";
import { useTranslations } from "use-intl";
import { ApiError, api, ask } from "../api/client";
import { session } from "../api/queries";
import { Loading, ProblemBox } from "./Problem";

/** Whether the session holds one of the roles; an admin holds all. */
export function useHasRole(...roles: string[]): boolean {
  const { data } = useQuery(session);
  return data?.roles.some((role) => roles.includes(role) || role === "admin") ?? false;
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
      await client.resetQueries();
    } catch (problem) {
      setError(problem as Error);
    }
  };
  return (
    <form onSubmit={submit}>
      <h1>{t("title")}</h1>
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
