import { Modal, Tabs } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { Command } from "../../components/Command.tsx";
import { inCode, LANGUAGES } from "../../jobs/code.ts";
import type { JobAsked } from "../../jobs/request.ts";
import { queries } from "../../queries.ts";
import style from "./CodeDialog.module.css";

const EXAMPLE = "Why is the sky blue?";

interface Props {
  asked: JobAsked;
  isOpen: boolean;
  onClose: () => void;
}

/** The request as it stands, for a program. */
export function CodeDialog({ asked, isOpen, onClose }: Props) {
  const config = useQuery(queries.config);
  const request = { ...asked, prompt: asked.prompt.trim() === "" ? EXAMPLE : asked.prompt };
  return (
    <Modal opened={isOpen} onClose={onClose} title="The same request in code" size="lg" closeButtonProps={{ "aria-label": "Close" }}>
      <Tabs defaultValue="curl" keepMounted={false}>
        <Tabs.List aria-label="Language">
          {LANGUAGES.map((language) => (
            <Tabs.Tab key={language} value={language}>
              {language}
            </Tabs.Tab>
          ))}
        </Tabs.List>
        {LANGUAGES.map((language) => (
          <Tabs.Panel key={language} value={language} className={style.panel ?? ""}>
            {config.data ? <Command text={inCode(language, config.data.api_url, request)} what={`request in ${language}`} /> : null}
          </Tabs.Panel>
        ))}
      </Tabs>
      <p className={style.more}>
        <code>GFE_API_KEY</code> is an API key of yours: <Link to="/dashboard/account/keys">make one</Link>.
      </p>
    </Modal>
  );
}
