/**
 * Who may see the admin port where ADMIN_TOKEN is set: a bearer of the token, or a browser that gives it as the password of basic
 * authentication.
 */
import { createHash, timingSafeEqual } from 'node:crypto';

/** Makes a browser ask for a user and a password; the user may be anything. */
export const CHALLENGE = ['Basic realm="koa-bosun admin port", charset="UTF-8"', 'Bearer realm="koa-bosun admin port"'];

/**
 * Takes the same time for every wrong token.
 * @param authorization the header of a request
 */
export function isAllowed(token: string, authorization: string | undefined): boolean {
  return timingSafeEqual(digest(tokenOf(authorization ?? '')), digest(token));
}

function tokenOf(authorization: string): string {
  const [, scheme, credentials = ''] = /^(bearer|basic) +(\S+) *$/i.exec(authorization) ?? [];
  if (scheme?.toLowerCase() !== 'basic') return credentials;
  const login = Buffer.from(credentials, 'base64').toString();
  return login.slice(login.indexOf(':') + 1);
}

/** Of one length, as timingSafeEqual asks for. */
const digest = (text: string) => createHash('sha256').update(text).digest();
