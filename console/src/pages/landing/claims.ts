import type { IconName } from "../../components/Icon.tsx";

/** What the landing page claims. Each claim names the rows of the feature list that it rests on; a test looks whether the tests of the platform name them. */
export interface Claim {
  icon: IconName;
  title: string;
  text: string;
  restsOn: readonly string[];
}

export const CLAIMS: readonly Claim[] = [
  {
    icon: "scale",
    title: "Never more than the quote",
    text: "Before a job runs, the most it can cost is held. Afterwards what it really cost is taken, and the rest is yours again.",
    restsOn: ["S14", "S15"],
  },
  {
    icon: "coins",
    title: "Not served, not charged",
    text: "A job that fails before its first word costs nothing. One that breaks off later costs what was delivered, without the flat price.",
    restsOn: ["S15", "G14"],
  },
  {
    icon: "refresh",
    title: "Another machine takes over",
    text: "When a machine is lost before it has answered, another one gets the job. You pay once, and only who served is paid.",
    restsOn: ["S21", "D28"],
  },
  {
    icon: "user",
    title: "No name goes with your prompt",
    text: "The one machine that runs a job gets its messages, its model and a random id: no user, no address, no other job.",
    restsOn: ["D18", "S21"],
  },
  {
    icon: "shield",
    title: "Providers are checked",
    text: "A sample of the answers is scored again on the operator's own machine. Who is caught serving a lesser model is banned, and the consumer gets the credits back.",
    restsOn: ["D16"],
  },
  {
    icon: "receipt",
    title: "Every credit has an entry",
    text: "Charges, earnings, deposits: each is a transfer with two sides, and all of them together sum to zero. Your statement shows your side.",
    restsOn: ["D3", "S26"],
  },
];
