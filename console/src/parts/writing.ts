/** Refreshes of what changes while a plan's lessons are written. */

import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useEffect } from "react";
import { planStatus } from "../api/people_queries";

const EVERY_MS = 1_500;

/** Return the interval of refreshes: none while nothing is written. The end asks once more. */
export function useWhileWriting(planId: string): number | false {
  const client = useQueryClient();
  const isWriting = useQuery(planStatus(planId)).data?.status === "in_progress";
  useEffect(() => {
    if (!isWriting) void client.invalidateQueries({ queryKey: ["plans"] });
  }, [client, isWriting]);
  return isWriting ? EVERY_MS : false;
}
