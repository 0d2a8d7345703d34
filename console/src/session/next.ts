/** Where to go after signing in: a path of this page, or the dashboard. Whatever could lead elsewhere is not believed. */

const HOME = "/dashboard";

export function safeNext(wanted: unknown, origin: string = window.location.origin): string {
  if (typeof wanted !== "string" || !wanted.startsWith("/") || /[\\\p{Cc}]/u.test(wanted)) return HOME;
  try {
    const url = new URL(wanted, origin);
    if (url.origin !== origin || url.pathname.startsWith("//") || /^\/(login|register)\/?$/.test(url.pathname)) return HOME;
    return url.pathname + url.search + url.hash;
  } catch {
    return HOME;
  }
}
