import { Link } from "@tanstack/react-router";
import * as market from "../market/market.ts";
import { usePolled } from "../market/polled.ts";
import { Logo } from "./Logo.tsx";
import style from "./PublicFooter.module.css";

/** The end of the pages that everybody may see. */
export function PublicFooter() {
  const { data: config } = usePolled(market.config);
  return (
    <footer className={style.footer}>
      <div className={style.inside}>
        <div className={style.who}>
          <Logo />
          <p>Anybody's GPU, one honest market. Open source, Apache-2.0.</p>
        </div>
        <nav aria-label="For developers">
          <ul>
            {config ? (
              <>
                <li>
                  <a href={`${config.api_url}/reference`}>Job APIs</a>
                </li>
                <li>
                  <a href={`${config.api_url}/openapi.json`}>OpenAPI: jobs</a>
                </li>
              </>
            ) : null}
            <li>
              <a href="/reference">Accounts and money</a>
            </li>
            <li>
              <a href="/status">Is everything up?</a>
            </li>
          </ul>
        </nav>
        <nav aria-label="Account">
          <ul>
            <li>
              <Link to="/register">Create account</Link>
            </li>
            <li>
              <Link to="/login">Sign in</Link>
            </li>
          </ul>
        </nav>
      </div>
    </footer>
  );
}
