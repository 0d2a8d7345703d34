import { Button, ButtonLink } from "../../components/Button.tsx";
import { Empty } from "../../components/Empty.tsx";
import { Failure } from "../../components/Failure.tsx";
import { PublicPage } from "../../components/PublicPage.tsx";
import { useTitle } from "../../components/title.ts";
import { verifyEmail } from "../../session/remote.ts";
import style from "../login/Form.module.css";
import { useAttempt } from "./attempt.ts";
import { useMailedCode } from "./code.ts";

/** Where the mail leads that proves an address. A press proves it: programs that look at links in mails do not. */
export function VerifyEmail() {
  useTitle("Confirm your e-mail address");
  const code = useMailedCode();
  const { run, isBusy, isDone, problem } = useAttempt(() => verifyEmail(code));
  return (
    <PublicPage narrow>
      <div className={style.card}>
        <div className={style.head}>
          <h1>Confirm your e-mail address</h1>
        </div>
        {isDone ? (
          <Empty icon="check" title="Your address is confirmed" action={<ButtonLink to="/dashboard">To the dashboard</ButtonLink>} />
        ) : code === "" ? (
          <Empty icon="alert" title="The address has no code" action={<ButtonLink to="/dashboard/account">To your account</ButtonLink>}>
            Open the link of the mail as it is, or have another mail sent from your account.
          </Empty>
        ) : (
          <>
            {problem ? <Failure problem={problem} what="The address could not be confirmed" /> : null}
            <Button look="gold" wide busy={isBusy} onClick={() => void run()}>
              Confirm
            </Button>
          </>
        )}
      </div>
    </PublicPage>
  );
}
