/**
 * The author of data in Redis is unknown, so messages between pods carry an HMAC if the operator sets SESSION_KEYS. If Redis itself stores the keys there is
 * none: anyone who could forge a message could read them.
 */
import { createHmac, hkdfSync, timingSafeEqual } from 'node:crypto';

/** Derives a separate key from the one that signs cookies: a signature of one is invalid for the other. */
const PURPOSE = 'koa-bosun messages v1';
/** SHA-256 in base64url. */
const MAC_LENGTH = 43;

export class Seal {
  /** Newest first; undefined: nothing is signed. */
  readonly #keys: readonly Buffer[] | undefined;

  /** `sessionKeys` are the operator's keys, newest first: the first one signs, all of them verify. */
  constructor(sessionKeys: readonly string[] | undefined) {
    this.#keys = sessionKeys?.map(key => Buffer.from(hkdfSync('sha256', key, '', PURPOSE, 32)));
  }

  get isSigned(): boolean {
    return this.#keys !== undefined;
  }

  /** `label` is the kind and place of the text: a signature for one label is invalid for another. */
  sign(label: string, text: string): string {
    const [newest] = this.#keys ?? [];
    return newest === undefined ? text : `${text}\n${macOf(newest, label, text).toString('base64url')}`;
  }

  /** The text; undefined if it is not signed with one of the keys for this label. */
  open(label: string, sealed: string): string | undefined {
    if (this.#keys === undefined) return sealed;
    const end = sealed.length - MAC_LENGTH - 1;
    if (end < 0 || sealed[end] !== '\n') return undefined;
    const mac = Buffer.from(sealed.slice(end + 1), 'base64url');
    const text = sealed.slice(0, end);
    const isGenuine = this.#keys.some(key => {
      const expected = macOf(key, label, text);
      return mac.length === expected.length && timingSafeEqual(mac, expected);
    });
    return isGenuine ? text : undefined;
  }
}

/** The length keeps label and text apart. */
function macOf(key: Buffer, label: string, text: string): Buffer {
  return createHmac('sha256', key).update(`${label.length}:${label}`).update(text).digest();
}
