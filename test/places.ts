/** Where sessions are in Redis, for a session store without a Redis that says so. */
import type { SessionPlaces } from '../src/state/session-store.ts';

export function placesAt(root: string, copy?: string): SessionPlaces {
  const roots = { root, ...(copy !== undefined && { copy }) };
  return { isKnown: true, roots, write: run => run(roots) };
}
