import { useSyncExternalStore } from "react";
import type { Scheme } from "./tokens.ts";

/** Dark or light: an attribute of the document, set by public/scheme.js before the first paint, and one word in localStorage. */

const ATTRIBUTE = "data-mantine-color-scheme";
const KEY = "gfe-color-scheme";
const listeners = new Set<() => void>();

function current(): Scheme {
  return document.documentElement.getAttribute(ATTRIBUTE) === "light" ? "light" : "dark";
}

export function choose(scheme: Scheme): void {
  document.documentElement.setAttribute(ATTRIBUTE, scheme);
  try {
    localStorage.setItem(KEY, scheme);
  } catch {
    // A browser that stores nothing forgets it.
  }
  for (const listener of [...listeners]) listener();
}

function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export function useScheme(): Scheme {
  return useSyncExternalStore(subscribe, current);
}
