import { CopyButton } from "../../../components/CopyButton.tsx";

const FIRST_LETTERS = 12;

/** The beginning of a digest, and the whole of it to copy. */
export function Digest({ digest, of }: { digest: string; of: string }) {
  return (
    <span>
      <code title={digest}>{digest.slice(0, FIRST_LETTERS)}</code> <CopyButton text={digest} what={`digest of ${of}`} />
    </span>
  );
}
