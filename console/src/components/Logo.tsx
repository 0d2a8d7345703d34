import style from "./Logo.module.css";

/** The mark, with the name or without. */
export function Logo({ bare = false }: { bare?: boolean }) {
  return (
    <span className={style.logo}>
      <svg viewBox="0 0 32 32" width="30" height="30" aria-hidden="true" focusable="false">
        <path
          className={style.ring}
          d="M23.4 10.2A9.2 9.2 0 1 0 25.2 16H17"
          fill="none"
          strokeWidth="3.2"
          strokeLinecap="round"
          strokeLinejoin="round"
        />
        <circle className={style.node} cx="25.4" cy="8.2" r="2.4" />
      </svg>
      {bare ? <span className="heard">GPU-For-Everyone</span> : <span className={style.name}>GPU-For-Everyone</span>}
    </span>
  );
}
