import style from "./WhatCanBeWithdrawn.module.css";

/** The rules of withdrawing, for who wants to know. */
export function WhatCanBeWithdrawn() {
  return (
    <details className={style.rules}>
      <summary>What can be withdrawn?</summary>
      <ul>
        <li>What your machines earned from credits that somebody has paid for.</li>
        <li>
          It waits with each machine first, for as long as its tier says. Only then it is released, so that a wrong payment can be taken
          back.
        </li>
        <li>Nothing is released while a machine is in quarantine or banned.</li>
        <li>
          What you deposited, and welcome credits, are for jobs: they can be spent, not withdrawn. What welcome credits of others paid you
          can be spent too.
        </li>
      </ul>
    </details>
  );
}
