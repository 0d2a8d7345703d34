import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { Credits } from "../components/Credits.tsx";
import { Icon } from "../components/Icon.tsx";
import { Logo } from "../components/Logo.tsx";
import { SchemeToggle } from "../components/SchemeToggle.tsx";
import { Skeleton } from "../components/Skeleton.tsx";
import { queries } from "../queries.ts";
import { session } from "../session/session.ts";
import { isOperator, useSession } from "../session/use-session.ts";
import { ConnectionState } from "./ConnectionState.tsx";
import { ADMIN, DASHBOARD, type Place } from "./places.ts";
import style from "./Sidebar.module.css";

interface Props {
  isAdmin: boolean;
  /** In a drawer: how to close it. */
  onClose?: () => void;
}

/** Where one can go, what one has, who one is. */
export function Sidebar({ isAdmin, onClose }: Props) {
  const state = useSession();
  return (
    <div className={style.sidebar}>
      <div className={style.head}>
        <Link to="/" className={style.home}>
          <Logo />
        </Link>
        {onClose ? (
          <button type="button" className={style.close} aria-label="Close the menu" onClick={onClose}>
            <Icon name="close" />
          </button>
        ) : null}
      </div>
      <Balance />
      <nav aria-label={isAdmin ? "Operations" : "Dashboard"} className={style.nav}>
        <Places places={isAdmin ? ADMIN : DASHBOARD} />
        {isOperator(state) ? (
          <div className={style.other}>
            {isAdmin ? (
              <Item place={{ to: "/dashboard", name: "Back to the dashboard", icon: "back", exact: true }} />
            ) : (
              <Item place={{ to: "/admin", name: "Operate", icon: "shield", exact: true }} />
            )}
          </div>
        ) : null}
      </nav>
      <div className={style.foot}>
        <ConnectionState />
        <SchemeToggle />
      </div>
      <Who />
    </div>
  );
}

function Places({ places }: { places: readonly Place[] }) {
  return (
    <ul>
      {places.map((place) => (
        <li key={place.to}>
          <Item place={place} />
        </li>
      ))}
    </ul>
  );
}

function Item({ place }: { place: Place }) {
  return (
    <Link to={place.to} activeOptions={{ exact: place.exact ?? false, includeSearch: false }} className={style.item}>
      <Icon name={place.icon} />
      {place.name}
    </Link>
  );
}

/** What can be spent now. */
function Balance() {
  const { data } = useQuery(queries.wallet);
  return (
    <Link to="/dashboard/wallet" className={style.balance}>
      <span>Available</span>
      <strong>{data ? <Credits amount={data.balance} /> : <Skeleton width="9ch" />}</strong>
    </Link>
  );
}

const ROLES: Record<string, string> = { USER: "Consumer", PROVIDER: "Provider" };

function Who() {
  const state = useSession();
  const { data } = useQuery(queries.profile);
  const name = state.claims?.name ?? "";
  const role = isOperator(state) ? "Operator" : data ? (ROLES[data.role] ?? data.role) : undefined;
  return (
    <div className={style.who}>
      <span className={style.face} aria-hidden="true">
        {[...name][0]?.toUpperCase()}
      </span>
      <span className={style.name}>
        <strong>{name}</strong>
        <small>{role ?? <Skeleton width="7ch" />}</small>
      </span>
      <button type="button" className={style.out} onClick={() => void session.signOut()}>
        <Icon name="signout" />
        <span className="heard">Sign out</span>
      </button>
    </div>
  );
}
