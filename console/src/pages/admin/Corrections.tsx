import { Page } from "../../shell/Page.tsx";
import { CorrectionButton } from "./corrections/CorrectionButton.tsx";
import { CorrectionList } from "./corrections/CorrectionList.tsx";
import { Holds } from "./corrections/Holds.tsx";
import { RefundButton } from "./corrections/RefundButton.tsx";

/** What operators change in the books: corrections, refunds, holds that are given back. */
export function Corrections() {
  return (
    <Page
      title="Corrections"
      lead="Nothing in the books is changed: each correction and each refund is a transfer of its own, with a reason."
      actions={
        <>
          <RefundButton />
          <CorrectionButton />
        </>
      }
    >
      <CorrectionList />
      <Holds />
    </Page>
  );
}
