/**
 * Loads that say exactly what they lost. Nothing is ever retried: a reset, a hang or half an answer is a failure; a refused connection is
 * counted apart.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { type Answer, RawClient, requestText } from './clients.ts';
import { SOAKS } from './policies.ts';

export interface LoadResult {
  answered: number;
  /** A line for each request that got no answer 200, or whose connection broke. */
  failures: string[];
  /** Connections that nobody listened to any more. */
  refused: number;
  /** Answers that announced the end of their connection. */
  lastOnConnection: number;
  /** By the `pid` in the answers' JSON. */
  byPid: Map<number, number>;
}

/** Sends requests until it is stopped, at most `MAX_REQUESTS` in flight. */
export interface Load {
  readonly result: LoadResult;
  /** No new connection from then on, as behind a load balancer that has taken this server out; open ones go on. */
  openNoMore(inMs?: number): void;
  /** No new request from now on. */
  stop(): Promise<LoadResult>;
  /** Resolves when that many requests are answered. */
  answered(count: number): Promise<void>;
}

const MAX_REQUESTS = 20_000;
const LONGEST_MS = 30_000;
/** 300 requests a second of four clients, beside other tests; `make soak` sends 1,000. */
const PAUSE_MS = SOAKS ? 3 : 12;

/** How long a load goes on at most, where it is not stopped. */
export interface LoadBounds {
  mostRequests?: number;
  longestMs?: number;
}

/** `clients` connections, each used again and again with `pauseMs` between; a connection that ends is replaced. */
export function keepAliveLoad(
  port: number,
  { path = '/', headers = {}, clients = 4, pauseMs = PAUSE_MS, isAnswer, ...bounds }: KeepAliveOptions = {},
): Load {
  return reusingLoad(port, clients, pauseMs, bounds, (client, result) =>
    counted(client, result, 1, () => client.write(requestText(path, { headers })), isAnswer && { isAnswer }),
  );
}

export interface KeepAliveOptions extends LoadBounds {
  path?: string;
  headers?: Record<string, string>;
  clients?: number;
  pauseMs?: number;
  /** Of an app that does not answer with 200 and its `pid` in JSON. */
  isAnswer?: (answer: Answer) => boolean;
}

/** Bodies of `bytes` to a route that answers with their size (`/upload` of koa.mjs), in three parts with `pauseMs` between. */
export function uploadLoad(port: number, { clients = 2, bytes = 200_000, pauseMs = 20, ...bounds }: UploadOptions = {}): Load {
  const head = requestText('/upload', { method: 'POST', headers: { 'Content-Length': String(bytes) } });
  const thirds = [0, 1, 2].map(part => 'x'.repeat(part < 2 ? Math.floor(bytes / 3) : bytes - 2 * Math.floor(bytes / 3)));
  return reusingLoad(port, clients, 0, bounds, async (client, result) => {
    await counted(
      client,
      result,
      1,
      async () => {
        client.write(head);
        for (const third of thirds) {
          client.write(third);
          await pause(pauseMs);
        }
      },
      { bytes },
    );
  });
}

export interface UploadOptions extends LoadBounds {
  clients?: number;
  bytes?: number;
  pauseMs?: number;
}

/** `depth` requests in one write, then all their answers, again and again. */
export function pipelineLoad(
  port: number,
  { path = '/', clients = 2, depth = 5, pauseMs = PAUSE_MS, ...bounds }: PipelineOptions = {},
): Load {
  const batch = requestText(path).repeat(depth);
  return reusingLoad(port, clients, pauseMs, bounds, (client, result) =>
    counted(client, result, depth, () => client.write(batch)),
  );
}

export interface PipelineOptions extends KeepAliveOptions {
  depth?: number;
}

function reusingLoad(
  port: number,
  clients: number,
  pauseMs: number,
  bounds: LoadBounds,
  use: (client: RawClient, result: LoadResult) => Promise<void>,
): Load {
  return startLoad(clients, bounds, async (state, result) => {
    let client: RawClient | undefined;
    while (goesOn(state, result)) {
      if (client?.isOpen !== true) {
        client = mayOpen(state) ? await openCounted(port, result) : undefined;
        if (client === undefined) break;
      }
      await use(client, result);
      if (pauseMs > 0) await pause(pauseMs);
    }
    client?.close();
  });
}

