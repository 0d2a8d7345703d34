import type { IconName } from "../components/Icon.tsx";

/** Where the sidebar leads. */
export interface Place {
  to: string;
  name: string;
  icon: IconName;
  /** Only the page itself is current, not those below it. */
  exact?: boolean;
}

export const DASHBOARD: readonly Place[] = [
  { to: "/dashboard", name: "Overview", icon: "home", exact: true },
  { to: "/dashboard/jobs", name: "Jobs", icon: "list" },
  { to: "/dashboard/wallet", name: "Wallet", icon: "wallet" },
  { to: "/dashboard/provider", name: "Provider", icon: "chip" },
  { to: "/dashboard/network", name: "Network", icon: "network" },
  { to: "/dashboard/account", name: "Account", icon: "user" },
];

export const ADMIN: readonly Place[] = [
  { to: "/admin", name: "Operations", icon: "home", exact: true },
  { to: "/admin/users", name: "Users", icon: "users" },
  { to: "/admin/withdrawals", name: "Withdrawals", icon: "coins" },
  { to: "/admin/nodes", name: "Nodes", icon: "chip" },
  { to: "/admin/appeals", name: "Appeals", icon: "scale" },
  { to: "/admin/prices", name: "Prices", icon: "tag" },
  { to: "/admin/catalog", name: "Catalog", icon: "book" },
  { to: "/admin/corrections", name: "Corrections", icon: "receipt" },
  { to: "/admin/audit-log", name: "Audit log", icon: "shield" },
];
