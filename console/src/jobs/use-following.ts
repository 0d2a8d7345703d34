import { type RefObject, useEffect, useLayoutEffect, useRef } from "react";

const NEAR_PX = 40;

/** For a place that scrolls: its end stays in sight while text is added to it, unless somebody scrolled back. */
export function useFollowing(text: string): RefObject<HTMLDivElement | null> {
  const place = useRef<HTMLDivElement>(null);
  const isAtEnd = useRef(true);
  useEffect(() => {
    const element = place.current;
    const look = () => {
      if (element) isAtEnd.current = element.scrollHeight - element.scrollTop - element.clientHeight < NEAR_PX;
    };
    element?.addEventListener("scroll", look, { passive: true });
    return () => element?.removeEventListener("scroll", look);
  }, []);
  // biome-ignore lint/correctness/useExhaustiveDependencies: whenever there is more of it
  useLayoutEffect(() => {
    if (place.current && isAtEnd.current) place.current.scrollTop = place.current.scrollHeight;
  }, [text]);
  return place;
}
