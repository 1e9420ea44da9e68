/**
 * Reads the stack of a worker whose event loop is blocked: its inspector can pause even a busy loop. The peer is not trusted:
 * a malformed message, or too much data, ends the exchange without a stack.
 */
import { integer, list, object, optional, type Parser, text } from '../protocol/shapes.ts';

/** Node.js refuses one message of 100 MiB by itself. `Debugger.paused` of a recursion has 11,000 frames of 1 KiB each. */
const MAX_FRAMES_RECEIVED = 100_000;
const MAX_BYTES = 64 << 20;
/** In the log. */
const MAX_FRAMES = 50;
const MAX_TEXT = 1000;
const MAX_SCRIPTS = 50_000;

interface CallFrame {
  functionName: string;
  location: { scriptId: string; lineNumber: number; columnNumber: number };
}

const callFrame = object<CallFrame>({
  functionName: text(MAX_TEXT),
  location: object({ scriptId: text(20), lineNumber: integer(0, 2 ** 31), columnNumber: integer(0, 2 ** 31) }),
});

/** The fields of the inspector's messages that are read. */
interface Message {
  id?: number | undefined;
  method?: string | undefined;
  params?: unknown;
  result?: unknown;
}

const kept: Parser<unknown> = value => value;
const message = object<Message>({ id: optional(integer(0, 100)), method: optional(text(100)), params: kept, result: kept });
const script = object({ scriptId: text(20), url: text(MAX_TEXT) });
const evaluated = object({ result: object({ value: kept }) });

/**
 * Pauses the process at `url`, which runs on when the connection closes.
 * @returns a line for each frame; undefined if it is not the process `pid`, is blocked in native code, or does not answer within `timeoutMs`
 */
export async function stackAt(url: string, pid: number, timeoutMs: number): Promise<string[] | undefined> {
  if (!URL.canParse(url)) return undefined; // a port above 65535
  const socket = new WebSocket(url);
  const { promise, resolve } = Promise.withResolvers<string[] | undefined>();
  const timer = setTimeout(resolve, timeoutMs, undefined);
  for (const end of ['error', 'close']) socket.addEventListener(end, () => resolve(undefined));
  const conversation = new Conversation(pid, (id, method, params = {}) => socket.send(JSON.stringify({ id, method, params })));
  socket.addEventListener('open', () => conversation.begin());
  socket.addEventListener('message', ({ data }) => {
    try {
      const stack = conversation.receive(String(data));
      if (stack !== undefined) resolve(stack);
    } catch {
      resolve(undefined);
    }
  });
  const stack = await promise;
  clearTimeout(timer);
  socket.close();
  return stack;
}

type Send = (id: number, method: string, params?: object) => void;

class Conversation {
  readonly #pid: number;
  readonly #send: Send;
  readonly #urls = new Map<string, string>();
  #frames: CallFrame[] | undefined;
  #bytes = 0;

  constructor(pid: number, send: Send) {
    this.#pid = pid;
    this.#send = send;
  }

  begin(): void {
    this.#send(1, 'Debugger.enable');
    this.#send(2, 'Debugger.pause');
  }

  /** @returns the stack once it is complete. @throws where `json` is no message of the inspector of that process */
  receive(json: string): string[] | undefined {
    this.#bytes += json.length;
    if (this.#bytes > MAX_BYTES) throw new Error(`more than ${MAX_BYTES} bytes`);
    const { id, method, params, result } = message(JSON.parse(json), 'message');
    if (method === 'Debugger.scriptParsed' && this.#urls.size < MAX_SCRIPTS) {
      const { scriptId, url } = script(params, 'params');
      this.#urls.set(scriptId, url);
    }
    if (method === 'Debugger.paused' && this.#frames === undefined) {
      this.#frames = object({ callFrames: list(callFrame, MAX_FRAMES_RECEIVED) })(params, 'params').callFrames;
      this.#send(3, 'Runtime.evaluate', { expression: 'process.pid' }); // a child of the worker writes to the same pipe
    }
    if (id !== 3 || this.#frames === undefined) return undefined;
    if (evaluated(result, 'result').result.value !== this.#pid) throw new Error('another process');
    const lines = this.#frames.slice(0, MAX_FRAMES).map(frame => this.#describe(frame));
    const more = this.#frames.length - lines.length;
    return more > 0 ? [...lines, `and ${more} more`] : lines;
  }

  #describe({ functionName, location }: CallFrame): string {
    const { scriptId, lineNumber, columnNumber } = location;
    return `${functionName || '(anonymous)'} (${this.#urls.get(scriptId) ?? ''}:${lineNumber + 1}:${columnNumber + 1})`;
  }
}
