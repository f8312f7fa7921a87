/** Leave and holidays of a programme: the list, and the form that adds one. */

import { useInfiniteQuery, useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { type FormEvent, useState } from "react";
import { useTranslations } from "use-intl";
import { api, ask } from "../api/client";
import { exemptions, programmeWeeks } from "../api/people_queries";
import type { Exemption, ExemptionBody } from "../api/schema";
import { Action } from "../parts/Action";
import { Day } from "../parts/Day";
import { Field, FormProblem, faultsOf } from "../parts/Form";
import { Empty, Loading, ProblemBox } from "../parts/Problem";
import { itemsOf, Table } from "../parts/Table";

const REASONS = ["leave", "holiday", "other"] as const;

interface ExemptionsProps {
  programmeId: string;
  isManager: boolean;
}

export function Exemptions({ programmeId, isManager }: ExemptionsProps) {
  const t = useTranslations("programmes");
  const common = useTranslations("common");
  const { data, error, isPending, refetch } = useQuery(exemptions(programmeId));
  const offerings = itemsOf(useInfiniteQuery(programmeWeeks(programmeId)));
  const nameOf = (each: Exemption) =>
    offerings.find(({ offeringId }) => offeringId === each.offeringId)?.title ??
    offerings.find(({ facilitatorId }) => facilitatorId === each.userId)?.facilitatorName ??
    each.offeringId ??
    each.userId ??
    t("allFacilitators");
  return (
    <>
      {isPending && <Loading />}
      {error && <ProblemBox error={error} onAgain={() => void refetch()} />}
      {data?.length === 0 && <Empty title={t("noExemptions")} text={t("noExemptionsText")} />}
      {data && data.length > 0 && (
        <Table
          caption={t("exemptions")}
          rows={data}
          rowKey={(each) => each.id}
          columns={[
            { title: t("forWhom"), heading: true, cell: nameOf },
            { title: t("from"), cell: (each) => <Day on={each.startsOn} /> },
            { title: t("to"), cell: (each) => <Day on={each.endsOn} /> },
            { title: common("reason"), cell: (each) => t(each.reason as "leave") },
            { title: t("note"), text: true, cell: (each) => each.note },
            {
              title: common("actions"),
              cell: (each) =>
                isManager && (
                  <Action
                    label={t("remove")}
                    subject={nameOf(each)}
                    question={t("removeText")}
                    roles={["manager"]}
                    run={() =>
                      ask(
                        api.DELETE("/api/v1/programmes/{programmeId}/exemptions/{exemptionId}", {
                          params: { path: { programmeId, exemptionId: each.id } },
                        }),
                      )
                    }
                  />
                ),
            },
          ]}
        />
      )}
      {isManager && <NewExemption programmeId={programmeId} />}
    </>
  );
}

const SHOWN = /^#\/(startsOn|endsOn|note)$/;

function NewExemption({ programmeId }: { programmeId: string }) {
  const t = useTranslations("programmes");
  const common = useTranslations("common");
  const client = useQueryClient();
  const offerings = itemsOf(useInfiniteQuery(programmeWeeks(programmeId)));
  const [said, setSaid] = useState("");
  const add = useMutation({
    mutationFn: (body: ExemptionBody) =>
      ask(
        api.POST("/api/v1/programmes/{programmeId}/exemptions", {
          params: { path: { programmeId } },
          body,
        }),
      ),
    onSuccess: () => {
      setSaid(t("added"));
      void client.invalidateQueries({ queryKey: ["programmes"] });
    },
  });
  const faults = faultsOf(add.error);
  const submit = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    setSaid("");
    const form = event.currentTarget;
    const entered = Object.fromEntries(new FormData(form)) as Record<string, string>;
    const [kind, id] = (entered.whom ?? "").split(/:(.*)/s);
    const body = {
      startsOn: entered.startsOn || null,
      endsOn: entered.endsOn || null,
      reason: entered.reason,
      note: entered.note?.trim() || null,
      ...(kind === "user" && { userId: id }),
      ...(kind === "offering" && { offeringId: id }),
    } as ExemptionBody;
    add.mutate(body, { onSuccess: () => form.reset() });
  };
  const people = new Map(offerings.map((each) => [each.facilitatorId, each.facilitatorName]));
  return (
    <form className="form panel" onSubmit={submit} noValidate aria-label={t("addExemption")}>
      <h3>{t("addExemption")}</h3>
      <FormProblem error={add.error} isShown={(pointer) => SHOWN.test(pointer)} />
      <div className="row">
        <Field label={t("forWhom")}>
          {(input) => (
            <select {...input} name="whom">
              <option value="">{t("allFacilitators")}</option>
              {[...people].map(([id, name]) => (
                <option key={id} value={`user:${id}`}>
                  {name}
                </option>
              ))}
              {offerings.map(({ offeringId, title, facilitatorName }) => (
                <option key={offeringId} value={`offering:${offeringId}`}>
                  {title} ({facilitatorName})
                </option>
              ))}
            </select>
          )}
        </Field>
        <Field label={t("from")} fault={faults.get("#/startsOn")}>
          {(input) => <input {...input} name="startsOn" type="date" />}
        </Field>
        <Field label={t("to")} fault={faults.get("#/endsOn") ?? faults.get("#/")}>
          {(input) => <input {...input} name="endsOn" type="date" />}
        </Field>
        <Field label={common("reason")}>
          {(input) => (
            <select {...input} name="reason">
              {REASONS.map((each) => (
                <option key={each} value={each}>
                  {t(each)}
                </option>
              ))}
            </select>
          )}
        </Field>
        <Field label={t("note")} fault={faults.get("#/note")}>
          {(input) => <input {...input} name="note" maxLength={500} />}
        </Field>
      </div>
      <div className="buttons">
        <button type="submit" className="primary" disabled={add.isPending}>
          {t("addExemption")}
        </button>
        <span role="status" className="good">
          {said}
        </span>
      </div>
    </form>
  );
}
