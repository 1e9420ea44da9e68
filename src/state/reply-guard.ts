/**
 * Checks the framing of replies (RESP2 and RESP3) before ioredis' decoder reads them. The decoder trusts every length: it allocates an
 * array of the announced size, recurses without limit, and ignores a `*-5`.
 */

/** The input breaks the Redis protocol or a limit: replies and commands of this connection may be out of step. */
export class ProtocolError extends Error {
  override readonly name = 'ProtocolError';
  /** A reply refused only for its size. */
  readonly isTooLarge: boolean;

  constructor(message: string, isTooLarge = false) {
    super(message);
    this.isTooLarge = isTooLarge;
  }
}

export interface ReplyLimits {
  /** Of one reply or push, with its framing. */
  maxBytes: number;
  /** Announced in one reply, over all its levels. */
  maxElements: number;
}

/** For an app's own commands: a value of 64 MiB, a list of four million. */
export const APP_LIMITS: ReplyLimits = { maxBytes: 64 << 20, maxElements: 4 << 20 };

/** Redis' own replies have up to 7 levels, those of scripts a few more. */
const MAX_DEPTH = 64;
/** Of a simple string, an error or a number. */
const MAX_LINE_BYTES = 64 << 10;
const MAX_LENGTH_DIGITS = 16;

const [CR, LF] = [13, 10];
const LINES = '+-:,(#_';
const TEXTS = '$=!';
const LISTS = '*~>%';

const SCALARS: Record<string, RegExp> = { ':': /^[+-]?\d{1,20}$/, '#': /^[tf]$/, _: /^$/ };

/** One for each connection. */
export class ReplyGuard {
  readonly limits: ReplyLimits;
  /** The part to which the next byte belongs. */
  #expects: 'type' | 'line' | 'line feed' | 'text' | 'text end' | 'text feed' = 'type';
  #type = '';
  /** The line so far; of a simple string or an error only its length is kept. */
  #line = '';
  #lineBytes = 0;
  #textLeft = 0;
  /** The missing elements of each level. */
  #open: number[] = [];
  #bytes = 0;
  #elements = 0;

  constructor(limits: ReplyLimits) {
    this.limits = limits;
  }

  /** @throws ProtocolError */
  check(chunk: Buffer): void {
    for (let at = 0; at < chunk.length; ) at = this.#step(chunk, at);
  }

  /** @returns where the next step begins */
  #step(chunk: Buffer, at: number): number {
    const byte = chunk[at];
    switch (this.#expects) {
      case 'type':
        this.#begin(String.fromCharCode(byte ?? 0));
        return at + 1;
      case 'line':
        return this.#readLine(chunk, at);
      case 'line feed':
        if (byte !== LF) throw new ProtocolError('a line not terminated by CR LF');
        this.#endLine();
        return at + 1;
      case 'text': {
        const length = Math.min(this.#textLeft, chunk.length - at);
        this.#textLeft -= length;
        if (this.#textLeft === 0) this.#expects = 'text end';
        return at + length;
      }
      case 'text end':
        if (byte !== CR) throw new ProtocolError('a bulk string longer than its announced length');
        this.#expects = 'text feed';
        return at + 1;
      case 'text feed':
        if (byte !== LF) throw new ProtocolError('a bulk string longer than its announced length');
        this.#endValue();
        return at + 1;
    }
  }

  #begin(type: string): void {
    const isKnown = LINES.includes(type) || TEXTS.includes(type) || LISTS.includes(type);
    if (!isKnown) throw new ProtocolError(`an unknown type of reply, byte ${type.charCodeAt(0)}`);
    if (type === '>' && this.#open.length > 0) throw new ProtocolError('a push within a reply');
    this.#type = type;
    this.#line = '';
    this.#lineBytes = 0;
    this.#expects = 'line';
  }

  #readLine(chunk: Buffer, at: number): number {
    const end = chunk.indexOf(CR, at);
    const until = end === -1 ? chunk.length : end;
    this.#lineBytes += until - at;
    if (this.#lineBytes > MAX_LINE_BYTES) throw new ProtocolError(`a line of more than ${MAX_LINE_BYTES} bytes`, true);
    if (!'+-,('.includes(this.#type)) this.#line += chunk.toString('latin1', at, Math.min(until, at + MAX_LENGTH_DIGITS * 2));
    if (end === -1) return until;
    this.#expects = 'line feed';
    return end + 1;
  }

  #endLine(): void {
    this.#count(this.#lineBytes + 3);
    if (LISTS.includes(this.#type)) this.#openList();
    else if (TEXTS.includes(this.#type)) this.#openText();
    else if (SCALARS[this.#type]?.test(this.#line) === false)
      throw new ProtocolError(`a malformed value of type "${this.#type}"`);
    else this.#endValue();
  }

  #openList(): void {
    if (this.#type === '*' && this.#line === '-1') {
      this.#endValue();
      return;
    }
    const length = this.#length() * (this.#type === '%' ? 2 : 1);
    this.#elements += length;
    if (this.#elements > this.limits.maxElements)
      throw new ProtocolError(`a reply of more than ${this.limits.maxElements} elements`, true);
    if (this.#type === '>' && length === 0) throw new ProtocolError('an empty push');
    if (length === 0) {
      this.#endValue();
      return;
    }
    this.#open.push(length);
    if (this.#open.length > MAX_DEPTH) throw new ProtocolError(`a reply of more than ${MAX_DEPTH} levels`);
    this.#expects = 'type';
  }

  #openText(): void {
    if (this.#type === '$' && this.#line === '-1') {
      this.#endValue();
      return;
    }
    const length = this.#length();
    // Its format and a colon.
    if (this.#type === '=' && length < 4) throw new ProtocolError('a malformed value of type "="');
    this.#count(length + 2);
    this.#textLeft = length;
    this.#expects = length === 0 ? 'text end' : 'text';
  }

  #length(): number {
    if (!/^\d+$/.test(this.#line) || this.#line.length > MAX_LENGTH_DIGITS)
      throw new ProtocolError(`a malformed length of type "${this.#type}"`);
    return Number(this.#line);
  }

  #count(bytes: number): void {
    this.#bytes += bytes;
    if (this.#bytes > this.limits.maxBytes) throw new ProtocolError(`a reply of more than ${this.limits.maxBytes} bytes`, true);
  }

  #endValue(): void {
    this.#expects = 'type';
    while (this.#open.length > 0) {
      const left = (this.#open.pop() ?? 0) - 1;
      if (left === 0) continue;
      this.#open.push(left);
      return;
    }
    this.#bytes = 0;
    this.#elements = 0;
  }
}
