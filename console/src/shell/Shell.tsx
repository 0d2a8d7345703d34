import "@mantine/core/styles.layer.css";
import "../theme/mantine.css";
import { Drawer, MantineProvider } from "@mantine/core";
import { QueryClientProvider } from "@tanstack/react-query";
import { Outlet, useRouter, useRouterState } from "@tanstack/react-router";
import { useEffect, useState } from "react";
import { Icon } from "../components/Icon.tsx";
import { Logo } from "../components/Logo.tsx";
import { live } from "../live/live.ts";
import { queryClient } from "../queries.ts";
import { session } from "../session/session.ts";
import { resolver, theme } from "../theme/mantine.ts";
import { useScheme } from "../theme/scheme.ts";
import { ConnectionNotice } from "./ConnectionNotice.tsx";
import style from "./Shell.module.css";
import { Sidebar } from "./Sidebar.tsx";

/** What stands around every page of who is signed in: navigation at the side, on small screens in a drawer, and the live socket. */
export function Shell() {
  const scheme = useScheme();
  return (
    <MantineProvider
      theme={theme}
      cssVariablesResolver={resolver}
      withCssVariables={false}
      withGlobalClasses={false}
      forceColorScheme={scheme}
    >
      <QueryClientProvider client={queryClient}>
        <Frame />
      </QueryClientProvider>
    </MantineProvider>
  );
}

/** Nothing of one account is shown to the next. */
let shownTo: string | undefined;
session.subscribe(() => {
  const who = session.state().claims?.sub;
  if (who === shownTo) return;
  if (shownTo !== undefined) queryClient.clear();
  shownTo = who;
});

function Frame() {
  const router = useRouter();
  const pathname = useRouterState({ select: (state) => state.location.pathname });
  const [isOpen, setOpen] = useState(false);
  const isAdmin = pathname.startsWith("/admin");

  useEffect(() => live.start(queryClient), []);
  // Whoever goes anywhere has done with the drawer, be it to the page that is open.
  useEffect(() => router.subscribe("onBeforeNavigate", () => setOpen(false)), [router]);

  return (
    <div className={style.frame}>
      <a className="skip" href="#main">
        Skip to the content
      </a>
      <header className={style.top}>
        <button
          type="button"
          className={style.burger}
          aria-label="Menu"
          aria-haspopup="dialog"
          aria-expanded={isOpen}
          onClick={() => setOpen(true)}
        >
          <Icon name="menu" size={24} />
        </button>
        <Logo />
      </header>
      <aside className={style.side} aria-label="Sidebar">
        <Sidebar isAdmin={isAdmin} />
      </aside>
      <Drawer.Root opened={isOpen} onClose={() => setOpen(false)} size="18.5rem">
        <Drawer.Overlay backgroundOpacity={0.65} />
        <Drawer.Content aria-label="Menu">
          <Drawer.Body p={0} className={style.drawer}>
            <Sidebar isAdmin={isAdmin} onClose={() => setOpen(false)} />
          </Drawer.Body>
        </Drawer.Content>
      </Drawer.Root>
      <main id="main" tabIndex={-1} className={style.main}>
        <ConnectionNotice />
        <Outlet />
      </main>
    </div>
  );
}
