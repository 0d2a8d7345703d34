import { RouterProvider } from "@tanstack/react-router";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { router } from "./router.tsx";
import { session } from "./session/session.ts";
import "./theme/tokens.css";
import "./theme/base.css";

// Who is signed in decides what even public pages offer; the page does not wait for it, and a silent ledger is told where it matters.
session.begin().catch(() => undefined);

const place = document.getElementById("root");
if (place === null) throw new Error("the page has no #root");
createRoot(place).render(
  <StrictMode>
    <RouterProvider router={router} />
  </StrictMode>,
);
