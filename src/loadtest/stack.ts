/**
 * The stack under load: one that is running, or one that is started here and stopped at the end. Its admin port is only read; changes go
 * through its control socket, like an operator's command.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { call } from '../cli/client.ts';
import { ConfigError, controlSocketOf, type Environment } from '../config/config.ts';
import type { ShownEvent, Status, StreamedEvents } from '../protocol/api.ts';
import { get } from './generator.ts';
import type { Settings } from './settings.ts';

const run = promisify(execFile);

const ROOT = join(import.meta.dirname, '..', '..');
const PROBE_TIMEOUT_MS = 5_000;
const START_TIMEOUT_MS = 60_000;
const COMMAND_TIMEOUT_MS = 120_000;
/** `docker compose up` may have to build the image. */
const COMPOSE_TIMEOUT_MS = 600_000;

/** What an operator can do to a stack. */
export interface Control {
  restart(): Promise<void>;
  /** SIGKILL to a worker of `/status`. */
  kill(pid: number): Promise<void>;
}

export interface Stack {
  /** Where requests go; no path. */
  origin: string;
  /** For people. */
  description: string;
  /** Started here: its workers may be killed without limit. */
  own: boolean;
  /** Undefined if nothing answers: a plain URL, or a stack that has exited. */
  status(): Promise<Status | undefined>;
  throttledSeconds(): Promise<number | null>;
  /** Calls `onEvent` with each lifecycle event until the signal aborts or the stack exits. */
  streamEvents(signal: AbortSignal, onEvent: (event: ShownEvent) => void): Promise<void>;
  control: Control | undefined;
  /** Whether the pids of `/status` are processes of this machine. */
  local: boolean;
  stop(): Promise<void>;
}

/** Finds or starts the stack of the settings. @throws if none is running and none can be started */
export async function openStack(settings: Settings, environment: Environment, log: (line: string) => void): Promise<Stack> {
  if (settings.url !== undefined) return remote(settings, settings.url);
  const running = await findRunning(settings);
  if (running !== undefined) return running;
  if (settings.stack !== 'local') {
    const reason = await composeMissing();
    if (reason === undefined) {
      try {
        return await startCompose(settings, environment, log);
      } catch (error) {
        if (settings.stack === 'compose') throw error;
        log(`docker compose could not start the stack, so the local cluster is used: ${lastLine((error as Error).message)}`);
      }
    } else if (settings.stack === 'compose') throw new Error(`STACK=compose, but ${reason}`);
  }
  // So many kills must not make the primary give up.
  const extra = settings.scenario === 'crash' ? { RESTART_INTENSITY: '1000' } : {};
  return startLocal(settings, environment, extra, log);
}

/** A cluster of this clone on these ports. `extra` wins over the environment. */
export async function startLocal(
  settings: Settings,
  environment: Environment,
  extra: Record<string, string>,
  log: (line: string) => void,
): Promise<Stack> {
  log(`starting the local cluster on 127.0.0.1:${settings.port}, admin port ${settings.adminPort}`);
  let output = '';
  const child = spawn(process.execPath, [join(ROOT, 'src', 'main.ts')], {
    detached: true, // Ctrl-C in the terminal goes to this process alone, which stops the cluster after the load
    stdio: ['ignore', 'pipe', 'pipe'],
    env: {
      LOG_LEVEL: 'error',
      RESTART_INTENSITY: '1000000', // `crash` kills many workers
      ...environment,
      HOST: '127.0.0.1',
      ADMIN_HOST: '127.0.0.1',
      PORT: String(settings.port),
      ADMIN_PORT: String(settings.adminPort),
      ...extra,
    },
  });
  const keep = (chunk: Buffer) => {
    output = (output + chunk).slice(-4_000);
  };
  child.stdout.on('data', keep);
  child.stderr.on('data', keep);
  process.once('exit', () => child.kill('SIGTERM')); // after a second Ctrl-C, without `stop`
  const stop = () => stopChild(child);
  try {
    const status = await whenReady(settings, () => child.exitCode === null && child.signalCode === null);
    if (status?.pid !== child.pid)
      throw new Error(`the local cluster did not start on ports ${settings.port} and ${settings.adminPort}:\n${output.trim()}`);
  } catch (error) {
    await stop();
    throw error;
  }
  const control = socketControl(settings);
  return { ...common(settings), description: 'local cluster, started for this test', own: true, local: true, control, stop };
}

async function stopChild(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, 'exit');
  child.kill('SIGTERM');
  await exited;
}

async function whenReady(settings: Settings, alive: () => boolean): Promise<Status | undefined> {
  const deadline = performance.now() + START_TIMEOUT_MS;
  while (alive() && performance.now() < deadline) {
    const status = await readStatus(settings);
    const ready = status?.workers.filter(({ state }) => state === 'ready').length ?? 0;
    if (status?.state === 'ready' && ready > 0 && ready === status.workers.length) return status;
    await sleep(50);
  }
  return undefined;
}

/** A stack of which only the URL is known, unless it is the one on these ports. */
async function remote(settings: Settings, { origin, hostname }: URL): Promise<Stack> {
  const here = hostname === '127.0.0.1' || hostname === 'localhost';
  const known = here ? await findRunning(settings) : undefined;
  const nothing = {
    status: async () => undefined,
    throttledSeconds: async () => null,
    streamEvents: async () => undefined,
    control: undefined,
  };
  if (known !== undefined && new URL(origin).port === String(settings.port)) return { ...known, origin };
  return { origin, description: origin, own: false, local: false, ...nothing, stop: async () => undefined };
}

