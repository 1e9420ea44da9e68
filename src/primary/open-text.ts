/**
 * What may be shown to whom. The text of the app (messages, stacks, paths of requests) may hold secrets: it is for the log, for the control
 * socket, and for the admin port where that asks for ADMIN_TOKEN. Everybody else sees where an error comes from, and which it is.
 */
import { createHash } from 'node:crypto';
import type { ErrorReport, ErrorSummary, OpenRequest } from '../messages.ts';

/** `open`: whoever reaches the admin port, reads the pod's status or hears Redis. */
export type Audience = 'open' | 'operator';

/** Of an admin port that asks for this token, or for none. */
export const audienceOf = (token: string | undefined): Audience => (token === undefined ? 'open' : 'operator');

/** In hexadecimal digits: enough to tell a few thousand errors apart. */
const FINGERPRINT_LENGTH = 8;

/** Class, code, file and line, and a fingerprint of the message, which the log has too. */
export function describeOpenly({ summary, message }: Pick<ErrorReport, 'summary' | 'message'>): string {
  return `${describeSummary(summary)}, message ${fingerprintOf(message)}`;
}

export function describeSummary({ class: name, code, file, line }: ErrorSummary): string {
  return [name, ...(code === undefined ? [] : [code]), ...(file === undefined ? [] : [`at ${file}:${line}`])].join(' ');
}

/** The same for the same message, in every process. */
export function fingerprintOf(message: string): string {
  return `#${createHash('sha256').update(message).digest('hex').slice(0, FINGERPRINT_LENGTH)}`;
}

/** Requests by all that is known of them; without their paths for `open`. */
export function requestsFor(audience: Audience, requests: readonly OpenRequest[]): Partial<OpenRequest>[] {
  if (audience === 'operator') return [...requests];
  return requests.map(({ method, ageMs, bytesSent }) => ({ method, ageMs, bytesSent }));
}
