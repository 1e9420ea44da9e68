/**
 * The load of a benchmark: wrk where it is installed (it leaves most of the machine to the server), else autocannon.
 */
import { execFile, execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { exact, fullSpeed } from '../../src/loadtest/generator.ts';
import { failuresOf, Recorder } from '../../src/loadtest/result.ts';
import { PEERS } from './servers.ts';

const run = promisify(execFile);

export const MIXES = {
  'keep-alive': { connections: 64, fresh: false, mixed: false },
  'new connection per request': { connections: 64, fresh: true, mixed: false },
  'new connections, 5 % heavy': { connections: 16, fresh: true, mixed: true },
} as const;
export type MixName = keyof typeof MIXES;

export interface Generated {
  requests: number;
  rate: number;
  p99Ms: number;
  errors: number;
}

/** Undefined where there is none. */
export const wrkVersion = versionOf('wrk', '-v');

export function versionOf(command: string, option: string): string | undefined {
  try {
    return execFileSync('/bin/sh', ['-c', `${command} ${option} 2>&1 || true`], { encoding: 'utf8' }).match(/[\d.]+\.\d+/)?.[0];
  } catch {
    return undefined; // no shell, no wrk
  }
}

export function generate(port: number, mix: MixName, seconds: number): Promise<Generated> {
  return wrkVersion === undefined ? byClients(port, mix, seconds) : byWrk(port, mix, seconds);
}

async function byWrk(port: number, mix: MixName, seconds: number): Promise<Generated> {
  const { connections, fresh, mixed } = MIXES[mix];
  const { stdout } = await run('wrk', [
    ...['-t1', `-c${connections}`, `-d${seconds}s`, '--latency'],
    ...(fresh ? ['-H', 'Connection: close'] : []),
    ...(mixed ? ['-s', join(PEERS, 'mix.lua')] : []),
    `http://127.0.0.1:${port}/`,
  ]);
  const number = (pattern: RegExp) => Number(pattern.exec(stdout)?.[1] ?? 0);
  const [, p99 = '0', unit = 'ms'] = /99%\s+([\d.]+)(us|ms|s)/.exec(stdout) ?? [];
  const socketErrors = /Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)/.exec(stdout)?.slice(1) ?? [];
  return {
    requests: number(/(\d+) requests in/),
    rate: number(/Requests\/sec:\s+([\d.]+)/),
    p99Ms: Number(p99) * { us: 0.001, ms: 1, s: 1000 }[unit as 'us' | 'ms' | 's'],
    errors: number(/Non-2xx or 3xx responses: (\d+)/) + socketErrors.reduce((sum, count) => sum + Number(count), 0),
  };
}

async function byClients(port: number, mix: MixName, seconds: number): Promise<Generated> {
  const { connections, fresh, mixed } = MIXES[mix];
  const origin = `http://127.0.0.1:${port}`;
  let count = 0;
  const next = () => (mixed ? `${origin}/cpu?ms=${++count % 20 === 0 ? 30 : 1}` : `${origin}/`);
  const recorder = new Recorder();
  const load = fresh ? exact({ next, connections, rate: 0, fresh }, recorder) : fullSpeed(next(), connections, recorder);
  await sleep(seconds * 1000);
  await load.stop();
  recorder.pause();
  const measured = recorder.measured();
  const { requests, rate, latencyMs } = measured;
  return { requests, rate, p99Ms: latencyMs.p99, errors: failuresOf(measured) };
}
