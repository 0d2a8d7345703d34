import { Skeleton } from "../../components/Skeleton.tsx";
import style from "./PageError.module.css";

/** A page whose code is on its way. */
export function PageWaits() {
  return (
    <div className={style.place} aria-busy="true">
      <span className="heard">Loading</span>
      <Skeleton width="14rem" height="2rem" />
      <Skeleton height="12rem" />
    </div>
  );
}
