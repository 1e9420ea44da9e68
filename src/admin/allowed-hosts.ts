/**
 * DNS rebinding: a page of an attacker's own name, which then resolves to this pod, could read the admin port from a browser inside the network. Such
 * requests have that name as their Host, so only names that are known are answered. Pure.
 */
import { isIP } from 'node:net';

/** Where the browser itself is, and what no name server can change. */
const LOCAL = /^(?:.+\.)?localhost\.?$/;

/**
 * Whether a request with this Host header is answered: one to an address, to localhost, to a name in `allowed`, or without a Host, which
 * no browser sends.
 */
export function isAllowedHost(header: string | undefined, allowed: readonly string[]): boolean {
  if (header === undefined || header === '') return true;
  const [, bracketed, name = ''] = /^(?:\[(.*)\]|([^:]*))(?::\d*)?$/.exec(header.toLowerCase()) ?? [];
  if (bracketed !== undefined) return isIP(bracketed) === 6;
  return isIP(name) === 4 || LOCAL.test(name) || allowed.some(each => each.toLowerCase() === name);
}
