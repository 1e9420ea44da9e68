/**
 * What may be shown to whom. The text of the app (messages, stacks, request paths) may contain secrets: it is shown in the log, on the control
 * socket, and on the admin port if that requires ADMIN_TOKEN. Elsewhere an error is only its class, place and fingerprint.
 */
import type { ShownRequest } from './api.ts';
import type { ErrorReport, ErrorSummary, OpenRequest } from './messages.ts';

/** `open`: anyone who can reach the admin port or read the pod's status or Redis. */
export type Audience = 'open' | 'operator';

/** The audience of an admin port with this token, or without one. */
export const audienceOf = (token: string | undefined): Audience => (token === undefined ? 'open' : 'operator');

/** In hexadecimal digits: enough to distinguish thousands of errors. */
const FINGERPRINT_LENGTH = 8;

/** What has failed, class, code, file and line, and a fingerprint of the message, which the log has too. */
export function describeOpenly({ summary, message }: Pick<ErrorReport, 'summary' | 'message'>): string {
  return `${describeSummary(summary)}, message ${fingerprintOf(message)}`;
}

export function describeSummary({ own, class: name, code, file, line }: ErrorSummary): string {
  const error = [name, ...(code === undefined ? [] : [code]), ...(file === undefined ? [] : [`at ${file}:${line}`])].join(' ');
  if (own === undefined) return error;
  // An AppError without a cause: it says all.
  return name === 'AppError' && file === undefined ? own : `${own}: ${error}`;
}

/** The same for the same message, in every process. */
export function fingerprintOf(message: string): string {
  // Loaded only here: it takes 8 ms, and the first worker is forked before.
  const { createHash } = process.getBuiltinModule('node:crypto');
  return `#${createHash('sha256').update(message).digest('hex').slice(0, FINGERPRINT_LENGTH)}`;
}

/** Requests, for `open` without their paths. */
export function requestsFor(audience: Audience, requests: readonly OpenRequest[]): ShownRequest[] {
  if (audience === 'operator') return [...requests];
  return requests.map(({ method, ageMs, bytesSent }) => ({ method, ageMs, bytesSent }));
}
