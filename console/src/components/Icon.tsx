/** Our own icons: strokes on a grid of 24. They say nothing by themselves; what they stand beside does. */
const PATHS = {
  alert: "M12 8.5v4.5M12 16.5v.01M10.3 4.2 2.8 17.4a2 2 0 0 0 1.7 3h15a2 2 0 0 0 1.7-3L13.7 4.2a2 2 0 0 0-3.4 0Z",
  arrow: "M5 12h14M13 6l6 6-6 6",
  back: "M19 12H5M11 6l-6 6 6 6",
  book: "M5 5.5A2.5 2.5 0 0 1 7.5 3H19v15H7.5A2.5 2.5 0 0 0 5 20.5Zm0 15A2.5 2.5 0 0 0 7.5 21H19",
  check: "m5 12.5 4.5 4.5L19 7.5",
  chip: "M7 7h10v10H7ZM10 3v4M14 3v4M10 17v4M14 17v4M3 10h4M3 14h4M17 10h4M17 14h4",
  clock: "M12 7.5V12l3 2M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18Z",
  close: "M6 6l12 12M18 6 6 18",
  code: "m8 7-5 5 5 5M16 7l5 5-5 5",
  coins: "M9 11a6 3 0 1 0 0-6 6 3 0 0 0 0 6ZM3 8v4c0 1.7 2.7 3 6 3M15 19a6 3 0 1 0 0-6 6 3 0 0 0 0 6ZM9 16v1c0 1.7 2.7 3 6 3s6-1.3 6-3v-1",
  copy: "M9 9h11v11H9ZM5 15H4V4h11v1",
  download: "M12 4v11M7 10.500l5 5 5-5M5 20h14",
  external: "M14 5h5v5M19 5l-8 8M17 14v5H5V7h5",
  eye: "M2.5 12s3.5-6.5 9.5-6.5 9.5 6.5 9.5 6.5-3.5 6.5-9.5 6.500S2.5 12 2.5 12ZM12 14.800a2.8 2.8 0 1 0 0-5.6 2.8 2.8 0 0 0 0 5.600Z",
  home: "M4 11.5 12 4l8 7.500M6 10v10h12V10",
  info: "M12 11v5.500M12 7.500v.01M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18Z",
  key: "M14.5 13.500a4.5 4.5 0 1 0-4-2.500L4 17.500V20h3v-2h2v-2h2l1.5-1.500a4.5 4.5 0 0 0 2-1ZM16 8v.01",
  dots: "M6 12a1 1 0 1 1-2 0 1 1 0 0 1 2 0ZM13 12a1 1 0 1 1-2 0 1 1 0 0 1 2 0ZM20 12a1 1 0 1 1-2 0 1 1 0 0 1 2 0Z",
  pause: "M8 5v14M16 5v14",
  pencil: "M5 19h3.500L19 8.500 15.500 5 5 15.500ZM13 7.500l3.500 3.500",
  play: "M7 5l12 7-12 7Z",
  power: "M12 4v8M7 6.800a8 8 0 1 0 10 0",
  list: "M8 6h12M8 12h12M8 18h12M4 6v.01M4 12v.01M4 18v.01",
  menu: "M4 7h16M4 12h16M4 17h16",
  minus: "M6 12h12",
  moon: "M20 14.500A8.5 8.5 0 0 1 9.5 4a8.5 8.5 0 1 0 10.5 10.500Z",
  network:
    "M12 8.500a2.5 2.5 0 1 0 0-5 2.5 2.5 0 0 0 0 5ZM5.5 20a2.5 2.5 0 1 0 0-5 2.5 2.5 0 0 0 0 5ZM18.5 20a2.5 2.5 0 1 0 0-5 2.5 2.5 0 0 0 0 5ZM11 8.300l-4.3 6.900M13 8.300l4.3 6.900M8 17.500h8",
  plus: "M12 5v14M5 12h14",
  receipt: "M6 3h12v18l-3-2-3 2-3-2-3 2ZM9 8h6M9 12h6",
  refresh: "M19.5 9A8 8 0 0 0 5 8M4.5 15A8 8 0 0 0 19 16M5 4v4h4M19 20v-4h-4",
  scale: "M12 4v16M8 20h8M5 7h14M5 7l-3 7h6ZM19 7l-3 7h6Z",
  search: "M10.5 17a6.5 6.5 0 1 0 0-13 6.5 6.5 0 0 0 0 13ZM20 20l-4.8-4.8",
  shield: "M12 3l7.5 3v5.500c0 4.5-3.2 8-7.5 9.5-4.3-1.5-7.5-5-7.5-9.500V6ZM8.8 12l2.2 2.2 4.2-4.4",
  signout: "M14 4H5v16h9M10 12h10M16.5 8.5 20 12l-3.5 3.5",
  spark: "M12 3l1.9 5.600L19.5 10.500l-5.6 1.900L12 18l-1.9-5.600L4.5 10.500l5.6-1.900ZM19 17v4M17 19h4",
  sun: "M12 16a4 4 0 1 0 0-8 4 4 0 0 0 0 8ZM12 2.500v2M12 19.500v2M2.5 12h2M19.5 12h2M5.3 5.300l1.4 1.400M17.3 17.300l1.4 1.400M5.3 18.700l1.4-1.400M17.3 6.700l1.4-1.4",
  tag: "M4 4h8l8 8-8 8-8-8ZM8 8v.01",
  user: "M12 12a4 4 0 1 0 0-8 4 4 0 0 0 0 8ZM4.5 20.500c.8-3.5 3.8-5.5 7.5-5.500s6.7 2 7.5 5.5",
  users:
    "M9 12a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7ZM2.5 19.500c.6-3 3.2-4.8 6.5-4.800s5.9 1.8 6.5 4.800M16 5.300a3.5 3.5 0 0 1 0 6.400M18 15.200c2 .7 3.3 2.2 3.7 4.3",
  wallet: "M4 7.500A2.5 2.5 0 0 1 6.5 5H18v3M4 7.500A2.5 2.5 0 0 0 6.5 10H20v10H6.500A2.5 2.5 0 0 1 4 17.500ZM16 15v.01",
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name, size = 20 }: { name: IconName; size?: number }) {
  return (
    <svg
      viewBox="0 0 24 24"
      width={size}
      height={size}
      fill="none"
      stroke="currentColor"
      strokeWidth="1.7"
      strokeLinecap="round"
      strokeLinejoin="round"
      aria-hidden="true"
      focusable="false"
    >
      <path d={PATHS[name]} />
    </svg>
  );
}
