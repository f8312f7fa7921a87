/** The limits of a queue, and the form that sets them. */

import { useMutation, useQueryClient } from "@tanstack/react-query";
import { type FormEvent, useId, useRef, useState } from "react";
import { useTranslations } from "use-intl";
import { api, ask } from "../api/client";
import type { Queue, QueueLimitsBody } from "../api/schema";
import { ProblemBox } from "./Problem";
import { useHasRole } from "./session";

/** The limits of a queue in words. */
export function LimitsText({ queue }: { queue: Queue }) {
  const t = useTranslations("queues");
  const { rateMax, rateWindowSeconds } = queue.limits;
  return (
    <div className="nowrap">
      {queue.concurrency !== null && t("atOnce", { count: queue.concurrency ?? 0 })}
      {rateMax !== null && (
        <> · {t("rate", { count: rateMax ?? 0, seconds: rateWindowSeconds ?? 0 })}</>
      )}
    </div>
  );
}

/** A button for operators, and the form that it opens. */
export function LimitQueue({ queue }: { queue: Queue }) {
  const t = useTranslations("queues");
  const common = useTranslations("common");
  const dialog = useRef<HTMLDialogElement>(null);
  const [opened, setOpened] = useState(0);
  const client = useQueryClient();
  const save = useMutation({
    mutationFn: (body: QueueLimitsBody) =>
      ask(api.PUT("/api/v1/queues/{name}", { params: { path: { name: queue.name } }, body })),
    onSuccess: () => dialog.current?.close(),
    onSettled: () => client.invalidateQueries(),
  });
  if (!useHasRole("operator")) return null;
  const open = () => {
    save.reset();
    setOpened(opened + 1); // the fields begin with the limits of now
    dialog.current?.showModal();
  };
  const submit = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    const form = new FormData(event.currentTarget);
    const number = (name: string) => (form.get(name) ? Number(form.get(name)) : null);
    save.mutate({
      concurrency: number("concurrency"),
      rateMax: number("rateMax"),
      rateWindowSeconds: number("rateWindowSeconds"),
    });
  };
  return (
    <>
      <button type="button" onClick={open} aria-label={`${t("limit")}: ${queue.name}`}>
        {t("limit")}
      </button>
      <dialog ref={dialog} aria-label={`${t("limit")}: ${queue.name}`}>
        <form onSubmit={submit} key={opened}>
          <p>{t("limitText", { name: queue.name })}</p>
          <NumberField name="concurrency" value={queue.limits.concurrency} max={1000} />
          <NumberField name="rateMax" value={queue.limits.rateMax} max={1000000} />
          <NumberField name="rateWindowSeconds" value={queue.limits.rateWindowSeconds} max={86400} />
          {save.error && <ProblemBox error={save.error} />}
          <div className="buttons">
            <button type="submit" className="primary" disabled={save.isPending}>
              {t("save")}
            </button>
            <button type="button" onClick={() => dialog.current?.close()}>
              {common("cancel")}
            </button>
          </div>
        </form>
      </dialog>
    </>
  );
}

interface NumberFieldProps {
  name: keyof QueueLimitsBody & string;
  value: number | null | undefined;
  max: number;
}

function NumberField({ name, value, max }: NumberFieldProps) {
  const t = useTranslations("queues");
  const id = useId();
  return (
    <p className="field">
      <label htmlFor={id}>{t(`fields.${name}`)}</label>
      <input
        id={id}
        name={name}
        type="number"
        min={name === "rateWindowSeconds" ? 0.001 : 1}
        step={name === "rateWindowSeconds" ? "any" : 1}
        max={max}
        defaultValue={value ?? ""}
      />
    </p>
  );
}
