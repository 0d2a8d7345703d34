import { createRootRoute, createRoute, createRouter, lazyRouteComponent, redirect } from "@tanstack/react-router";
import { JOB_STATES, type JobStatus } from "./jobs/states.ts";
import { PageError } from "./pages/not-found/PageError.tsx";
import { PageWaits } from "./pages/not-found/PageWaits.tsx";
import { readSearch } from "./pages/provider/periods.ts";
import { readSearch as readWalletSearch } from "./pages/wallet/kinds.ts";
import { Root } from "./Root.tsx";
import { session } from "./session/session.ts";
import { isOperator } from "./session/use-session.ts";

/** Every page and its address. A page is one line here and one folder below pages/; its code is loaded when somebody goes there. */

const notFound = lazyRouteComponent(() => import("./pages/not-found/NotFound.tsx"), "NotFound");
const shell = lazyRouteComponent(() => import("./shell/Shell.tsx"), "Shell");

const root = createRootRoute({ component: Root, notFoundComponent: notFound });

// --- for everybody -----------------------------------------------------------------------------------------------------------------

const text = (value: unknown): string | undefined => (typeof value === "string" && value !== "" ? value : undefined);
/** What an address says under a name, where it is one of these. */
function oneOf<Name extends string, Word extends string>(name: Name, value: unknown, words: readonly Word[]): { [N in Name]?: Word } {
  return (words.includes(value as Word) ? { [name]: value } : {}) as { [N in Name]?: Word };
}
const withNext = (search: Record<string, unknown>): { next?: string } => (text(search.next) ? { next: String(search.next) } : {});

const landing = createRoute({
  getParentRoute: () => root,
  path: "/",
  component: lazyRouteComponent(() => import("./pages/landing/Landing.tsx"), "Landing"),
});

export interface LoginSearch {
  next?: string;
  /** What a sign-in through another service came to. */
  error?: string;
  second_factor?: "1";
}

const login = createRoute({
  getParentRoute: () => root,
  path: "/login",
  validateSearch: (search: Record<string, unknown>): LoginSearch => ({
    ...withNext(search),
    ...(text(search.error) ? { error: String(search.error) } : {}),
    ...(String(search.second_factor) === "1" ? { second_factor: "1" as const } : {}),
  }),
  component: lazyRouteComponent(() => import("./pages/login/Login.tsx"), "Login"),
});

const register = createRoute({
  getParentRoute: () => root,
  path: "/register",
  validateSearch: withNext,
  component: lazyRouteComponent(() => import("./pages/register/Register.tsx"), "Register"),
});

// Addresses in mails; the code stands behind the `#`, which no server sees.
const verifyEmail = createRoute({
  getParentRoute: () => root,
  path: "/verify-email",
  component: lazyRouteComponent(() => import("./pages/mail/VerifyEmail.tsx"), "VerifyEmail"),
});

const resetPassword = createRoute({
  getParentRoute: () => root,
  path: "/reset-password",
  component: lazyRouteComponent(() => import("./pages/mail/ResetPassword.tsx"), "ResetPassword"),
});

const forgotPassword = createRoute({
  getParentRoute: () => root,
  path: "/forgot-password",
  component: lazyRouteComponent(() => import("./pages/mail/ForgotPassword.tsx"), "ForgotPassword"),
});

// --- for who is signed in ------------------------------------------------------------------------------------------------------------

/** Sends who is not signed in to /login, and from there back. */
async function requireSignIn({ location }: { location: { href: string } }): Promise<void> {
  await session.begin();
  if (session.state().status !== "in") throw redirect({ to: "/login", search: { next: location.href } });
}

async function requireOperator(asked: { location: { href: string } }): Promise<void> {
  await requireSignIn(asked);
  if (!isOperator()) throw redirect({ to: "/dashboard" });
}

const dashboard = createRoute({ getParentRoute: () => root, path: "/dashboard", beforeLoad: requireSignIn, component: shell });

/** Addresses of an older form: `/dashboard?tab=wallet`. */
const TABS = ["jobs", "wallet", "provider", "network", "account"] as const;
type Tab = (typeof TABS)[number];

export interface OverviewSearch {
  /** A model to begin with, chosen on the landing page. */
  model?: string;
  tab?: Tab;
}

const overview = createRoute({
  getParentRoute: () => dashboard,
  path: "/",
  validateSearch: (search: Record<string, unknown>): OverviewSearch => ({
    ...(text(search.model) ? { model: String(search.model) } : {}),
    ...(TABS.includes(search.tab as Tab) ? { tab: search.tab as Tab } : {}),
  }),
  beforeLoad: ({ search }) => {
    if (search.tab) throw redirect({ to: `/dashboard/${search.tab}`, replace: true });
  },
  component: lazyRouteComponent(() => import("./pages/overview/Overview.tsx"), "Overview"),
});

export interface JobsSearch {
  status?: JobStatus;
  model?: string;
}

const jobs = createRoute({
  getParentRoute: () => dashboard,
  path: "/jobs",
  validateSearch: (search: Record<string, unknown>): JobsSearch => ({
    ...(JOB_STATES.includes(search.status as JobStatus) ? { status: search.status as JobStatus } : {}),
    ...(text(search.model) ? { model: String(search.model) } : {}),
  }),
  component: lazyRouteComponent(() => import("./pages/jobs/Jobs.tsx"), "Jobs"),
});

const job = createRoute({
  getParentRoute: () => dashboard,
  path: "/jobs/$id",
  component: lazyRouteComponent(() => import("./pages/job/Job.tsx"), "Job"),
});

const wallet = createRoute({
  getParentRoute: () => dashboard,
  path: "/wallet",
  validateSearch: readWalletSearch,
  component: lazyRouteComponent(() => import("./pages/wallet/Wallet.tsx"), "Wallet"),
});

