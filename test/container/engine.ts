/**
 * The Docker engine as the container tests use it: whether there is one, the image of this tree, and an end for everything that a test
 * has started.
 */
import { execFile, execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { after } from 'node:test';
import { promisify } from 'node:util';
import { type ContainerRuntimeClient, getContainerRuntimeClient, Network, type StartedNetwork } from 'testcontainers';
import { ROOT } from '../process/kit.ts';

const LOOK_TIMEOUT_MS = 10_000;
/** A first build downloads the packages. */
const TEST_TIMEOUT_MS = 300_000;

/** Why no container test can run here; undefined where an engine answers. */
const absent = lookForEngine();

/** The options of every container test: skipped, with the reason, where there is no engine; with REQUIRE_DOCKER=1 it runs, and fails. */
export const withEngine = { skip: process.env.REQUIRE_DOCKER !== '1' && (absent ?? false), timeout: TEST_TIMEOUT_MS };

function lookForEngine(): string | undefined {
  try {
    execFileSync('docker', ['version', '--format', '{{.Server.Version}}'], { timeout: LOOK_TIMEOUT_MS, stdio: 'pipe' });
    return undefined;
  } catch (error) {
    const { stderr, message } = error as Error & { stderr?: Buffer };
    return `no Docker engine answers: ${stderr?.toString().trim() || message}`;
  }
}

export async function engine(): Promise<ContainerRuntimeClient> {
  if (absent !== undefined) throw new Error(absent);
  return getContainerRuntimeClient();
}

/** Runs the docker command in the root of this tree; what it prints. */
export async function docker(args: string[], env: Record<string, string> = {}): Promise<string> {
  if (absent !== undefined) throw new Error(absent);
  const { stdout } = await promisify(execFile)('docker', args, {
    cwd: ROOT,
    env: { ...process.env, DOCKER_BUILDKIT: '1', ...env },
  });
  return stdout.trim();
}

let built: Promise<string> | undefined;

/**
 * The id of the image of this tree. Each test file makes the engine build it: 0.3 s where its cache has everything, and of two builds
 * at the same time one waits for the other's layers. Tests go by the id; the tag only keeps the image from being pruned.
 */
export async function imageId(): Promise<string> {
  built ??= docker(['build', '--quiet', '-f', 'docker/Dockerfile', '-t', 'koa-bosun:test', '.']);
  return built;
}

/** A name that no other run has. */
export const uniqueName = () => `bosun-test-${randomBytes(6).toString('hex')}`;

/**
 * Docker's options that publish ports on 127.0.0.1, each of the container on one of this machine, 0 being a free one. Never on every
 * address: the engine counts the free ports of 0.0.0.0 and those of 127.0.0.1 apart, offers one twice, and gives up after ten such.
 */
export const loopbackBindings = (ports: readonly { container: number; host: number }[]) =>
  Object.fromEntries(ports.map(({ container, host }) => [`${container}/tcp`, [{ HostIp: '127.0.0.1', HostPort: String(host) }]]));

const opened: (() => Promise<unknown>)[] = [];

/** Calls `close` when the running test ends, however it ends. Last come, first served: a network goes after its containers. */
export function atEnd(close: () => Promise<unknown>): void {
  if (opened.length === 0) after(closeAll);
  opened.push(close);
}

async function closeAll(): Promise<void> {
  const failures: unknown[] = [];
  for (let close = opened.pop(); close !== undefined; close = opened.pop()) await close().catch(error => failures.push(error));
  if (failures.length > 0) throw new AggregateError(failures, `not removed: ${failures.join('; ')}`);
}

/** By its name and before it starts: one whose start fails half-way goes too. */
export function removeContainerAtEnd(name: string): void {
  atEnd(async () => {
    const { container } = await engine();
    const remove = container.getById(name).remove({ force: true, v: true });
    await remove.catch((error: { statusCode?: number }) => {
      if (error.statusCode !== 404) throw error;
    });
  });
}

export async function startNetwork(): Promise<StartedNetwork> {
  await engine();
  const network = await new Network().start();
  atEnd(() => network.stop());
  return network;
}
