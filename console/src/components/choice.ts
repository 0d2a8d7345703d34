import style from "./Choice.module.css";

/** For Mantine's Select and Autocomplete: `<Select {...choice} …>`. (Its own scroll area is left out: the list scrolls by itself.) */
export const choice = {
  size: "md",
  withScrollArea: false,
  comboboxProps: { shadow: "md", withinPortal: false }, // inside the page's landmarks, where it belongs
  classNames: { label: style.label ?? "", input: style.input ?? "", error: style.error ?? "", options: style.options ?? "" },
} as const;