const provider = createRoute({
  getParentRoute: () => dashboard,
  path: "/provider",
  validateSearch: readSearch,
  component: lazyRouteComponent(() => import("./pages/provider/Provider.tsx"), "Provider"),
});

const addMachine = createRoute({
  getParentRoute: () => dashboard,
  path: "/provider/add",
  // A machine of one's own that was cut off, and comes back with a new code.
  validateSearch: (search: Record<string, unknown>): { node?: string } => (text(search.node) ? { node: String(search.node) } : {}),
  component: lazyRouteComponent(() => import("./pages/add-machine/AddMachine.tsx"), "AddMachine"),
});

const machine = createRoute({
  getParentRoute: () => dashboard,
  path: "/provider/$id",
  component: lazyRouteComponent(() => import("./pages/machine/Machine.tsx"), "Machine"),
});

const network = createRoute({
  getParentRoute: () => dashboard,
  path: "/network",
  component: lazyRouteComponent(() => import("./pages/network/Network.tsx"), "Network"),
});

const account = createRoute({
  getParentRoute: () => dashboard,
  path: "/account",
  component: lazyRouteComponent(() => import("./pages/account/Account.tsx"), "Account"),
});

const security = createRoute({
  getParentRoute: () => dashboard,
  path: "/account/security",
  // What connecting another service came to, when it did not work.
  validateSearch: (search: Record<string, unknown>): { error?: string } => (text(search.error) ? { error: String(search.error) } : {}),
  component: lazyRouteComponent(() => import("./pages/account/Security.tsx"), "Security"),
});

const apiKeys = createRoute({
  getParentRoute: () => dashboard,
  path: "/account/keys",
  component: lazyRouteComponent(() => import("./pages/keys/Keys.tsx"), "Keys"),
});

// --- for operators ---------------------------------------------------------------------------------------------------------------------

const admin = createRoute({ getParentRoute: () => root, path: "/admin", beforeLoad: requireOperator, component: shell });

const operations = createRoute({
  getParentRoute: () => admin,
  path: "/",
  component: lazyRouteComponent(() => import("./pages/admin/Operations.tsx"), "Operations"),
});

export interface UsersSearch {
  /** The beginning of a name or an address. */
  q?: string;
}

const users = createRoute({
  getParentRoute: () => admin,
  path: "/users",
  validateSearch: (search: Record<string, unknown>): UsersSearch => (text(search.q) ? { q: String(search.q) } : {}),
  component: lazyRouteComponent(() => import("./pages/admin/Users.tsx"), "Users"),
});

const PAID_OR_NOT = ["PENDING", "SUCCESS", "FAILED", "ALL"] as const;

export interface WithdrawalsSearch {
  /** Left out: those that are to be paid. */
  status?: (typeof PAID_OR_NOT)[number];
}

const withdrawals = createRoute({
  getParentRoute: () => admin,
  path: "/withdrawals",
  validateSearch: (search: Record<string, unknown>): WithdrawalsSearch => oneOf("status", search.status, PAID_OR_NOT),
  component: lazyRouteComponent(() => import("./pages/admin/Withdrawals.tsx"), "Withdrawals"),
});

const prices = createRoute({
  getParentRoute: () => admin,
  path: "/prices",
  component: lazyRouteComponent(() => import("./pages/admin/Prices.tsx"), "Prices"),
});

const catalog = createRoute({
  getParentRoute: () => admin,
  path: "/catalog",
  component: lazyRouteComponent(() => import("./pages/admin/Catalog.tsx"), "Catalog"),
});

const corrections = createRoute({
  getParentRoute: () => admin,
  path: "/corrections",
  component: lazyRouteComponent(() => import("./pages/admin/Corrections.tsx"), "Corrections"),
});

const adminNodes = createRoute({
  getParentRoute: () => admin,
  path: "/nodes",
  component: lazyRouteComponent(() => import("./pages/admin/Nodes.tsx"), "Nodes"),
});

const adminNode = createRoute({
  getParentRoute: () => admin,
  path: "/nodes/$id",
  component: lazyRouteComponent(() => import("./pages/admin/Node.tsx"), "Node"),
});

const APPEAL_STATES = ["OPEN", "UPHELD", "REFUSED", "ALL"] as const;

export interface AppealsSearch {
  /** Left out: those that wait. */
  state?: (typeof APPEAL_STATES)[number];
}

const appeals = createRoute({
  getParentRoute: () => admin,
  path: "/appeals",
  validateSearch: (search: Record<string, unknown>): AppealsSearch => oneOf("state", search.state, APPEAL_STATES),
  component: lazyRouteComponent(() => import("./pages/admin/Appeals.tsx"), "Appeals"),
});

const auditLog = createRoute({
  getParentRoute: () => admin,
  path: "/audit-log",
  component: lazyRouteComponent(() => import("./pages/admin/AuditLog.tsx"), "AuditLog"),
});

const tree = root.addChildren([
  landing,
  login,
  register,
  verifyEmail,
  resetPassword,
  forgotPassword,
  dashboard.addChildren([overview, jobs, job, wallet, provider, addMachine, machine, network, account, security, apiKeys]),
  admin.addChildren([operations, users, withdrawals, adminNodes, adminNode, appeals, prices, catalog, corrections, auditLog]),
]);

export const router = createRouter({
  routeTree: tree,
  defaultPreload: "intent",
  defaultErrorComponent: PageError,
  defaultPendingComponent: PageWaits,
  defaultNotFoundComponent: notFound,
  trailingSlash: "never",
});

declare module "@tanstack/react-router" {
  interface Register {
    router: typeof router;
  }
}
