import encode from "qr";
import style from "./Qr.module.css";

const QUIET = 4; // modules of white around it (ISO 18004)

/** A text as a QR code: one path, dark on white in every scheme, for cameras want it so. */
export function Qr({ text }: { text: string }) {
  const rows = encode(text, "raw", { ecc: "medium", border: QUIET });
  return (
    <svg
      className={style.qr}
      viewBox={`0 0 ${rows.length} ${rows.length}`}
      role="img"
      aria-label="QR code for your authenticator"
      shapeRendering="crispEdges"
    >
      <path d={pathOf(rows)} />
    </svg>
  );
}

/** The dark modules, as runs of each row. */
export function pathOf(rows: readonly (readonly boolean[])[]): string {
  return rows
    .map((row, y) => {
      let path = "";
      for (let x = 0; x < row.length; x += 1) {
        if (!row[x] || row[x - 1]) continue;
        const end = row.indexOf(false, x);
        const length = (end < 0 ? row.length : end) - x;
        path += `M${x} ${y}h${length}v1h-${length}z`;
      }
      return path;
    })
    .join("");
}
