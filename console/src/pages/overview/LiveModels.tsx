import { Link } from "@tanstack/react-router";
import { Button } from "../../components/Button.tsx";
import { Card } from "../../components/Card.tsx";
import { Credits } from "../../components/Credits.tsx";
import { Empty } from "../../components/Empty.tsx";
import { Icon } from "../../components/Icon.tsx";
import { Loaded } from "../../components/Loaded.tsx";
import { Status } from "../../components/Status.tsx";
import { desk } from "../../jobs/desk.ts";
import { useDesk } from "../../jobs/use-desk.ts";
import style from "./LiveModels.module.css";
import { nodesText, useModels } from "./use-models.ts";

const SHOWN = 4;

/** What can be asked now; a press puts it into the form. */
export function LiveModels() {
  const { draft } = useDesk();
  const { asked, models, chosen } = useModels(draft.model);
  return (
    <Card title="Live models" aside={models.length > SHOWN ? <Link to="/dashboard/network">All {models.length}</Link> : null}>
      <Loaded query={asked} what="The models cannot be read now">
        {() =>
          models.length === 0 ? (
            <Empty icon="chip" title="No model is offered now">
              Jobs wait up to ten minutes for a machine that comes.
            </Empty>
          ) : (
            <ul className={style.models}>
              {models.slice(0, SHOWN).map((model) => (
                <li key={model.name}>
                  <span className={style.words}>
                    <code>{model.name}</code>
                    <span className={style.facts}>
                      <Status tone={model.online ? "ok" : "none"}>{nodesText(model)}</Status>
                      <Credits amount={model.price.job} />
                    </span>
                  </span>
                  <Button
                    look={model.name === chosen ? "plain" : "quiet"}
                    icon={model.name === chosen ? <Icon name="check" size={18} /> : null}
                    aria-pressed={model.name === chosen}
                    onClick={() => desk.edit({ model: model.name })}
                  >
                    Use<span className="heard"> {model.name}</span>
                  </Button>
                </li>
              ))}
            </ul>
          )
        }
      </Loaded>
    </Card>
  );
}
