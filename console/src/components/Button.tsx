import { createLink } from "@tanstack/react-router";
import type { AnchorHTMLAttributes, ButtonHTMLAttributes, ReactNode, Ref } from "react";
import style from "./Button.module.css";
import { Spinner } from "./Spinner.tsx";

export interface Look {
  /** `gold` for the one thing to do on a page, `plain` for the others, `quiet` for those beside, `bad` for what cannot be undone. */
  look?: "gold" | "plain" | "quiet" | "bad";
  size?: "md" | "lg";
  /** As wide as its place. */
  wide?: boolean;
  icon?: ReactNode;
}

interface Props extends Look, ButtonHTMLAttributes<HTMLButtonElement> {
  /** Something is under way; it cannot be pressed again. */
  busy?: boolean;
}

export function Button({ look, size, wide, icon, busy = false, disabled, children, ...others }: Props) {
  return (
    <button type="button" {...others} className={classOf({ look, size, wide })} disabled={disabled || busy} aria-busy={busy || undefined}>
      {busy ? <Spinner /> : icon}
      <span>{children}</span>
    </button>
  );
}

interface AnchorProps extends Look, AnchorHTMLAttributes<HTMLAnchorElement> {
  ref?: Ref<HTMLAnchorElement>;
}

/** A link that looks like a button, to another address. */
export function ButtonAnchor({ look, size, wide, icon, children, ...others }: AnchorProps) {
  return (
    <a {...others} className={classOf({ look, size, wide })}>
      {icon}
      <span>{children}</span>
    </a>
  );
}

/** The same to a page of ours: `<ButtonLink to="/register">`. */
export const ButtonLink = createLink(ButtonAnchor);

function classOf({ look = "plain", size = "md", wide = false }: { [Name in keyof Look]: Look[Name] | undefined }): string {
  return [style.button, style[look], style[size], wide ? style.wide : ""].join(" ");
}