/** A new connection every `everyMs`, for one request each. */
export function freshLoad(port: number, { path = '/', everyMs = 20, ...bounds }: FreshOptions = {}): Load {
  return startLoad(1, bounds, async (state, result) => {
    const exchanges: Promise<void>[] = [];
    const startedAt = performance.now();
    while (goesOn(state, result) && mayOpen(state)) {
      exchanges.push(
        openCounted(port, result).then(async client => {
          if (client !== undefined) await exchange(client, path, result);
          client?.close();
        }),
      );
      // By the clock: a late timer does not thin out the load.
      await pause(Math.max(1, startedAt + exchanges.length * everyMs - performance.now()));
    }
    await Promise.all(exchanges);
  });
}

export interface FreshOptions extends LoadBounds {
  path?: string;
  everyMs?: number;
}

interface LoadState {
  goesOn: boolean;
  opensUntil: number;
  until: number;
  mostRequests: number;
}

function startLoad(
  clients: number,
  { mostRequests = MAX_REQUESTS, longestMs = LONGEST_MS }: LoadBounds,
  run: (state: LoadState, result: LoadResult) => Promise<void>,
): Load {
  const state = { goesOn: true, opensUntil: Number.POSITIVE_INFINITY, until: performance.now() + longestMs, mostRequests };
  const result: LoadResult = { answered: 0, failures: [], refused: 0, lastOnConnection: 0, byPid: new Map() };
  const running = Promise.all(Array.from({ length: clients }, () => run(state, result)));
  return {
    result,
    openNoMore: (inMs = 0) => {
      state.opensUntil = performance.now() + inMs;
    },
    stop: async () => {
      state.goesOn = false;
      await running;
      return result;
    },
    answered: async count => {
      while (result.answered < count) {
        if (result.failures.length > 0 || !goesOn(state, result)) {
          throw new Error(`${count} answers expected, got ${result.answered}; failures: ${result.failures.join('; ') || 'none'}`);
        }
        await pause(5);
      }
    },
  };
}

function goesOn(state: LoadState, { answered, failures }: LoadResult): boolean {
  return state.goesOn && answered + failures.length < state.mostRequests && performance.now() < state.until;
}

function mayOpen({ opensUntil }: LoadState): boolean {
  return performance.now() < opensUntil;
}

async function openCounted(port: number, result: LoadResult): Promise<RawClient | undefined> {
  try {
    return await RawClient.open(port);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ECONNREFUSED') result.refused++;
    else result.failures.push(`connect: ${(error as Error).message}`);
    return undefined;
  }
}

async function exchange(client: RawClient, path: string, result: LoadResult): Promise<void> {
  await counted(client, result, 1, () => client.write(requestText(path)));
}

/** What each answer must be: of one's own choice, or JSON that says how many `bytes` were received. */
type Expected = { isAnswer: (answer: Answer) => boolean } | { bytes: number };

/** Sends what `send` sends, and counts `answers` answers to it. */
async function counted(
  client: RawClient,
  result: LoadResult,
  answers: number,
  send: () => Promise<void> | void,
  expected?: Expected,
): Promise<void> {
  try {
    await send();
    for (let left = answers; left > 0; left--) {
      const answer = await client.answer();
      const { status, headers, body } = answer;
      if (expected !== undefined && 'isAnswer' in expected) {
        if (!expected.isAnswer(answer)) throw new Error(`status ${status}: ${body}`);
      } else {
        if (status !== 200) throw new Error(`status ${status}: ${body}`);
        const { pid, bytes } = JSON.parse(body) as { pid: number; bytes?: number };
        if (expected !== undefined && bytes !== expected.bytes) throw new Error(`${bytes} bytes arrived of ${expected.bytes}`);
        result.byPid.set(pid, (result.byPid.get(pid) ?? 0) + 1);
      }
      result.answered++;
      if (headers.connection !== 'close') continue;
      result.lastOnConnection++;
      if (left > 1) throw new Error(`${left - 1} pipelined request(s) go unanswered: the connection ends before`);
      const end = await client.ended();
      if (end !== 'FIN') throw new Error(`the connection ended with ${end} after its last answer`);
    }
  } catch (error) {
    result.failures.push((error as Error).message);
    client.close();
  }
}
