import { Outlet, useRouter, useRouterState } from "@tanstack/react-router";
import { useEffect, useRef, useState } from "react";
import { OfflineNotice } from "./components/OfflineNotice.tsx";
import { session } from "./session/session.ts";

/** Around every page: what to do when the sign-in ends, where a new page begins, and what is said of it. */
export function Root() {
  useEndOfSession();
  const announcement = useNewPage();
  return (
    <>
      <Outlet />
      <OfflineNotice />
      <p className="heard" aria-live="polite">
        {announcement}
      </p>
    </>
  );
}

/** Who must be signed in goes to /login, and back from there. */
function useEndOfSession(): void {
  const router = useRouter();
  useEffect(() => {
    let who = session.state().claims?.sub;
    return session.subscribe(() => {
      const { status, claims, because } = session.state();
      if (claims?.sub === who) return;
      who = claims?.sub;
      const { href, pathname } = router.state.location;
      if (status !== "out" || !/^\/(dashboard|admin)\b/.test(pathname)) return;
      if (because === "wish") void router.navigate({ to: "/" });
      else void router.navigate({ to: "/login", search: { next: href } });
    });
  }, [router]);
}

/** A new page begins at its top, or where its address points to, and its title is said. */
function useNewPage(): string {
  const pathname = useRouterState({ select: (state) => state.resolvedLocation?.pathname });
  const [announcement, announce] = useState("");
  const before = useRef<string | undefined>(undefined);
  useEffect(() => {
    const isFirst = before.current === undefined;
    const isSame = before.current === pathname;
    before.current = pathname;
    if (isFirst || isSame || pathname === undefined) return;
    if (!window.location.hash) window.scrollTo(0, 0);
    document.getElementById("main")?.focus({ preventScroll: true });
    const timer = setTimeout(() => announce(document.title), 150); // once the page has named itself
    return () => clearTimeout(timer);
  }, [pathname]);
  return announcement;
}
