/** The exact commands that make a machine a node: this installation's address, the code that was just made. Pure. */

export const SYSTEMS = ["linux", "macos", "windows", "container"] as const;
export type System = (typeof SYSTEMS)[number];

export interface Step {
  /** What the command is for. */
  what: string;
  command: string;
}

export interface Recipe {
  name: string;
  steps: readonly Step[];
  /** What to know before. */
  know: string;
}

export function recipe(system: System, site: string, code: string): Recipe {
  const install = `curl -fsS ${site}/install.sh | sh -s -- --code ${code}`;
  const started: Step = { what: "Where gfe is installed already", command: `gfe agent --url ${site} --code ${code}` };
  switch (system) {
    case "linux":
      return {
        name: "Linux",
        know: "Needs Python 3.11 or newer. The agent finds Ollama by itself.",
        steps: [
          { what: "Installs the agent, for you alone, and starts it", command: install },
          { what: "The same without Ollama: with a runtime of its own", command: install.replace("| sh", "| GFE_EXTRAS=local sh") },
          started,
        ],
      };
    case "macos":
      return {
        name: "macOS",
        know: "Needs Python 3.11 or newer, and Ollama running. The agent finds it by itself.",
        steps: [{ what: "In Terminal: installs the agent, for you alone, and starts it", command: install }, started],
      };
    case "windows":
      return {
        name: "Windows",
        know: "The agent runs inside WSL 2, where your GPU and Ollama for Linux are there too. We have not tried these lines on Windows itself.",
        steps: [
          { what: "In PowerShell, once: Linux for Windows, then restart", command: "wsl --install" },
          { what: "In PowerShell: installs the agent inside it and starts it", command: `wsl -- sh -c "${install}"` },
          { what: "Where gfe is installed already", command: `wsl -- sh -lc "~/.local/bin/gfe agent --url ${site} --code ${code}"` },
        ],
      };
    case "container":
      return {
        name: "Container",
        know: "Needs Ollama on the machine itself: the container gets the machine’s network, and nothing else of it.",
        steps: [
          {
            what: "Once, in the platform’s source: makes the image",
            command: "podman build -t gfe-agent -f provider_join/agent/Containerfile .",
          },
          {
            what: "Starts the agent",
            command: `podman run -d --network host --read-only --cap-drop=all --security-opt no-new-privileges -v gfe-agent:/data gfe-agent --url ${site} --code ${code}`,
          },
        ],
      };
  }
}

/** What the commands look like before there is a code. */
export const ANY_CODE = "gfe_enroll_…";

/** The system to show first: that of who looks. */
export function usualSystem(userAgent: string): System {
  if (/Windows/.test(userAgent)) return "windows";
  return /Mac OS X|Macintosh/.test(userAgent) && !/iPhone|iPad/.test(userAgent) ? "macos" : "linux";
}

/** Whether an address leads anywhere from another machine. */
export function isOnlyHere(hostname: string): boolean {
  return hostname === "localhost" || hostname === "[::1]" || hostname === "::1" || /^127(\.\d+){3}$/.test(hostname);
}
