/**
 * Who writes to Redis is not known: messages between pods carry an HMAC where the operator gives SESSION_KEYS. Where Redis keeps the keys itself there is
 * none: whoever can forge a message can read them.
 */
import { createHmac, hkdfSync, timingSafeEqual } from 'node:crypto';

/** Not the key that signs cookies itself: what is signed with one is nothing to the other. */
const PURPOSE = 'koa-bosun messages v1';
/** SHA-256 in base64url. */
const MAC_LENGTH = 43;

export class Seal {
  /** Newest first; undefined: nothing is signed. */
  readonly #keys: readonly Buffer[] | undefined;

  /** `sessionKeys` are those from outside, newest first: the first one signs, all of them verify. */
  constructor(sessionKeys: readonly string[] | undefined) {
    this.#keys = sessionKeys?.map(key => Buffer.from(hkdfSync('sha256', key, '', PURPOSE, 32)));
  }

  get isSigned(): boolean {
    return this.#keys !== undefined;
  }

  /** `label` says what and where it is: a text signed for one label is worth nothing under another. */
  sign(label: string, text: string): string {
    const [newest] = this.#keys ?? [];
    return newest === undefined ? text : `${text}\n${macOf(newest, label, text).toString('base64url')}`;
  }

  /** The text; undefined where nobody who has a key has signed it for this label. */
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
