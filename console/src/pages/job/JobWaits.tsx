import { Card } from "../../components/Card.tsx";
import { Skeleton } from "../../components/Skeleton.tsx";
import style from "./Job.module.css";

/** Where a job will be. */
export function JobWaits() {
  return (
    <div className={style.places}>
      <div className={style.words}>
        <Card>
          <Skeleton height="7rem" />
        </Card>
        <Card>
          <Skeleton height="14rem" />
        </Card>
      </div>
      <Card>
        <Skeleton height="20rem" />
      </Card>
    </div>
  );
}
