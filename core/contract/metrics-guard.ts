// Who may read /metrics: everybody while the listener is on loopback, else whoever has the token. Pure.

export const isLoopback = (host: string): boolean => /^(?:127(?:\.\d{1,3}){1,3}|::1|localhost)$/.test(host);

/** Judges an Authorization field. Without a token, a listener that faces the world shows nothing. */
export function metricsGuard(host: string, token: string | undefined): (authorization: string | undefined) => boolean {
  if (isLoopback(host)) return () => true;
  return (authorization) => token !== undefined && sameText(authorization ?? '', `Bearer ${token}`);
}

/** In a time that does not tell where two texts differ. */
function sameText(given: string, wanted: string): boolean {
  let difference = given.length ^ wanted.length;
  for (let i = 0; i < wanted.length; i++) difference |= given.charCodeAt(i) ^ wanted.charCodeAt(i);
  return difference === 0;
}
