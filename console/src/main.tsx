/** The console starts here. */

import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { RouterProvider } from "@tanstack/react-router";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { ApiError } from "./api/client";
import { LanguageProvider } from "./messages/language";
import { applyStoredTheme } from "./parts/Layout";
import { SignedIn } from "./parts/session";
import { router } from "./router";
import "./styles.css";

const client = new QueryClient({
  defaultOptions: {
    queries: {
      staleTime: 5_000,
      // A problem document is an answer; only a server that is away is asked again.
      retry: (count, error) => error instanceof ApiError && error.status === 0 && count < 2,
    },
  },
});

applyStoredTheme();
const root = document.getElementById("root");
if (root)
  createRoot(root).render(
    <StrictMode>
      <LanguageProvider>
        <QueryClientProvider client={client}>
          <SignedIn>
            <RouterProvider router={router} />
          </SignedIn>
        </QueryClientProvider>
      </LanguageProvider>
    </StrictMode>,
  );
