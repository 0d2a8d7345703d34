import { Card } from "../../components/Card.tsx";
import { Command } from "../../components/Command.tsx";
import style from "./Commands.module.css";

interface Props {
  /** What is done there and why not here. */
  children: string;
  commands: readonly { does: string; text: string }[];
}

/** Powers that no API has: they are left to who sits at the platform's own machine. */
export function Commands({ children, commands }: Props) {
  return (
    <Card title="From the command line">
      <p className={style.why}>{children}</p>
      <ul className={style.commands}>
        {commands.map(({ does, text }) => (
          <li key={text}>
            <span>{does}</span>
            <Command text={text} what={`command: ${does}`} />
          </li>
        ))}
      </ul>
    </Card>
  );
}
