import { useEffect, useState } from "react";

/** The code behind the `#` of the address that a mail led to; taken out of the address at once, so that it is in no history. */
export function useMailedCode(): string {
  const [code] = useState(() => decodeURIComponent(window.location.hash.slice(1)));
  useEffect(() => {
    if (window.location.hash) window.history.replaceState(window.history.state, "", window.location.pathname);
  }, []);
  return code;
}
