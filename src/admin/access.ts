/**
 * Access to the admin port when ADMIN_TOKEN is set: with the token as bearer token, or as the password of basic
 * authentication.
 */
import { createHash, timingSafeEqual } from 'node:crypto';

/** Makes a browser prompt for a user and a password; any user name is accepted. */
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

/** Of equal length, as timingSafeEqual requires. */
const digest = (text: string) => createHash('sha256').update(text).digest();
