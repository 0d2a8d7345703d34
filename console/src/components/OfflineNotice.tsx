import { useSyncExternalStore } from "react";
import { Icon } from "./Icon.tsx";
import style from "./OfflineNotice.module.css";

function subscribe(listener: () => void): () => void {
  window.addEventListener("online", listener);
  window.addEventListener("offline", listener);
  return () => {
    window.removeEventListener("online", listener);
    window.removeEventListener("offline", listener);
  };
}

/** Says that this device is offline, as long as it is. */
export function OfflineNotice() {
  const isOnline = useSyncExternalStore(subscribe, () => navigator.onLine);
  return (
    <div role="status" className={style.place}>
      {isOnline ? null : (
        <p className={style.notice}>
          <Icon name="alert" size={18} /> You are offline. What you see may be old; it goes on by itself when the network is back.
        </p>
      )}
    </div>
  );
}
