/**
 * Names of services: what SERVICE_NAME may be, and what becomes of the name of a package. Pure.
 */
import { Expected, type Parser } from './parse.ts';

/** SERVICE_NAME_BEFORE for names in Redis without a service's name, as version 0.1.0 has them. */
export const NO_NAME = 'none';

/** The length of a label's value in Kubernetes. None of its characters has a meaning in a pattern of Redis, or in a hash tag of its Cluster. */
const MAX_LENGTH = 63;
const NAME = /^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$/;

export const isServiceName = (text: string): boolean => NAME.test(text) && text !== NO_NAME;

/** SERVICE_NAME. */
export const serviceName: Parser<string> = text => {
  if (isServiceName(text)) return text;
  throw new Expected(
    `1 to ${MAX_LENGTH} letters, digits, "-", "_" or ".", with a letter or digit first and last, and not "${NO_NAME}"`,
  );
};

/** SERVICE_NAME_BEFORE. */
export const serviceNameBefore: Parser<string> = text => {
  if (isServiceName(text) || text === NO_NAME) return text;
  throw new Expected(`a name as in SERVICE_NAME, or "${NO_NAME}" for names in Redis without one`);
};

const HASH_LENGTH = 8;

/** A valid name from that of a package or folder: `@acme/shop` is `acme-shop`. The end of a long one is a hash: two of them differ. */
export function serviceNameFrom(text: string): string {
  const clean = text.replace(/[^A-Za-z0-9._-]+/g, '-').replace(/^[^A-Za-z0-9]+|[^A-Za-z0-9]+$/g, '');
  if (clean === '' || clean === NO_NAME) return 'app';
  if (clean.length <= MAX_LENGTH) return clean;
  // Loaded only here: it takes 8 ms, and the first worker is forked before.
  const hash = process.getBuiltinModule('node:crypto').createHash('sha256').update(text).digest('hex');
  return `${clean.slice(0, MAX_LENGTH - HASH_LENGTH - 1)}-${hash.slice(0, HASH_LENGTH)}`;
}
