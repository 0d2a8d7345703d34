import { useEffect } from "react";

const SITE = "GPU-For-Everyone";

/** Name the page: in the browser's tab, and for those who hear it (the router's announcer reads it after each navigation). */
export function useTitle(title?: string): void {
  useEffect(() => {
    document.title = title ? `${title} · ${SITE}` : `${SITE}: anybody's GPU, one honest market`;
  }, [title]);
}