/** The stack that answers on these ports. */
async function findRunning(settings: Settings): Promise<Stack | undefined> {
  const status = await readStatus(settings);
  if (status === undefined) return undefined;
  const local = await isLocal(settings, status.pid);
  const compose = !local && (await isCompose(settings));
  const control = local ? socketControl(settings) : compose ? composeControl() : undefined;
  const kind = local ? 'local cluster' : compose ? 'compose stack' : 'stack without a control socket in reach';
  return {
    ...common(settings),
    description: `${kind} that was running`,
    own: false,
    local,
    control,
    stop: async () => undefined,
  };
}

const common = (settings: Settings): Pick<Stack, 'origin' | 'status' | 'throttledSeconds' | 'streamEvents'> => ({
  origin: `http://127.0.0.1:${settings.port}`,
  status: () => readStatus(settings),
  throttledSeconds: () => readThrottled(settings),
  streamEvents: (...args) => streamEvents(settings, ...args),
});

const adminUrl = ({ adminPort }: Settings, path: string) => `http://127.0.0.1:${adminPort}${path}`;
const authorization = ({ adminToken }: Settings) => (adminToken === undefined ? {} : { Authorization: `Bearer ${adminToken}` });

function getAdmin(settings: Settings, path: string): ReturnType<typeof get> {
  return get(adminUrl(settings, path), false, authorization(settings));
}

async function readStatus(settings: Settings): Promise<Status | undefined> {
  const answer = await getAdmin(settings, '/status').catch(() => undefined);
  if (answer?.status === 401)
    throw new ConfigError(['ADMIN_TOKEN must be that of the running stack, whose admin port answered 401']);
  if (answer?.status !== 200) return undefined;
  try {
    const parsed = JSON.parse(answer.body) as Partial<Status>;
    return Array.isArray(parsed.workers) && typeof parsed.pid === 'number' ? (parsed as Status) : undefined;
  } catch {
    return undefined; // another server
  }
}

async function readThrottled(settings: Settings): Promise<number | null> {
  try {
    const { body } = await getAdmin(settings, '/metrics');
    const value = /^bosun_cpu_throttled_seconds_total (\S+)$/m.exec(body)?.[1];
    return value === undefined ? null : Number(value);
  } catch {
    return null; // exited; the failures show it
  }
}

async function streamEvents(settings: Settings, ...[signal, onEvent]: Parameters<Stack['streamEvents']>): Promise<void> {
  try {
    const { body } = await fetch(adminUrl(settings, '/events'), { headers: authorization(settings), signal });
    let name = '';
    for await (const line of createInterface({ input: Readable.fromWeb(body ?? new ReadableStream()) })) {
      if (line.startsWith('event: ')) name = line.slice('event: '.length);
      else if (line === '') name = '';
      else if (name === 'lifecycle') onEvent(JSON.parse(line.slice('data: '.length)) as StreamedEvents['lifecycle']);
    }
  } catch {
    // aborted, or the stack has exited: the report has no further marks
  }
}

async function isLocal(settings: Settings, pid: number): Promise<boolean> {
  try {
    return (await call(controlSocketOf(settings, settings.port), 'status')).pid === pid;
  } catch {
    return false; // in a container, or another user's
  }
}

function socketControl(settings: Settings): Control {
  const socket = controlSocketOf(settings, settings.port);
  return {
    restart: async () => void (await call(socket, 'restart')),
    kill: async pid => void process.kill(pid, 'SIGKILL'),
  };
}

/** Why docker compose cannot be used here; undefined if it can. */
async function composeMissing(): Promise<string | undefined> {
  try {
    await run('docker', ['compose', 'version'], { timeout: PROBE_TIMEOUT_MS });
    await run('docker', ['info', '--format', '{{.ServerVersion}}'], { timeout: PROBE_TIMEOUT_MS });
    return undefined;
  } catch (error) {
    return `docker compose does not work here: ${lastLine((error as Error).message)}`;
  }
}

async function isCompose({ port }: Settings): Promise<boolean> {
  try {
    const { stdout } = await run('docker', ['compose', 'port', 'app', '3000'], { cwd: ROOT, timeout: PROBE_TIMEOUT_MS });
    return stdout.trim().endsWith(`:${port}`);
  } catch {
    return false; // no Docker, or not from this folder
  }
}

async function startCompose(settings: Settings, environment: Environment, log: (line: string) => void): Promise<Stack> {
  log('starting the compose stack (the first time, its image is built)');
  const env = { ...environment, PORT: String(settings.port), ADMIN_PORT: String(settings.adminPort) };
  const stop = async () => {
    await run('docker', ['compose', 'down'], { cwd: ROOT, env, timeout: COMMAND_TIMEOUT_MS });
  };
  try {
    await run('docker', ['compose', 'up', '--build', '--wait'], { cwd: ROOT, env, timeout: COMPOSE_TIMEOUT_MS });
  } catch (error) {
    await stop();
    throw error;
  }
  const control = composeControl();
  return { ...common(settings), description: 'compose stack, started for this test', own: true, local: false, control, stop };
}

function composeControl(): Control {
  const inside = async (...command: string[]) => {
    await run('docker', ['compose', 'exec', '-T', 'app', ...command], { cwd: ROOT, timeout: COMMAND_TIMEOUT_MS });
  };
  return {
    restart: () => inside('bosun', 'restart'),
    kill: pid => inside('node', '-e', `process.kill(${pid}, 'SIGKILL')`),
  };
}

function lastLine(text: string): string {
  return text.trim().split('\n').at(-1) ?? '';
}
