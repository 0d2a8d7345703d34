const TIERS: Record<string, string> = { probation: "On probation", verified: "Verified", established: "Established" };

/** How far a node is trusted. */
export function tierName(tier: string): string {
  return TIERS[tier] ?? tier;
}
