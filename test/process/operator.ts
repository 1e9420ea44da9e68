/**
 * The operator of a kit: runs `bosun` as a process of its own, and collects its output and exit code.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { type IncomingMessage, request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after } from 'node:test';
import { until } from '../until.ts';
import { type Kit, type KitOptions, ROOT, startKit } from './kit.ts';

const CLI = join(ROOT, 'src', 'cli', 'bosun.ts');
/** No command here takes longer, even on a slow machine. */
const TIMEOUT_MS = 60_000;

export interface Ran {
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

export interface RunOptions {
  env?: Record<string, string>;
  cwd?: string;
  /** Another user's; only root may. */
  uid?: number;
}

/** A running command. */
export class Running {
  readonly process: ChildProcess;
  readonly ended: Promise<Ran>;
  #stdout: Buffer[] = [];
  #stderr = '';

  constructor(args: readonly string[], { env = {}, cwd = ROOT, uid }: RunOptions = {}) {
    this.process = spawn(process.execPath, [CLI, ...args], {
      cwd,
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: TIMEOUT_MS,
      ...(uid !== undefined && { uid, gid: uid }),
      env: {
        PATH: process.env.PATH,
        ...(uid === undefined && { NODE_COMPILE_CACHE: join(ROOT, 'node_modules', '.cache', 'koa-bosun') }),
        ...env,
      },
    });
    this.process.stdout?.on('data', (chunk: Buffer) => this.#stdout.push(chunk));
    this.process.stderr?.on('data', chunk => {
      this.#stderr += chunk;
    });
    this.ended = once(this.process, 'close').then(([code, signal]) => ({
      code,
      signal,
      stdout: this.stdout,
      stderr: this.#stderr,
    }));
    after(() => this.process.kill('SIGKILL'));
  }

  get stdout(): string {
    return Buffer.concat(this.#stdout).toString();
  }

  get stderr(): string {
    return this.#stderr;
  }

  /** Resolves when `pattern` has been printed. */
  async printed(pattern: RegExp): Promise<void> {
    await until(
      () => pattern.test(this.stdout) || undefined,
      () => `${pattern} expected; stdout: ${this.stdout}; stderr: ${this.#stderr}`,
    );
  }
}

/** Runs a command to its end. */
export async function bosun(socket: string, args: readonly string[], options?: RunOptions): Promise<Ran> {
  return new Running([...args, '--socket', socket], options).ended;
}

/** Sends a request to the control socket without `bosun`. */
export async function postControl(
  socket: string,
  path: string,
  body: string,
  method = 'POST',
): Promise<{ status: number; body: string }> {
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  request({ socketPath: socket, path, method, agent: false, timeout: TIMEOUT_MS }, resolve).once('error', reject).end(body);
  const response = await promise;
  let text = '';
  for await (const chunk of response) text += chunk;
  return { status: response.statusCode ?? 0, body: text };
}

/** A serving kit, with its control socket in a temporary folder. */
export interface Operated {
  kit: Kit;
  port: number;
  socket: string;
  bosun: (...args: string[]) => Promise<Ran>;
  start: (...args: string[]) => Running;
}

export async function startOperated({ env = {}, ...options }: KitOptions = {}): Promise<Operated> {
  const socket = join(temporaryFolder(), 'control.sock');
  const kit = await startKit({ ...options, env: { CONTROL_SOCKET: socket, ...env } });
  const { port } = await kit.ready();
  await kit.event('control.listening');
  return {
    kit,
    port,
    socket,
    bosun: (...args) => bosun(socket, args),
    start: (...args) => new Running([...args, '--socket', socket]),
  };
}

/** A folder that is removed after the test. */
export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'bosun-test-'));
  after(() => rmSync(folder, { recursive: true, force: true, maxRetries: 3 }));
  return folder;
}
