/**
 * Two changes of one session: each request's fields are taken where only one of them has changed them. Pure.
 */

export type SessionData = Record<string, unknown>;

/** koa-session's own: the later request knows better. */
const BOOKKEEPING = ['_expire', '_maxAge', '_session'];

/**
 * What `mine` has changed of `base`, upon `theirs`, which has been made of the same `base` meanwhile.
 * @returns undefined where both have changed the same field; also to the same value, since two who count from one come to two
 */
export function merge(base: SessionData, mine: SessionData, theirs: SessionData): SessionData | undefined {
  const merged = { ...theirs };
  for (const name of new Set([...Object.keys(base), ...Object.keys(mine), ...Object.keys(theirs)])) {
    const [before, ours, other] = [base, mine, theirs].map(session => JSON.stringify(session[name]));
    if (ours === before) continue;
    if (other !== before && !BOOKKEEPING.includes(name)) return undefined;
    if (Object.hasOwn(mine, name)) merged[name] = mine[name];
    else delete merged[name];
  }
  return merged;
}
