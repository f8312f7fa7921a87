/** Which address shows which page. */

import {
  createRootRoute,
  createRoute,
  createRouter,
  lazyRouteComponent,
  Link,
  Navigate,
} from "@tanstack/react-router";
import { useTranslations } from "use-intl";
import { AlertsPage } from "./pages/AlertsPage";
import { AuditPage } from "./pages/AuditPage";
import { CompletionPage } from "./pages/CompletionPage";
import { CompletionsPage } from "./pages/CompletionsPage";
import { CoursePage } from "./pages/CoursePage";
import { CoursesPage } from "./pages/CoursesPage";
import { DeliveriesPage } from "./pages/DeliveriesPage";
import { DestinationsPage } from "./pages/DestinationsPage";
import { DispatchesPage } from "./pages/DispatchesPage";
import { ImportsPage } from "./pages/ImportsPage";
import { JobPage } from "./pages/JobPage";
import { JobsPage } from "./pages/JobsPage";
import { LearnerCoursePage } from "./pages/LearnerCoursePage";
import { LearnerPage } from "./pages/LearnerPage";
import { OverviewPage } from "./pages/OverviewPage";
import { PeoplePage } from "./pages/PeoplePage";
import { QueuesPage } from "./pages/QueuesPage";
import { SchedulesPage } from "./pages/SchedulesPage";
import { SettingsPage } from "./pages/SettingsPage";
import { SuppressionsPage } from "./pages/SuppressionsPage";
import { WorkersPage } from "./pages/WorkersPage";
import { Layout } from "./parts/Layout";
import { Page } from "./parts/Page";
import { Home } from "./parts/Home";

function NotFound() {
  const t = useTranslations("common");
  return (
    <Page title={t("notFound")}>
      <Link to="/console">{t("home")}</Link>
    </Page>
  );
}

type Search = Record<string, string>;

/** Filters are words: whatever else stands in an address is left out. */
function validateSearch(search: Record<string, unknown>): Search {
  return Object.fromEntries(
    Object.entries(search).map(([key, value]) => [key, String(value)] as const),
  );
}

const root = createRootRoute({ component: Layout, notFoundComponent: NotFound, validateSearch });
const under = { getParentRoute: () => root };

const tree = root.addChildren([
  createRoute({ ...under, path: "/", component: () => <Navigate to="/console" replace /> }),
  createRoute({
    ...under,
    path: "/admin/queues", // the seeds' address
    component: () => <Navigate to="/console/queues" replace />,
  }),
  createRoute({ ...under, path: "/console", component: () => <Home overview={<OverviewPage />} /> }),
  createRoute({ ...under, path: "/console/queues", component: QueuesPage }),
  createRoute({ ...under, path: "/console/jobs", component: JobsPage }),
  createRoute({ ...under, path: "/console/jobs/$jobId", component: JobPage }),
  createRoute({ ...under, path: "/console/completions", component: CompletionsPage }),
  createRoute({ ...under, path: "/console/completions/$completionId", component: CompletionPage }),
  createRoute({ ...under, path: "/console/destinations", component: DestinationsPage }),
  createRoute({ ...under, path: "/console/dispatches", component: DispatchesPage }),
  createRoute({ ...under, path: "/console/schedules", component: SchedulesPage }),
  createRoute({ ...under, path: "/console/messages", component: DeliveriesPage }),
  createRoute({ ...under, path: "/console/suppressions", component: SuppressionsPage }),
  createRoute({ ...under, path: "/console/workers", component: WorkersPage }),
  createRoute({ ...under, path: "/console/alerts", component: AlertsPage }),
  createRoute({ ...under, path: "/console/courses", component: CoursesPage }),
  createRoute({ ...under, path: "/console/courses/$courseId", component: CoursePage }),
  createRoute({ ...under, path: "/console/people", component: PeoplePage }),
  createRoute({ ...under, path: "/console/imports", component: ImportsPage }),
  createRoute({ ...under, path: "/console/learners/$userId", component: LearnerPage }),
  createRoute({
    ...under,
    path: "/console/learners/$userId/courses/$courseId",
    component: LearnerCoursePage,
  }),
  createRoute({
    ...under,
    path: "/console/logs",
    component: lazyRouteComponent(() => import("./pages/LogsPage"), "LogsPage"),
  }),
  createRoute({
    ...under,
    path: "/console/programmes",
    component: lazyRouteComponent(() => import("./pages/ProgrammesPage"), "ProgrammesPage"),
  }),
  createRoute({
    ...under,
    path: "/console/programmes/$programmeId",
    component: lazyRouteComponent(() => import("./pages/ProgrammePage"), "ProgrammePage"),
  }),
  createRoute({
    ...under,
    path: "/console/plans",
    component: lazyRouteComponent(() => import("./pages/PlansPage"), "PlansPage"),
  }),
  createRoute({
    ...under,
    path: "/console/plans/$planId",
    component: lazyRouteComponent(() => import("./pages/PlanPage"), "PlanPage"),
  }),
  createRoute({
    ...under,
    path: "/console/plans/$planId/lessons/$lessonId",
    component: lazyRouteComponent(() => import("./pages/LessonPage"), "LessonPage"),
  }),
  createRoute({
    ...under,
    path: "/console/team",
    component: lazyRouteComponent(() => import("./pages/TeamPage"), "TeamPage"),
  }),
  createRoute({ ...under, path: "/console/audit", component: AuditPage }),
  createRoute({ ...under, path: "/console/settings", component: SettingsPage }),
]);

export const router = createRouter({
  routeTree: tree,
  scrollRestoration: true,
  // Filters stand in the address as they are, without quotation marks of JSON.
  parseSearch: (text) => Object.fromEntries(new URLSearchParams(text)),
  stringifySearch: (search) => {
    const text = new URLSearchParams(search as Search).toString();
    return text ? `?${text}` : "";
  },
});

declare module "@tanstack/react-router" {
  interface Register {
    router: typeof router;
  }
}
