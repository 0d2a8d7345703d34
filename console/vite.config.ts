import react from "@vitejs/plugin-react";
import { defineConfig } from "vitest/config";

// Where the services of `gfe up` are, for the development server; the built page asks the ledger for the API's address.
const ledger = process.env.GFE_CONSOLE_URL ?? "http://127.0.0.1:8080";
const api = process.env.GFE_API_URL ?? "http://127.0.0.1:8000";
// The services know the ledger's own address as the console's origin; so the development server speaks in its name.
const asConsole = (target: string) => ({ target, headers: { Origin: ledger } });

export default defineConfig({
  plugins: [react()],
  build: {
    outDir: "../ledger/static",
    emptyOutDir: true,
    target: "es2022",
    manifest: true,
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0, // the page's policy allows no data: scripts or styles
    chunkSizeWarningLimit: 700,
    rolldownOptions: {
      output: {
        codeSplitting: {
          groups: [
            // What every page needs, as one file: it compresses better, and stays the same when only our own code changes.
            {
              name: "platform",
              test: /node_modules\/(react|react-dom|scheduler|use-sync-external-store|@tanstack\/(react-router|router-core|history|react-store|store))\//,
            },
          ],
        },
      },
    },
  },
  server: {
    port: 5173,
    strictPort: true,
    proxy: {
      "/api/computing": asConsole(api),
      // Both services have routes below it: the ledger judges nodes, the job APIs know what they do.
      "^/api/admin/nodes(?!/[^/]+/(ban|lift)/)": asConsole(api),
      "/v1": asConsole(api),
      "/ws": { ...asConsole(api), ws: true },
      "/api": asConsole(ledger),
      "/.well-known": asConsole(ledger),
      "/install.sh": asConsole(ledger),
      "/status": asConsole(ledger),
      "/pay": asConsole(ledger),
    },
  },
  test: { include: ["src/**/*.test.{ts,tsx}"], environment: "node", restoreMocks: true },
});
