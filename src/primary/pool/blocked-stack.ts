/**
 * Where a worker whose event loop is blocked is stuck: SIGUSR1 opens its inspector, which can pause even a busy loop.
 */
import { setTimeout as sleep } from 'node:timers/promises';

/** Where Node.js opens an inspector that SIGUSR1 asks for; loopback only, and the worker is killed soon after. */
const INSPECTOR = 'http://127.0.0.1:9229/json/list';
const PATIENCE_MS = 3000;
const RETRY_MS = 50;

/** What of the inspector's messages is looked at. */
interface Message {
  id?: number;
  method?: string;
  params?: { callFrames?: CallFrame[]; scriptId?: string; url?: string };
  result?: { result: { value: unknown } };
}

interface CallFrame {
  functionName: string;
  location: { scriptId: string; lineNumber: number; columnNumber: number };
}

/** The stack of a blocked process, a line for each frame; undefined where it can't be had in time. */
export async function stackOfBlocked(pid: number): Promise<string[] | undefined> {
  const deadline = AbortSignal.timeout(PATIENCE_MS);
  try {
    for (;;) {
      process.kill(pid, 'SIGUSR1');
      const stack = await pausedStack(await inspectorOf(deadline), pid, deadline);
      if (stack !== undefined) return stack;
      await sleep(RETRY_MS); // the port is another process', perhaps of one that is about to be killed, too
    }
  } catch {
    return undefined; // no inspector, somebody else's all the time, or blocked in native code
  }
}

async function inspectorOf(deadline: AbortSignal): Promise<string> {
  for (;;) {
    deadline.throwIfAborted();
    try {
      const [target] = (await (await fetch(INSPECTOR, { signal: deadline })).json()) as { webSocketDebuggerUrl: string }[];
      if (target !== undefined) return target.webSocketDebuggerUrl;
    } catch {
      await sleep(RETRY_MS); // not listening yet
    }
  }
}

/** Pauses the process; it runs on when the connection closes. Undefined where it is another one. */
async function pausedStack(url: string, pid: number, deadline: AbortSignal): Promise<string[] | undefined> {
  const socket = new WebSocket(url);
  const { promise, resolve, reject } = Promise.withResolvers<string[] | undefined>();
  const scripts = new Map<string, string>();
  let frames: CallFrame[] = [];
  const send = (id: number, method: string, params = {}) => socket.send(JSON.stringify({ id, method, params }));
  deadline.addEventListener('abort', () => reject(deadline.reason));
  for (const end of ['error', 'close']) socket.addEventListener(end, () => resolve(undefined)); // another's, which was killed
  socket.addEventListener('open', () => {
    send(1, 'Debugger.enable');
    send(2, 'Debugger.pause');
  });
  socket.addEventListener('message', ({ data }) => {
    const { id, method, params, result } = JSON.parse(String(data)) as Message;
    if (method === 'Debugger.scriptParsed') scripts.set(params?.scriptId ?? '', params?.url ?? '');
    if (method === 'Debugger.paused') {
      frames = params?.callFrames ?? [];
      send(3, 'Runtime.evaluate', { expression: 'process.pid' }); // the port may be another process'
    }
    if (id !== 3) return;
    resolve(result?.result.value === pid ? frames.map(frame => describe(frame, scripts)) : undefined);
  });
  return promise.finally(() => socket.close());
}

function describe({ functionName, location }: CallFrame, scripts: ReadonlyMap<string, string>): string {
  const { scriptId, lineNumber, columnNumber } = location;
  return `${functionName || '(anonymous)'} (${scripts.get(scriptId) ?? ''}:${lineNumber + 1}:${columnNumber + 1})`;
}
