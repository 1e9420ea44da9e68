/**
 * A WebSocket of the app, of which the kit has only the socket. Where it belongs to the package `ws`, whose instance is a property of the socket, that
 * instance closes it. Otherwise the kit sends the close frame itself, between two messages, which it knows by following what is written.
 */
import type { Socket } from 'node:net';
import { dropWrites } from './drop-writes.ts';
import { closeFrame, OutgoingFrames } from './outgoing-frames.ts';

/** "Service restart", of IANA's registry of close codes: browsers pass it on, and the clients of libraries reconnect. */
const SERVICE_RESTART = 1012;

/** A client that has been sent the close frame gets this long to answer, in ticks of the drain of 25 ms. */
const ANSWER_TICKS = 80;

/** A WebSocket of the package `ws`, on which socket.io, graphql-ws and the plugins of most frameworks build. */
interface WsInstance {
  readonly readyState: number;
  /** Not documented: false while it still compresses messages that were sent before. */
  readonly _closeFrameSent?: boolean;
  close(code: number, reason: string): void;
}

const WS_OPEN = 1;

type Write = (...args: unknown[]) => boolean;

export class ServerWebSocket {
  readonly #socket: Socket;
  /** Of the socket, as it was before. */
  readonly #write: Write;
  readonly #follow: Write;
  readonly #frames = new OutgoingFrames();
  #instance: WsInstance | undefined;
  #hasSearched = false;
  #isClosedByKit = false;
  /** Of the close frame that is sent after the message that is half sent. */
  #reason: string | undefined;
  #isSent = false;
  #quietTicks = 0;
  #bytesWritten = 0;

  /** Follows what is written to `socket` from now on, unless it turns out to be one of `ws`. */
  constructor(socket: Socket) {
    this.#socket = socket;
    this.#write = socket.write as Write;
    this.#follow = (...args) => this.#onWrite(args);
    socket.write = this.#follow;
  }

  /** The app has accepted it: until then it is a request. */
  get isAccepted(): boolean {
    return this.#frames.state === 'open' || this.#frames.state === 'closing';
  }

  /** Nobody has begun to close it. */
  get isOpen(): boolean {
    if (this.#isClosedByKit || !this.#socket.writable) return false;
    return this.#instance === undefined ? this.#frames.state === 'open' : this.#instance.readyState === WS_OPEN;
  }

  get isClosedByKit(): boolean {
    return this.#isClosedByKit;
  }

  /** The close frame is with the kernel: no message is lost if the connection ends now. */
  get isCloseSent(): boolean {
    return this.#isSent && this.#socket.writableLength === 0 && this.#instance?._closeFrameSent !== false;
  }

  /** The close frame, or a message before it, waits for the client. */
  get awaitsClient(): boolean {
    return this.#isClosedByKit && this.#socket.writableLength > 0;
  }

  /** Sends the close frame, after the message that is half sent. */
  close(reason: string): void {
    this.#isClosedByKit = true;
    this.#instance ??= instanceOn(this.#socket);
    if (this.#instance !== undefined) this.#isSent = closeInstance(this.#instance, reason);
    else if (this.#frames.isBetweenMessages) this.#sendClose(reason);
    else this.#reason = reason;
  }

  /** To be called in each tick after `close`: the library ends the connection when the client answers; if it does not, this does. */
  tick(): void {
    const { bytesWritten } = this.#socket;
    if (!this.isCloseSent || bytesWritten !== this.#bytesWritten) this.#quietTicks = 0;
    this.#bytesWritten = bytesWritten;
    if (++this.#quietTicks > ANSWER_TICKS) this.#socket.destroySoon();
  }

  #onWrite(args: unknown[]): boolean {
    if (this.#reason !== undefined) return this.#endMessage(args, this.#reason);
    const hasRoom = Reflect.apply(this.#write, this.#socket, args);
    if (this.#frames.state === 'open' && !this.#hasSearched) {
      this.#hasSearched = true;
      this.#instance = instanceOn(this.#socket);
    }
    if (this.#instance === undefined) this.#frames.push(bytesOf(args));
    // From now on `ws` knows all that matters, and its writes cost what they cost without the kit.
    else if (this.#socket.write === this.#follow) this.#socket.write = this.#write as Socket['write'];
    return hasRoom;
  }

  /** Writes what belongs to the message that is half sent; at its end comes the close frame. */
  #endMessage(args: unknown[], reason: string): boolean {
    const bytes = bytesOf(args);
    const end = this.#frames.push(bytes, true);
    if (this.#frames.state !== 'open' || !this.#frames.isBetweenMessages) return Reflect.apply(this.#write, this.#socket, args);
    this.#reason = undefined;
    const callback = args.find(argument => typeof argument === 'function');
    Reflect.apply(this.#write, this.#socket, [bytes.subarray(0, end), callback]);
    this.#sendClose(reason);
    return true;
  }

  /** The library does not know of it, and may go on sending; after a close frame nothing may follow. */
  #sendClose(reason: string): void {
    Reflect.apply(this.#write, this.#socket, [closeFrame(SERVICE_RESTART, reason)]);
    this.#isSent = true;
    dropWrites(this.#socket);
  }
}

/** `ws` keeps its instance on the socket under a symbol of its own. */
function instanceOn(socket: Socket): WsInstance | undefined {
  for (const symbol of Object.getOwnPropertySymbols(socket)) {
    if (symbol.description !== 'websocket') continue;
    const value: unknown = Reflect.get(socket, symbol);
    if (isInstance(value)) return value;
  }
  return undefined;
}

function isInstance(value: unknown): value is WsInstance {
  if (typeof value !== 'object' || value === null) return false;
  return typeof Reflect.get(value, 'close') === 'function' && typeof Reflect.get(value, 'readyState') === 'number';
}

/** Returns whether it is closed. */
function closeInstance(instance: WsInstance, reason: string): boolean {
  try {
    instance.close(SERVICE_RESTART, reason);
    return true;
  } catch {
    return false; // the app has replaced `close`
  }
}

function bytesOf([chunk, encoding]: readonly unknown[]): Uint8Array {
  if (ArrayBuffer.isView(chunk)) return new Uint8Array(chunk.buffer, chunk.byteOffset, chunk.byteLength);
  return Buffer.from(String(chunk), typeof encoding === 'string' ? (encoding as BufferEncoding) : 'utf8');
}
