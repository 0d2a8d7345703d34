import { PublicPage } from "../../components/PublicPage.tsx";
import { useTitle } from "../../components/title.ts";
import { Figures } from "./Figures.tsx";
import { Hero } from "./Hero.tsx";
import { How } from "./How.tsx";
import { Models } from "./Models.tsx";
import { Share } from "./Share.tsx";
import { Trust } from "./Trust.tsx";

/** F1: what this is, what it offers now, how to begin on either side. */
export function Landing() {
  useTitle();
  return (
    <PublicPage>
      <Hero />
      <Figures />
      <Models />
      <How />
      <Trust />
      <Share />
    </PublicPage>
  );
}
