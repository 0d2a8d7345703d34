/** Writes src/theme/mantine.css. */

import { writeFileSync } from "node:fs";
import { variables } from "../src/theme/variables.ts";

writeFileSync(new URL("../src/theme/mantine.css", import.meta.url), variables());
