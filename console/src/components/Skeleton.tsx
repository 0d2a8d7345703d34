import style from "./Skeleton.module.css";

interface Props {
  /** Any CSS length; the size of what comes, so that nothing jumps. */
  width?: string;
  height?: string;
  round?: boolean;
}

/** Stands where something is about to be. The region that waits says so by `aria-busy`. */
export function Skeleton({ width = "100%", height = "1em", round = false }: Props) {
  return <span className={`${style.skeleton} ${round ? style.round : ""}`} style={{ width, height }} aria-hidden="true" />;
}
