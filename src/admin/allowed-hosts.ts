/**
 * Against DNS rebinding: a web page whose own host name resolves to this pod could read the admin port through a browser inside the network.
 * Such requests have that name as their Host, so only known names are answered. Pure.
 */
import { isIP } from 'node:net';

/** Names of the browser's own machine, which no name server resolves. */
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
