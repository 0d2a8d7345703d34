import { Link } from "@tanstack/react-router";
import { useEffect, useId, useRef, useState } from "react";
import { useSession } from "../session/use-session.ts";
import { ButtonLink } from "./Button.tsx";
import { Icon } from "./Icon.tsx";
import { Logo } from "./Logo.tsx";
import style from "./PublicHeader.module.css";
import { SchemeToggle } from "./SchemeToggle.tsx";

const PLACES = [
  ["models", "Models"],
  ["how", "How it works"],
  ["trust", "Why trust it"],
  ["share", "Share a GPU"],
] as const;

/** The top of the pages that everybody may see; on small screens its links are behind a button. */
export function PublicHeader() {
  const [isOpen, setOpen] = useState(false);
  const id = useId();
  const burger = useRef<HTMLButtonElement>(null);
  useEffect(() => {
    if (!isOpen) return;
    const close = (event: KeyboardEvent) => {
      if (event.key !== "Escape") return;
      setOpen(false);
      burger.current?.focus();
    };
    document.addEventListener("keydown", close);
    return () => document.removeEventListener("keydown", close);
  }, [isOpen]);
  return (
    <header className={style.header}>
      <div className={style.bar}>
        <Link to="/" className={style.home}>
          <Logo />
        </Link>
        <nav id={id} className={style.nav} aria-label="Main" data-open={isOpen || undefined}>
          <ul>
            {PLACES.map(([hash, name]) => (
              <li key={hash}>
                <Link to="/" hash={hash} onClick={() => setOpen(false)}>
                  {name}
                </Link>
              </li>
            ))}
          </ul>
          <div className={style.actions}>
            <Actions />
          </div>
        </nav>
        <div className={style.tools}>
          <SchemeToggle />
          <button
            ref={burger}
            type="button"
            className={style.burger}
            aria-expanded={isOpen}
            aria-controls={id}
            aria-label="Menu"
            onClick={() => setOpen(!isOpen)}
          >
            <Icon name={isOpen ? "close" : "menu"} size={24} />
          </button>
        </div>
      </div>
    </header>
  );
}

function Actions() {
  const { status } = useSession();
  if (status === "in") {
    return (
      <ButtonLink to="/dashboard" look="gold">
        Dashboard
      </ButtonLink>
    );
  }
  return (
    <>
      <ButtonLink to="/login" look="quiet">
        Sign in
      </ButtonLink>
      <ButtonLink to="/register" look="gold">
        Create account
      </ButtonLink>
    </>
  );
}
