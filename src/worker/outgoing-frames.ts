/**
 * Follows the bytes that a server writes to an upgraded connection, as RFC 6455 frames them: whether the connection is a WebSocket by now,
 * whether a message is half sent, whether the server has begun to close. It copies nothing but the heads of frames.
 */

/** What follows the head of the upgrade's response is frames. */
const HEAD_END = '\r\n\r\n';
/** An informational response before it: another worker has passed the request on (sticky/). */
const INFORMATION = /^HTTP\/1\.1 1(?!01 )/;
const SWITCHING = /^HTTP\/1\.1 101 /;
/** The response to an upgrade is a few headers. */
const MAX_HEAD_BYTES = 65_536;

const OPCODE = { continuation: 0, text: 1, binary: 2, close: 8, ping: 9, pong: 10 } as const;
const OPCODES: ReadonlySet<number> = new Set(Object.values(OPCODE));

/** `handshake`: the response is not written in full. `unknown`: it is no WebSocket, or its bytes are not frames. */
type State = 'handshake' | 'open' | 'closing' | 'unknown';

export class OutgoingFrames {
  #state: State = 'handshake';
  /** The response's head so far. */
  #head = '';
  /** The next frame's head so far, 2 to 14 bytes. */
  #frame: number[] = [];
  /** Bytes of its payload that are yet to come. */
  #payloadLeft = 0;
  #isInMessage = false;

  get state(): State {
    return this.#state;
  }

  /** A frame written now does not break another one, nor a message of several frames. */
  get isBetweenMessages(): boolean {
    return this.#frame.length === 0 && this.#payloadLeft === 0 && !this.#isInMessage;
  }

  /**
   * To be called with everything that is written, in order. With `toMessageEnd`, it follows `bytes` to the end of the message that is half sent.
   * @returns where it has stopped
   */
  push(bytes: Uint8Array, toMessageEnd = false): number {
    let at = this.#state === 'handshake' ? this.#pushHead(bytes) : 0;
    while (at < bytes.length && this.#state === 'open' && !(toMessageEnd && this.isBetweenMessages)) {
      const skipped = Math.min(this.#payloadLeft, bytes.length - at);
      this.#payloadLeft -= skipped;
      at += skipped;
      if (skipped === 0) this.#pushByte(bytes[at++] ?? 0);
    }
    return at;
  }

  /** Returns where the frames begin. */
  #pushHead(bytes: Uint8Array): number {
    const before = this.#head.length;
    this.#head += Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1');
    const end = this.#head.indexOf(HEAD_END);
    if (end < 0) {
      if (this.#head.length > MAX_HEAD_BYTES) this.#state = 'unknown';
      return bytes.length;
    }
    const next = end + HEAD_END.length - before;
    if (INFORMATION.test(this.#head)) {
      this.#head = '';
      return next + this.#pushHead(bytes.subarray(next));
    }
    this.#state = SWITCHING.test(this.#head) ? 'open' : 'unknown';
    this.#head = '';
    return next;
  }

  #pushByte(byte: number): void {
    this.#frame.push(byte);
    const payload = payloadLength(this.#frame);
    if (payload === undefined) return;
    const [first = 0] = this.#frame;
    this.#frame = [];
    this.#payloadLeft = payload;
    const opcode = first & 0x0f;
    if (!OPCODES.has(opcode)) this.#state = 'unknown';
    else if (opcode === OPCODE.close) this.#state = 'closing';
    // Control frames may stand between the frames of a message.
    else if (opcode < OPCODE.close) this.#isInMessage = (first & 0x80) === 0;
  }
}

/** The length of a frame's payload; undefined while `head` is not complete. */
function payloadLength(head: readonly number[]): number | undefined {
  const [, second] = head;
  if (second === undefined) return undefined;
  const length = second & 0x7f;
  const lengthBytes = length === 126 ? 2 : length === 127 ? 8 : 0;
  const maskBytes = (second & 0x80) === 0 ? 0 : 4;
  if (head.length < 2 + lengthBytes + maskBytes) return undefined;
  return lengthBytes === 0 ? length : head.slice(2, 2 + lengthBytes).reduce((sum, byte) => sum * 256 + byte, 0);
}

/** A whole frame, as a server sends it, that closes a WebSocket. `reason` has at most 123 bytes. */
export function closeFrame(code: number, reason: string): Buffer {
  const text = Buffer.from(reason);
  const frame = Buffer.from([0x80 | OPCODE.close, 2 + text.length, code >> 8, code & 0xff]);
  return Buffer.concat([frame, text]);
}
