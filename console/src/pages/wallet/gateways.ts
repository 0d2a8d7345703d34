const MOCK = "mock";
const NAMES: Record<string, string> = { [MOCK]: "the development page", stripe: "Stripe" };

/** A payment service's name for people. */
export function gatewayName(gateway: string): string {
  return NAMES[gateway] ?? gateway;
}

/** Whether no money moves there. */
export function isMock(gateway: string): boolean {
  return gateway === MOCK;
}
